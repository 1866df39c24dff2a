"""One action at a time from a policy that decides several at once: open loop within a chunk.

A rollout in imagination, a callback station and a gateway all need the same rule, and this is its only home
on the robot side: ask for a chunk of L actions at step 0, L, 2L, …, and execute what was decided without
looking in between. How the policy is reached is not here (see `callback.PolicyLink`).
"""

from __future__ import annotations

import base64
import math
from collections import deque
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_bridge.callback import PolicyActAnswer, PolicyActRequest, PolicyLink, PolicyResetRequest
from robot_bridge.conventions import ACTION_DIMS, F32
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import BadObservation, PolicyFailed
from robot_bridge.frames import encode_jpeg
from robot_bridge.protocol import ObservationAnswer

F32_MAX: Final = float(np.finfo(np.float32).max)


class ChunkDispenser:
    """The actions of one session, in order. Use it from one thread at a time.

    Making one begins the session, which may raise what `PolicyLink.reset` raises.

    Attributes:
        session: its id.
        policy: which policy decides in this session, to its end.
        chunk: L, how many actions it decides at once.
        steps: how many actions were given out; the next one is for this step.
    """

    def __init__(self, link: PolicyLink, request: PolicyResetRequest) -> None:
        ready = link.reset(request)
        if ready.session != request.session:
            reason = f"session {request.session} was asked for, {ready.session} was begun"
            raise PolicyFailed(url=ready.policy.name, reason=reason)
        self.policy: PolicyRef = ready.policy
        self.chunk: int = ready.chunk
        self.steps = 0
        self._link = link
        self.session = request.session
        self._waiting: deque[F32] = deque()

    @property
    def decides(self) -> bool:
        """Whether the next action will be asked of the policy, rather than taken from a decided chunk."""
        return not self._waiting

    def action(
        self, image: NDArray[np.uint8], proprio: ArrayLike, *, jpeg: bytes | None = None
    ) -> tuple[F32, float]:
        """The action [7] for step `steps`, and the milliseconds the policy took to decide (0 within a chunk).

        Args:
            image: observation `steps`, uint8 [H, W, 3] RGB; looked at only when a chunk begins.
            proprio: bridge_v2 state [7] of that observation.
            jpeg: the picture as it is being recorded, when it is encoded already; sent instead of `image`.

        Raises:
            PolicyError: nothing was decided; the next call asks for the same step again.
            BadArray: `image` is no picture.
        """
        infer_ms = 0.0
        if not self._waiting:
            try:
                answer = self.ask(image, proprio, jpeg=jpeg)
            except BadObservation as error:
                raise self._failed(str(error)) from error
            self._waiting.extend(self._checked(answer))
            infer_ms = answer.infer_ms
        self.steps += 1
        return self._waiting.popleft(), infer_ms

    def ask(self, image: NDArray[np.uint8], proprio: ArrayLike, *, jpeg: bytes | None) -> PolicyActAnswer:
        """Have the chunk from step `steps` on decided: over the wire's own words, unless a subclass, whose
        policy is in the same process, can show the picture itself.
        """
        picture = encode_jpeg(image) if jpeg is None else jpeg
        observation = ObservationAnswer(
            t=self.steps,
            jpeg=base64.b64encode(picture).decode(),
            proprio=[float(number) for number in np.asarray(proprio).ravel()],
            qpos=[],
            captured_at=0.0,
        )
        return self._link.act(PolicyActRequest(session=self.session, t=self.steps, observation=observation))

    def _checked(self, answer: PolicyActAnswer) -> list[F32]:
        if (answer.session, answer.t) != (self.session, self.steps):
            raise self._failed(f"step {self.steps} was asked for, step {answer.t} was answered")
        if len(answer.actions) != self.chunk:
            raise self._failed(f"{len(answer.actions)} actions were answered, a chunk has {self.chunk}")
        for index, row in enumerate(answer.actions):
            if len(row) != ACTION_DIMS or not all(_is_float32(number) for number in row):
                expected = f"{ACTION_DIMS} finite numbers"
                raise self._failed(f"action {self.steps + index} was answered, and is not {expected}")
        return list(np.array(answer.actions, dtype=np.float32))

    def _failed(self, reason: str) -> PolicyFailed:
        return PolicyFailed(url=self.policy.name, reason=reason)


def _is_float32(number: float) -> bool:
    return math.isfinite(number) and abs(number) <= F32_MAX
