"""The ego's front camera on the embedded world, by Panda3D's software renderer."""

from takevla.world.camera.camera import Camera
from takevla.world.camera.rig import Rig

__all__ = ["Camera", "Rig"]
