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
    """The static geometry of one town: a node per chunk, so that chunks out of view are culled."""

    def __init__(self, chunks: Sequence[NDArray[np.float32]]) -> None:
        """`chunks` are vertex arrays (4 * quads, 4) as `instances.emit` writes them."""
        self.root = core.NodePath("town")
        self.root.setTwoSided(True)
        for vertices in chunks:
            geom = _geom(core.Geom.UHStatic)
            _fill(geom, np.ascontiguousarray(vertices), _index_bytes(len(vertices) // 4))
            node = core.GeomNode("chunk")
            node.addGeom(geom)
            self.root.attachNewNode(node)


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
        self._batch = _geom(core.Geom.UHDynamic)
        node = core.GeomNode("batch")
        node.addGeom(self._batch)
        node.setBounds(core.OmniBoundingVolume())
        node.setFinal(True)
        self._batch_path = core.NodePath(node)
        self._stage: Stage | None = None

    def draw(
        self, stage: Stage, vertices: NDArray[np.float32], eye: NDArray[np.float64], yaw_rad: float
    ) -> NDArray[np.uint8]:
        """The picture (H, W, 4) BGRA, lowest row first: a view that the next call overwrites."""
        if stage is not self._stage:
            self._camera.reparentTo(stage.root)
            self._batch_path.reparentTo(stage.root)
            self._stage = stage
        node = self._batch_path.node()
        node.removeAllGeoms()
        if len(vertices):
            _fill(self._batch, vertices, self._indices[: len(vertices) // 4 * 6])
            node.addGeom(self._batch)
        # Panda3D looks along +y where we look along +x.
        self._camera.setPosHpr(*(float(value) for value in eye), float(np.degrees(yaw_rad)) - 90.0, 0.0, 0.0)
        self._batch_path.show()
        self._buffer.setActive(True)
        self._engine.renderFrame()
        self._buffer.setActive(False)
        self._batch_path.hide()
        data = np.frombuffer(self._texture.getRamImage(), np.uint8)
        return data.reshape(*self._size, 4)
