"""AutoEval's and OpenVLA's way of asking: one action for one picture, episodes told apart by `/reset` alone.

Chunks are given out by the same `ChunkDispenser` that a callback station uses, over a session of its own. The
wire is `robot_bridge.autoeval.wire`, HTTP is in `app`.
"""

from __future__ import annotations

import logging
import threading
import uuid
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from daemon.learning.shrinking import U8
from daemon.policy_server.problems import InstructionChanged
from daemon.policy_server.sessions import PolicySessions
from robot_bridge.autoeval.wire import ActRequest, is_test_call
from robot_bridge.callback import PolicyActAnswer, PolicyResetRequest
from robot_bridge.conventions import ACTION_DIMS, CONTROL_HZ, F32, PROPRIO_DIMS
from robot_bridge.dispenser import ChunkDispenser

log = logging.getLogger(__name__)

TASK_ID: Final = "act"  # these clients name no task
OPEN_GRIPPER: Final = 1.0  # as an arm stands after a reset
NO_PROPRIO: Final[F32] = np.zeros(PROPRIO_DIMS, dtype=np.float32)


class PixelDispenser(ChunkDispenser):
    """Shows the policy the pixels that came over the wire: they have been a JPEG once, and need not again."""

    def __init__(self, sessions: PolicySessions, request: PolicyResetRequest) -> None:
        super().__init__(sessions, request)
        self._sessions = sessions

    def ask(self, image: U8, proprio: ArrayLike, *, jpeg: bytes | None) -> PolicyActAnswer:
        return self._sessions.decide(self.session, self.steps, lambda: image).answer


class Acting:
    """The one episode that runs for clients of `/act`. Safe to call from any thread; one call at a time.

    Episode n of this server draws with seed `seed` + n. A policy that was swapped in acts from the first
    `/act` after a `/reset` on.
    """

    def __init__(self, sessions: PolicySessions, *, seed: int = 0) -> None:
        self._sessions = sessions
        self._seed = seed
        self._episodes = 0
        self._instruction = ""
        self._chunks: ChunkDispenser | None = None
        self._gripper = OPEN_GRIPPER
        self._one_at_a_time = threading.Lock()

    def act(self, request: ActRequest) -> tuple[F32, float]:
        """The action [7], and the milliseconds the policy took for it; the first `/act` begins an episode.

        AutoEval's connection test is answered with the hold action, and begins nothing.

        Raises:
            InstructionChanged: not the sentence that this episode was begun with.
            PolicyError: nothing was decided; the next call asks for the same step. Hold meanwhile.
        """
        if is_test_call(request):
            return self.hold(), 0.0
        with self._one_at_a_time:
            if self._chunks is None:
                self._chunks = self._begin(request.instruction)
            elif request.instruction != self._instruction:
                raise InstructionChanged(expected=repr(self._instruction), found=repr(request.instruction))
            action, infer_ms = self._chunks.action(request.image, NO_PROPRIO)
            self._gripper = float(action[-1])
            return action, infer_ms

    def reset(self) -> None:
        """End the episode that runs; the next `/act` begins one."""
        with self._one_at_a_time:
            self._chunks, self._gripper = None, OPEN_GRIPPER

    def hold(self) -> F32:
        """The action [7] that moves nothing: no motion, the gripper as it was told last."""
        return np.array([0.0] * (ACTION_DIMS - 1) + [self._gripper], dtype=np.float32)

    def _begin(self, instruction: str) -> ChunkDispenser:
        request = PolicyResetRequest(
            session=f"act-{uuid.uuid4()}",
            task_id=TASK_ID,
            instruction=instruction,
            control_hz=CONTROL_HZ,
            seed=self._seed + self._episodes,
        )
        begun = PixelDispenser(self._sessions, request)
        self._instruction = instruction
        self._episodes += 1
        log.info(
            "acting begun session=%s policy=%s:%s", begun.session, begun.policy.name, begun.policy.version
        )
        return begun
