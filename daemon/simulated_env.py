"""Simulated cells behind the contract of `learning.rollout.Env`: what imagination is measured against.

The same rollout loop that imagines also acts here, with the cell's own physics and its own verdict: a policy
that is updated in it shows what perfect imagination would teach. No iteration uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from daemon.learning.batch import ACTION_DIM, IMAGE_SIZE, resize_frames
from daemon.learning.confines import Confines, together
from daemon.learning.errors import BadTensor
from daemon.learning.reward.judge import Verdicts
from daemon.learning.rollout import Starts
from robot_bridge.drivers.cell import cell_variant
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.drivers.tasks import task_of
from robot_bridge.safety import SafetyPipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where an episode begins: a task, and the seed of its placement."""

    task_id: str
    seed: int


class SimulatedEnv:
    """A batch of copies of one cell; also the judge of what happens in them (`Env` and `Judge`).

    Args:
        scenes: what `starts` offers; a batch may hold each of them several times.
        size: pixels on a side of pictures.
    """

    frames = 1  # that a judge is shown; this one looks at the physics instead

    def __init__(self, cell_seed: int, scenes: Sequence[Scene], *, size: int = IMAGE_SIZE) -> None:
        self._cell, self._size = cell_variant(cell_seed), size
        self._scenes = tuple(scenes)
        self._copies: list[MujocoWidowX] = []
        self._limits: list[SafetyPipeline] = []
        self._frames: list[Tensor] = []  # frame 0, 1, … each [B, 3, H, W]
        begun = [(self._picture(self._begun(scene)), self._confines(scene)) for scene in scenes]
        self.starts = Starts(
            images=torch.cat([image for image, _ in begun]),
            instructions=tuple(task_of(scene.task_id).instruction for scene in scenes),
            confines=together([confines for _, confines in begun]),
        )

    def reset(self, images: Tensor, seeds: Sequence[int] | None = None) -> None:
        """Put every copy into the scene that its image shows; `seeds` change nothing, physics has no noise.

        Raises:
            BadTensor: an image is of none of the scenes.
        """
        shown = [
            (self.starts.images == image.cpu()).flatten(1).all(1).nonzero().flatten() for image in images
        ]
        unknown = [row for row, found in enumerate(shown) if not len(found)]
        if unknown:
            raise BadTensor(
                name="images", expected="first pictures of its scenes", found=f"others at {unknown}"
            )
        self._limits = []
        for row, found in enumerate(shown):
            scene = self._scenes[int(found[0])]
            copy = self._copy(row)
            limits = SafetyPipeline.of_station(copy, scene.task_id)
            limits.begin(copy.reset(scene.task_id, seed=scene.seed))
            self._limits.append(limits)
        self._frames = [images.cpu()]

    def step(self, actions: Tensor) -> Tensor:
        """Execute a chunk float32 [B, L, 7]; the observation after it, uint8 [B, 3, H, W].

        Raises:
            BadTensor: not one finite chunk for each copy; nothing moved.
        """
        fits = actions.ndim == 3 and actions.shape[0] == len(self._limits) and actions.shape[1] >= 1
        if not fits or actions.shape[2] != ACTION_DIM or not bool(actions.isfinite().all()):
            found = f"{list(actions.shape)}, finite: {bool(actions.isfinite().all())}"
            expected = f"finite [{len(self._limits)}, L >= 1, {ACTION_DIM}]"
            raise BadTensor(name="actions", expected=expected, found=found)
        for at in range(actions.shape[1]):
            asked = actions[:, at].cpu().numpy().astype(np.float32)
            self._frames.append(torch.cat([self._moved(row, action) for row, action in enumerate(asked)]))
        return self._frames[-1]

    def recent_frames(self, count: int) -> Tensor:
        """The last `count` observations, oldest first, uint8 [B, count, 3, H, W]; the first may repeat."""
        padded = [self._frames[0]] * (count - len(self._frames)) + self._frames[-count:]
        return torch.stack(padded, dim=1)

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        """How things stand in every copy now, whatever the frames show.

        Raises:
            BadTensor: not one film of each copy, as where some rollouts are over: it cannot tell which.
        """
        if len(frames) != len(self._limits):
            raise BadTensor(name="frames", expected=f"{len(self._limits)} films", found=str(len(frames)))
        success = torch.tensor([self._copies[row].success() for row in range(len(self._limits))])
        return Verdicts(success=success, known=torch.ones_like(success), probability=success.float())

    def close(self) -> None:
        """Let the renderers go."""
        for copy in self._copies:
            copy.close()

    def _begun(self, scene: Scene) -> np.ndarray:
        """The first picture of a scene; the first copy stands there."""
        return self._copy(0).reset(scene.task_id, seed=scene.seed).image

    def _confines(self, scene: Scene) -> Confines:
        """Of the scene that the first copy stands in."""
        copy = self._copy(0)
        limits, place = copy.description.limits(scene.task_id), copy.target.position
        return Confines.around(place, low=limits.box_low, high=limits.box_high, step=limits.step_xyz_max)

    def _moved(self, row: int, action: np.ndarray) -> Tensor:
        _, outcome = self._limits[row].drive(self._copies[row], action)
        return self._picture(outcome.sample.image)

    def _picture(self, image: np.ndarray) -> Tensor:
        return resize_frames(image[None], self._size)

    def _copy(self, row: int) -> MujocoWidowX:
        while len(self._copies) <= row:
            self._copies.append(MujocoWidowX(cell=self._cell))
        return self._copies[row]
