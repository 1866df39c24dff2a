"""Pictures without any graphics library: one ray per pixel, flat colours, Lambert shading.

It draws what OpenGL draws of the same model (see `rendering`), with numpy and MuJoCo's ray test only.
"""

from __future__ import annotations

from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_bridge.drivers.scene import CAMERA, CAMERA_FOCAL, CAMERA_PIXELS

TRACED: Final = 128  # rays per side at most; larger pictures repeat pixels


class RayCaster:
    """Casts rays from the model's camera."""

    name = "raycast"

    def __init__(self, model: mujoco.MjModel, *, size: int) -> None:
        self._model = model
        self._repeat = max(1, -(-size // TRACED))
        self._size = size
        side = -(-size // self._repeat)
        self._rays = _pixel_rays(side)  # [side*side, 3] in the camera's axes
        self._camera = model.camera(CAMERA).id
        self._colours = model.geom_rgba[:, :3].astype(np.float64)
        self._ambient = float(model.vis.headlight.ambient[0])
        self._diffuse = float(model.light_diffuse[0, 0])

    def render(self, state: mujoco.MjData) -> NDArray[np.uint8]:
        side = int(np.sqrt(len(self._rays)))
        axes = state.cam_xmat[self._camera].reshape(3, 3)
        rays = self._rays @ axes.T
        hit = np.empty(len(rays), dtype=np.int32)
        distance = np.empty(len(rays))
        normal = np.empty((len(rays), 3))
        mujoco.mj_multiRay(
            self._model,
            state,
            state.cam_xpos[self._camera],
            rays.ravel(),
            None,
            True,
            -1,
            hit,
            distance,
            normal.ravel(),
            len(rays),
            mujoco.mjMAXVAL,
        )
        light = -state.light_xdir[0] / np.linalg.norm(state.light_xdir[0])
        shade = self._ambient + self._diffuse * np.clip(normal @ light, 0.0, None)
        colour = np.where(hit[:, None] >= 0, self._colours[hit] * shade[:, None], 0.0)
        picture = (np.clip(colour, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8).reshape(side, side, 3)
        large = picture.repeat(self._repeat, 0).repeat(self._repeat, 1)
        return np.ascontiguousarray(large[: self._size, : self._size])

    def close(self) -> None:
        """Nothing is held."""


def _pixel_rays(side: int) -> NDArray[np.float64]:
    """Unit rays [side*side, 3] through the pixel centres of a squashed 640x480 picture, first row on top."""
    width, height = CAMERA_PIXELS
    steps = (np.arange(side) + 0.5) / side * 2.0 - 1.0  # -1 .. 1
    right, down = np.meshgrid(steps * width / 2 / CAMERA_FOCAL, steps * height / 2 / CAMERA_FOCAL)
    rays = np.stack([right, -down, -np.ones_like(right)], axis=-1).reshape(-1, 3)
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))
