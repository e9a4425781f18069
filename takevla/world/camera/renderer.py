"""Panda3D's software renderer: static chunks of ground and one batch of quads, drawn into memory.

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
SHADOW_ORDER = 100  # over every layer of the ground
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


def _geom(usage: int) -> Any:
    data = core.GeomVertexData("quads", core.GeomVertexFormat.getV3c4(), usage)
    triangles = core.GeomTriangles(usage)
    triangles.setIndexType(core.Geom.NTUint32)
    geom = core.Geom(data)
    geom.addPrimitive(triangles)
    return geom


def _fill(geom: Any, vertices: NDArray[np.float32], indices: NDArray[np.uint32]) -> None:
    data = geom.modifyVertexData()
    data.uncleanSetNumRows(len(vertices))
    data.modifyArrayHandle(0).copyDataFrom(vertices)
    geom.modifyPrimitive(0).modifyVertices().modifyHandle().copyDataFrom(indices)


class Stage:
    """The ground of one town: a node per layer and chunk, so that chunks out of view are culled."""

    def __init__(self, layers: Sequence[Sequence[NDArray[np.float32]]]) -> None:
        """`layers`, drawn one over the other, hold vertex arrays (4 * quads, 4) as `emit` writes them."""
        self.root = core.NodePath("town")
        self.root.setTwoSided(True)
        for order, chunks in enumerate(layers):
            path = self.root.attachNewNode("layer")
            _lay_flat(path, order)
            for vertices in chunks:
                geom = _geom(core.Geom.UHStatic)
                _fill(geom, np.ascontiguousarray(vertices), _index_bytes(len(vertices) // 4))
                node = core.GeomNode("chunk")
                node.addGeom(geom)
                path.attachNewNode(node)


def _lay_flat(path: Any, order: int) -> None:
    """Draw before everything that stands, in this order, without regard to depth."""
    path.setBin("background", order)
    path.setDepthTest(False)
    path.setDepthWrite(False)


class _Batch:
    """Quads that change with every picture."""

    def __init__(self) -> None:
        self._geom = _geom(core.Geom.UHDynamic)
        self._node = core.GeomNode("batch")
        self._node.setBounds(core.OmniBoundingVolume())
        self._node.setFinal(True)
        self.path = core.NodePath(self._node)

    def set(self, vertices: NDArray[np.float32], indices: NDArray[np.uint32]) -> None:
        self._node.removeAllGeoms()
        if len(vertices):
            _fill(self._geom, vertices, indices[: len(vertices) // 4 * 6])
            self._node.addGeom(self._geom)


class Renderer:
    """Draws one stage and a batch of quads into memory, for one size and field of view."""

    def __init__(self, width: int, height: int, fov_deg: float, capacity: int) -> None:
        """`capacity` is the greatest number of quads in a batch."""
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
        lens = core.PerspectiveLens()
        lens.setFov(fov_deg)
        lens.setAspectRatio(width / height)
        lens.setNearFar(NEAR_M, FAR_M)
        self._camera = core.NodePath(core.Camera("camera", lens))
        region = self._buffer.makeDisplayRegion()
        region.setCamera(self._camera)
        region.setClearColorActive(True)
        region.setClearColor(core.LColor(0, 0, 0, 0))
        region.setClearDepthActive(True)
        self._solids, self._shadows = _Batch(), _Batch()
        _lay_flat(self._shadows.path, SHADOW_ORDER)
        self._stage: Stage | None = None

    def draw(
        self,
        stage: Stage,
        solids: NDArray[np.float32],
        shadows: NDArray[np.float32],
        eye: NDArray[np.float64],
        yaw_rad: float,
    ) -> NDArray[np.uint8]:
        """The picture (H, W, 4) BGRA, lowest row first: a view that the next call overwrites."""
        batches = (self._solids, self._shadows)
        if stage is not self._stage:
            self._camera.reparentTo(stage.root)
            for batch in batches:
                batch.path.reparentTo(stage.root)
            self._stage = stage
        self._solids.set(solids, self._indices)
        self._shadows.set(shadows, self._indices)
        # Panda3D looks along +y where we look along +x.
        heading = float(np.degrees(yaw_rad)) - 90.0
        self._camera.setPosHpr(float(eye[0]), float(eye[1]), float(eye[2]), heading, 0.0, 0.0)
        for batch in batches:
            batch.path.show()
        self._buffer.setActive(True)
        self._engine.renderFrame()
        self._buffer.setActive(False)
        for batch in batches:  # another camera may draw the same stage
            batch.path.hide()
        data = np.frombuffer(self._texture.getRamImage(), np.uint8)
        return data.reshape(*self._size, 4)
