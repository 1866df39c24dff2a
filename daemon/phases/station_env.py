"""A real robot behind the contract of `learning.rollout.Env`: one episode of a station, chunk by chunk.

The same rollout loop that imagines also acts on the robot. The batch is one: there is one arm.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daemon.learning.batch import ACTION_DIM, IMAGE_SIZE, resize_frames
from daemon.learning.errors import BadTensor
from daemon.learning.rollout import Starts
from robot_bridge.client import StationClient
from robot_bridge.errors import StepStale
from robot_bridge.observation import EpisodeReady, StepResult

COMMAND_TTL_MS = 2000.0  # a chunk that was held up longer on its way is not to move the arm any more
SENDS_MAX = 3


class StationEnv:
    """One prepared episode. `reset` takes the observation that the station gave, and no other.

    Args:
        size: pixels on a side that pictures are shrunk to, the policy's.
        judged_size: the same of `recent_frames`, where a judge sees other sizes; None: as the policy.
    """

    def __init__(
        self,
        client: StationClient,
        ready: EpisodeReady,
        *,
        size: int = IMAGE_SIZE,
        judged_size: int | None = None,
    ) -> None:
        self._client = client
        self._ready = ready
        self._size, self._judged_size = size, judged_size or size
        self._first = resize_frames(ready.observation.image[None], size)  # uint8 [1, 3, H, W]
        self._frames = [resize_frames(ready.observation.image[None], self._judged_size)]  # the same each
        self._seen_at = time.perf_counter()

    @property
    def starts(self) -> Starts:
        """The station's first observation and instruction, as a rollout wants them; M = 1."""
        return Starts(images=self._first, instructions=(self._ready.instruction,))

    @property
    def steps(self) -> int:
        """Actions executed so far."""
        return len(self._frames) - 1

    def reset(self, images: Tensor, seeds: Sequence[int] | None = None) -> None:
        """Begin. The scene was set when the episode was created, so the images must be its own.

        `seeds` change nothing: the world's noise is its own.

        Raises:
            BadTensor: other images, or an episode that has begun.
        """
        if self.steps or not torch.equal(images.cpu(), self._first):
            expected = "the first observation of an episode that has not begun"
            raise BadTensor(name="images", expected=expected, found=f"{self.steps} steps, other pixels")
        self._seen_at = time.perf_counter()

    def step(self, actions: Tensor) -> Tensor:
        """Execute a chunk float32 [1, L, 7] on the robot; the observation after it, uint8 [1, 3, H, W].

        Of a chunk that goes beyond the episode's last step the station gets the part before it, as where the
        station runs the loop itself.

        Raises:
            BadTensor: not such a chunk, or not finite; nothing was sent.
            RobotBridgeError: the station refused, stopped, or cannot be reached.
        """
        fits = actions.ndim == 3 and actions.shape[0] == 1 and actions.shape[1] >= 1
        if not fits or actions.shape[2] != ACTION_DIM or not bool(actions.isfinite().all()):
            found = f"{list(actions.shape)}, finite: {bool(actions.isfinite().all())}"
            raise BadTensor(name="actions", expected=f"finite [1, L >= 1, {ACTION_DIM}]", found=found)
        infer_ms = 1000.0 * (time.perf_counter() - self._seen_at)
        left = self._ready.max_steps - self.steps
        result = self._execute(actions[0, : max(1, left)].cpu().numpy(), infer_ms)
        self._frames += [resize_frames(seen.image[None], self._judged_size) for seen in result.observations]
        self._seen_at = time.perf_counter()
        if self._judged_size == self._size:
            return self._frames[-1]
        return resize_frames(result.last.image[None], self._size)

    def recent_frames(self, count: int) -> Tensor:
        """The last `count` observations, oldest first, uint8 [1, count, 3, H, W]; the first may repeat."""
        padded = [self._frames[0]] * (count - len(self._frames)) + self._frames[-count:]
        return torch.stack(padded, dim=1)

    def _execute(self, actions: NDArray[np.float32], infer_ms: float) -> StepResult:
        """Send a chunk; one that was too late moved nothing, and the arm is where it was: send it again."""
        for _ in range(SENDS_MAX - 1):
            with suppress(StepStale):
                return self._send(actions, infer_ms)
        return self._send(actions, infer_ms)

    def _send(self, actions: NDArray[np.float32], infer_ms: float) -> StepResult:
        return self._client.step(
            self._ready.episode_id, self.steps, actions, infer_ms=infer_ms, ttl_ms=COMMAND_TTL_MS
        )
