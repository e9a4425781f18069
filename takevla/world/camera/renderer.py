"""Panda3D's software renderer: two batches of quads in, one picture in memory out.

No window, no display, no GL: `p3tinydisplay` rasterises on the CPU.  There is one graphics engine
per process, shared by all cameras; each size of picture has its own buffer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from panda3d import core

NEAR_M = 0.6
FAR_M = 190.0

core.loadPrcFileData(
    "",
    "load-display p3tinydisplay\nwindow-type offscreen\naudio-library-name null\n"
    "notify-level-display error\nnotify-level-tinydisplay error\n",
)


@cache
def _pipe(pid: int) -> Any:
    """The process's offscreen pipe; `pid` keeps a forked child from using its parent's."""
    del pid
    selection = core.GraphicsPipeSelection.getGlobalPtr()
    pipe = selection.makePipe("TinyOffscreenGraphicsPipe", "p3tinydisplay")
    if pipe is None:
        raise RuntimeError("Panda3D's software renderer did not load: reinstall with `pip install panda3d`")
    return pipe


def _index_bytes(quads: int) -> NDArray[np.uint32]:
    """Two triangles for each quad of four consecutive vertices."""
    corner = np.array([0, 1, 2, 0, 2, 3], np.uint32)
    return (4 * np.arange(quads, dtype=np.uint32)[:, None] + corner).reshape(-1)


class _Batch:
    """Quads that change with every picture."""

    def __init__(self, root: Any) -> None:
        self._format = core.GeomVertexFormat.getV3c4()
        self._node = core.GeomNode("batch")
        self._node.setBounds(core.OmniBoundingVolume())
        self._node.setFinal(True)
        self.path = root.attachNewNode(self._node)

    def set(self, vertices: NDArray[np.float32], indices: NDArray[np.uint32]) -> None:
        """Show these; fresh objects cost less than the copies that Panda3D makes of changed ones."""
        self._node.removeAllGeoms()
        if not len(vertices):
            return
        data = core.GeomVertexData("quads", self._format, core.Geom.UHStream)
        data.uncleanSetNumRows(len(vertices))
        data.modifyArrayHandle(0).copyDataFrom(vertices)
        triangles = core.GeomTriangles(core.Geom.UHStream)
        triangles.setIndexType(core.Geom.NTUint32)
        triangles.modifyVertices().modifyHandle().copyDataFrom(indices[: len(vertices) // 4 * 6])
        geom = core.Geom(data)
        geom.addPrimitive(triangles)
        self._node.addGeom(geom)


class _Lens:
    """One part of the picture: a camera and what it sees."""

    def __init__(self, buffer: Any, share: tuple[float, float], fov_deg: float, aspect: float) -> None:
        root = core.NodePath("view")
        root.setTwoSided(True)
        root.setAttrib(core.ShadeModelAttrib.make(core.ShadeModelAttrib.MFlat))
        lens = core.PerspectiveLens()
        lens.setFov(fov_deg)
        lens.setAspectRatio(aspect)
        lens.setNearFar(NEAR_M, FAR_M)
        self.camera = root.attachNewNode(core.Camera("camera", lens))
        region = buffer.makeDisplayRegion(share[0], share[1], 0.0, 1.0)
        region.setCamera(self.camera)
        region.setClearColorActive(True)
        region.setClearColor(core.LColor(0, 0, 0, 0))
        region.setClearDepthActive(True)
        self.flat, self.solid = _Batch(root), _Batch(root)
        # What lies on the ground is drawn first, in the order given, without regard to depth.
        self.flat.path.setBin("background", 0)
        self.flat.path.setDepthTest(False)
        self.flat.path.setDepthWrite(False)


class Renderer:
    """Draws quads into memory, for one size and a row of lenses of equal width."""

    def __init__(self, width: int, height: int, fovs_deg: Sequence[float], capacity: int) -> None:
        """`fovs_deg` has one angle for each lens, `capacity` is the greatest number of quads in a batch."""
        self._size = (height, width)
        self._indices = _index_bytes(capacity)
        properties = core.FrameBufferProperties()
        properties.setRgbaBits(8, 8, 8, 8)
        properties.setDepthBits(24)
        self._engine = core.GraphicsEngine.getGlobalPtr()
        self._buffer = self._engine.makeOutput(
            _pipe(os.getpid()),
            "camera",
            0,
            properties,
            core.WindowProperties.size(width, height),
            core.GraphicsPipe.BFRefuseWindow,
        )
        if self._buffer is None:
            raise RuntimeError(
                f"Panda3D made no {width}x{height} buffer: reinstall with `pip install panda3d`"
            )
        self._texture = core.Texture()
        self._buffer.addRenderTexture(
            self._texture, core.GraphicsOutput.RTMCopyRam, core.GraphicsOutput.RTPColor
        )
        self._buffer.setActive(False)
        lenses = len(fovs_deg)
        self._lenses = [
            _Lens(self._buffer, (i / lenses, (i + 1) / lenses), fov_deg, width / lenses / height)
            for i, fov_deg in enumerate(fovs_deg)
        ]

    def put(
        self,
        lens: int,
        flat: NDArray[np.float32],
        solid: NDArray[np.float32],
        eye: NDArray[np.float64],
        yaw_rad: float,
    ) -> None:
        """Say what a lens sees, and from where; the arrays are copied.

        `flat` and `solid` hold four vertices a quad: x, y, z and a coded colour (see `instances.py`).
        `flat` is painted in its order; `solid` covers it and hides itself by depth.
        """
        view = self._lenses[lens]
        view.flat.set(flat, self._indices)
        view.solid.set(solid, self._indices)
        # Panda3D looks along +y where we look along +x.
        heading = float(np.degrees(yaw_rad)) - 90.0
        view.camera.setPosHpr(float(eye[0]), float(eye[1]), float(eye[2]), heading, 0.0, 0.0)

    def draw(self) -> NDArray[np.uint8]:
        """The picture (H, W, 4) BGRA, lowest row first: a view that the next call overwrites."""
        self._buffer.setActive(True)
        self._engine.renderFrame()
        self._buffer.setActive(False)
        data = np.frombuffer(self._texture.getRamImage(), np.uint8)
        return data.reshape(*self._size, 4)
