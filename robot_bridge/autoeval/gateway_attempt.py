"""The attempt that runs now: question in, action out, and both on disk before the action leaves.

Where the policy decides nothing in time the arm is told to hold, at most `HOLDS_MAX` times in a row: then the
job must fail loudly. Which attempt runs, and who may ask, is decided in `gateway_session`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from robot_bridge.autoeval.gateway_decisions import PolicyThread, Question
from robot_bridge.autoeval.gateway_job import GatewayJob
from robot_bridge.autoeval.recorder import Recording, Step
from robot_bridge.autoeval.wire import ActRequest, write_action
from robot_bridge.autoeval_mg import bridge_state_of_mg, compensate, pose_of_mg
from robot_bridge.callback import PolicyLink, PolicyResetRequest
from robot_bridge.conventions import ACTION_DIMS, F32
from robot_bridge.dispenser import ChunkDispenser
from robot_bridge.errors import BadArray, PolicyError, PolicyFailed, UnknownSession
from robot_bridge.frames import encode_jpeg

log = logging.getLogger(__name__)

HOLDS_MAX: Final = 5  # hold actions in a row; the next failure is AutoEval's to see
OPEN_GRIPPER: Final = 1.0  # AutoEval opens the gripper before every attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Clocks of a gateway, and its patience: with the policy, with a silent AutoEval, with a slow body."""

    clock: Callable[[], float]
    now: Callable[[], datetime]
    deadline_s: float
    idle_s: float
    body_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """When a request had arrived: monotonic seconds, unix seconds."""

    t: float
    wall: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Decision:
    policy_action: F32
    sent_action: F32
    body: bytes
    infer_ms: float
    fallback: bool = False


class Session:
    """The policy's side of one attempt; it is begun again where the policy has forgotten it."""

    def __init__(self, link: PolicyLink, request: PolicyResetRequest) -> None:
        self._link, self._request = link, request
        self._chunks = ChunkDispenser(link, request)
        self.policy = self._chunks.policy

    def action(self, request: ActRequest, *, proprio: F32, jpeg: bytes) -> tuple[F32, float]:
        """The next action [7] in bridge_v2, and the milliseconds it took to decide.

        Raises:
            PolicyError: nothing was decided.
        """
        try:
            return self._chunks.action(request.image, proprio, jpeg=jpeg)
        except UnknownSession:
            renewed = ChunkDispenser(self._link, self._request)
        if renewed.policy != self.policy:
            reason = f"it restarted as {renewed.policy.name} {renewed.policy.version}"
            raise PolicyFailed(url=self.policy.name, reason=reason)
        self._chunks = renewed
        return renewed.action(request.image, proprio, jpeg=jpeg)


class LiveAttempt:
    """One attempt that is being answered and recorded, by one thread at a time."""

    def __init__(
        self, job: GatewayJob, *, session: Session, thread: PolicyThread, recording: Recording, pace: Pace
    ) -> None:
        self.recording = recording
        self._job = job
        self._session = session
        self._pace = pace
        self._question: Question[tuple[F32, float]] = Question(thread, "an action")
        self._gripper = OPEN_GRIPPER
        self._holds = 0

    def answer(self, request: ActRequest, received: Received) -> bytes:
        """The reply's body; the step is recorded when this returns.

        Raises:
            PolicyError: the policy decided nothing, too often in a row; nothing was recorded.
            RecordingFailed: the disk does not take the step.
        """
        jpeg = encode_jpeg(request.image)
        decision = self._decide(request, jpeg)
        step = Step(
            proprio=request.proprio,
            policy_action=decision.policy_action,
            sent_action=decision.sent_action,
            t_recv=received.t,
            t_sent=self._pace.clock(),
            wall_recv=received.wall,
            infer_ms=decision.infer_ms,
            fallback=decision.fallback,
        )
        self.recording.add(step, jpeg)
        self._gripper = float(decision.sent_action[-1])
        return decision.body

    def _decide(self, request: ActRequest, jpeg: bytes) -> _Decision:
        began = time.monotonic()
        try:
            proprio = bridge_state_of_mg(request.proprio)
            action, infer_ms = self._question.ask(
                lambda: self._session.action(request, proprio=proprio, jpeg=jpeg),
                within_s=self._pace.deadline_s,
            )
            sent = self._in_rotation(action, request.proprio)
            body = write_action(sent, encoded=request.encoded)
        except (PolicyError, BadArray) as error:
            waited_ms = 1000 * (time.monotonic() - began)
            return self._hold(error, waited_ms=waited_ms, encoded=request.encoded)
        self._holds = 0
        return _Decision(policy_action=action, sent_action=sent, body=body, infer_ms=infer_ms)

    def _in_rotation(self, action: F32, proprio: F32) -> F32:
        return action if self._job.rotation == "raw" else compensate(action, pose_of_mg(proprio))

    def _hold(self, error: PolicyError | BadArray, *, waited_ms: float, encoded: bool) -> _Decision:
        self._holds += 1
        header = self.recording.header
        log.warning(
            "policy did not decide job=%s attempt=%d step=%d in_a_row=%d error=%s",
            header.job_id, header.index, self.recording.steps, self._holds, error,
        )  # fmt: skip
        if self._holds > HOLDS_MAX:
            if isinstance(error, PolicyError):
                raise error
            raise PolicyFailed(url=f"of job {header.job_id}", reason=str(error)) from error
        action = np.zeros(ACTION_DIMS, dtype=np.float32)
        action[-1] = self._gripper
        body = write_action(action, encoded=encoded)
        return _Decision(
            policy_action=action, sent_action=action, body=body, infer_ms=waited_ms, fallback=True
        )
