"""Pictures of the cell: through OpenGL where there is any, otherwise by casting rays.

Both renderers show the same camera with the same colours: one directional light and an even one, no shadows,
no highlights, no textures. They differ at edges only. The camera delivers 640x480 squashed to a square, as
the real one does, so its pixels are not square.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from functools import cache
from typing import Any, Final, Literal, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_bridge.drivers.raycast import RayCaster
from robot_bridge.drivers.scene import CAMERA
from robot_bridge.errors import RendererUnavailable

RendererChoice = Literal["auto", "gl", "raycast"]

MAX_SHAPES: Final = 200  # things in one scene; ours have about 40
PROBE_SECONDS: Final = 60.0  # a cold GL start on a busy machine
GL_LIBRARIES: Final = ("egl", "osmesa")
_PROBE: Final = (
    "import sys, mujoco, importlib; importlib.import_module('mujoco.' + sys.argv[1]).GLContext(8, 8)"
)


class Renderer(Protocol):
    """Turns the state of a model into uint8 [size, size, 3], RGB."""

    @property
    def name(self) -> str: ...

    def render(self, state: mujoco.MjData) -> NDArray[np.uint8]: ...

    def close(self) -> None: ...


class GlRenderer:
    """OpenGL off screen. Its context is made current for each picture only, so that any thread may ask."""

    def __init__(self, model: mujoco.MjModel, *, size: int, library: str) -> None:
        self.name = f"gl-{library}"
        self._model, self._size = model, size
        self._context = _context(library, size)
        with self._context.as_current():
            self._scene = mujoco.MjvScene(model, maxgeom=MAX_SHAPES)
            self._drawer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawer)
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera(CAMERA).id
        self._pixels = np.empty((size, size, 3), dtype=np.uint8)

    def render(self, state: mujoco.MjData) -> NDArray[np.uint8]:
        view = mujoco.MjrRect(0, 0, self._size, self._size)
        with self._context.as_current():
            mujoco.mjv_updateScene(
                self._model, state, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
            )
            mujoco.mjr_render(view, self._scene, self._drawer)
            mujoco.mjr_readPixels(self._pixels, None, view, self._drawer)
        return self._pixels[::-1].copy()

    def close(self) -> None:
        if self._context is not None:
            with self._context.as_current():
                self._drawer.free()
            self._context.free()
            self._context = None


def open_renderer(model: mujoco.MjModel, *, choice: RendererChoice, size: int) -> Renderer:
    """A renderer for one model.

    Raises:
        RendererUnavailable: "gl" was asked for and this machine has no working OpenGL.
    """
    library = None if choice == "raycast" else gl_library()
    if library is not None:
        return GlRenderer(model, size=size, library=library)
    if choice == "gl":
        raise RendererUnavailable(renderer="gl", reason=_reason())
    return RayCaster(model, size=size)


def gl_library() -> str | None:
    """The OpenGL library that draws here: the one in MUJOCO_GL, else EGL or OSMesa, if it starts."""
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    candidates = (asked,) if asked else GL_LIBRARIES
    return next((library for library in candidates if library in GL_LIBRARIES and _starts(library)), None)


def _reason() -> str:
    asked = os.environ.get("MUJOCO_GL", "")
    return f"MUJOCO_GL={asked} does not start" if asked else "neither EGL nor OSMesa starts"


@cache
def _starts(library: str) -> bool:
    """Try it in a child: a missing or broken driver can end the whole interpreter."""
    environment = {**os.environ, "MUJOCO_GL": library, "PYOPENGL_PLATFORM": library}
    command = [sys.executable, "-c", _PROBE, library]
    try:
        child = subprocess.run(
            command, env=environment, capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return child.returncode == 0


def _context(library: str, size: int) -> Any:
    """MuJoCo's own off-screen context; its module is known only once the library is."""
    return importlib.import_module(f"mujoco.{library}").GLContext(size, size)
