"""Sessions of one policy: who asked for what, which policy decides there, and every decision exactly once.

A session sees what a rollout of `learning.rollout` over a station sees, and draws what it draws: the picture
that the episode stores, shrunk the same way, one generator seeded at its beginning. So an episode that a
robot runs by itself is the episode that the learner would have run. HTTP is not here.
"""

from __future__ import annotations

import base64
import binascii
import io
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from daemon.learning.batch import ACTION_DIM, resize_frames
from daemon.learning.errors import BadTensor, LearningError
from daemon.learning.policy.policy import BadTemperature, Policy
from daemon.learning.shrinking import U8
from robot_bridge.callback import PolicyActAnswer, PolicyActRequest, PolicyReadyAnswer, PolicyResetRequest
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import (
    BadObservation,
    BadRequest,
    IdempotencyMismatch,
    PolicyFailed,
    UnknownSession,
)
from robot_bridge.protocol import CHUNK_MAX, ObservationAnswer

log = logging.getLogger(__name__)

SESSIONS_MAX: Final = 16  # more than the robots of one lab
PICTURE_SIDE_MAX: Final = 1024  # pixels; robots send 256, and a JPEG's header could ask for gigabytes
NO_PICTURE: Final = (
    binascii.Error,
    UnidentifiedImageError,
    Image.DecompressionBombError,  # a header that asks for gigabytes
    Image.DecompressionBombWarning,
    OSError,
    SyntaxError,
    ValueError,
)
FAILURES: Final = (LearningError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An answer, and the milliseconds that the policy thought for it now: 0 when it was decided before."""

    answer: PolicyActAnswer
    thought_ms: float


@dataclass(slots=True, kw_only=True)
class _Session:
    request: PolicyResetRequest
    policy: Policy
    ref: PolicyRef
    generator: torch.Generator
    next_t: int = 0
    answers: dict[int, PolicyActAnswer] = field(default_factory=dict)


class PolicySessions:
    """A `callback.PolicyLink` in process. Safe to call from any thread; one inference runs at a time.

    Args:
        temperature: 0 takes the likeliest actions; above, they are drawn with the session's seed.
        sessions_max: how many sessions are kept; the one unused for longest is forgotten first.

    Raises:
        BadTemperature: below 0 or not finite.
        BadTensor: the policy decides no chunk that the protocol can carry.
    """

    def __init__(
        self, policy: Policy, ref: PolicyRef, *, temperature: float = 0.0, sessions_max: int = SESSIONS_MAX
    ) -> None:
        if not 0 <= temperature < math.inf:
            raise BadTemperature(temperature=temperature, expected="0 for greedy, or positive")
        _require_usable(policy)
        self.temperature = temperature
        self._newest = policy, ref
        self._reserved: dict[str, tuple[Policy, PolicyRef]] = {}
        self._sessions_max = sessions_max
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._table = threading.Lock()  # never held while a policy thinks
        self._thinking = threading.Lock()
        self.last_thought_ms = math.inf  # of the newest decision; infinite before the first

    @property
    def ref(self) -> PolicyRef:
        """The policy that the next session will get."""
        return self._newest[1]

    @property
    def count(self) -> int:
        """How many sessions are kept."""
        return len(self._sessions)

    def swap(self, policy: Policy, ref: PolicyRef) -> None:
        """Let sessions that are begun from now on have this policy; those that run keep theirs.

        Raises:
            BadTensor: the policy decides no chunk that the protocol can carry.
        """
        _require_usable(policy)
        with self._table:
            before, self._newest = self._newest[1], (policy, ref)
        log.info(
            "policy swapped from=%s:%s to=%s:%s", before.name, before.version, ref.name, ref.version
        )  # fmt: skip

    def reserve(self, session_id: str, policy: Policy, ref: PolicyRef) -> None:
        """Let the session of this name, once it is begun, have this policy and not the newest.

        Raises:
            BadTensor: the policy decides no chunk that the protocol can carry.
        """
        _require_usable(policy)
        with self._table:
            self._reserved[session_id] = policy, ref

    def reset(self, request: PolicyResetRequest) -> PolicyReadyAnswer:
        """Begin a session with its reserved policy, or the newest; the same request again finds it as it is.

        Raises:
            IdempotencyMismatch: the session exists, begun with other contents.
        """
        with self._table:
            session = self._sessions.get(request.session)
            if session is None:
                session = self._begin(request)
            elif session.request != request:
                raise IdempotencyMismatch(thing=f"session {request.session}")
            self._sessions.move_to_end(request.session)
        return PolicyReadyAnswer(session=request.session, policy=session.ref, chunk=session.policy.chunk)

    def act(self, request: PolicyActRequest) -> PolicyActAnswer:
        """See `callback.PolicyLink.act`.

        Raises:
            UnknownSession: it was never begun here, or is forgotten.
            BadRequest: another step than the next one to decide at, or than one that was decided.
            BadObservation: the picture is not one.
            PolicyFailed: no finite actions came out; the session is as it was before.
        """
        return self.decide(request.session, request.t, lambda: picture_of(request.observation)).answer

    def decide(self, session_id: str, t: int, picture: Callable[[], U8]) -> Decision:
        """`act` on a picture uint8 [H, W, 3] that is fetched only if there is something to decide.

        Raises what `act` raises.
        """
        session = self._found(session_id)
        with self._thinking:
            known = session.answers.get(t)
            if known is not None:
                return Decision(answer=known, thought_ms=0.0)
            if t != session.next_t:
                reason = f"step {t} is neither decided nor due; step {session.next_t} is"
                raise BadRequest(thing=f"session {session_id}", reason=reason)
            frames = resize_frames(picture()[None], session.policy.image_size)  # uint8 [1, 3, H, W]
            began = time.perf_counter()
            actions = self._think(session, frames)
            self.last_thought_ms = thought_ms = 1000.0 * (time.perf_counter() - began)
            answer = PolicyActAnswer(session=session_id, t=t, actions=actions, infer_ms=thought_ms)
            session.answers[t] = answer
            session.next_t += len(actions)
        return Decision(answer=answer, thought_ms=thought_ms)

    def _begin(self, request: PolicyResetRequest) -> _Session:
        policy, ref = self._reserved.get(request.session, self._newest)
        session = _Session(
            request=request,
            policy=policy,
            ref=ref,
            generator=torch.Generator().manual_seed(request.seed),
        )
        self._sessions[request.session] = session
        while len(self._sessions) > self._sessions_max:
            forgotten, _ = self._sessions.popitem(last=False)
            log.info("policy session forgotten session=%s kept=%d", forgotten, self._sessions_max)
        return session

    def _found(self, session_id: str) -> _Session:
        with self._table:
            session = self._sessions.get(session_id)
            if session is None:
                raise UnknownSession(session=session_id)
            self._sessions.move_to_end(session_id)
            return session

    def _think(self, session: _Session, frames: torch.Tensor) -> list[list[float]]:
        """One chunk [L][7]; on failure the generator is put back, so that asking again draws the same."""
        drawn = session.generator.get_state()
        try:
            chunk = session.policy.act(
                frames,
                (session.request.instruction,),
                temperature=self.temperature,
                generator=session.generator,
            )
            actions = chunk.actions[0].float().cpu()  # [L, A]
            if actions.shape != (session.policy.chunk, ACTION_DIM) or not bool(actions.isfinite().all()):
                expected = f"finite [{session.policy.chunk}, {ACTION_DIM}]"
                raise BadTensor(
                    name="actions", expected=expected, found=f"{list(actions.shape)}, or not finite"
                )
        except FAILURES as error:
            session.generator.set_state(drawn)
            failed = PolicyFailed(url=session.ref.name, reason=f"{type(error).__name__}: {error}")
            log.error(
                "policy failed session=%s t=%d reason=%s", session.request.session, session.next_t, error
            )
            raise failed from error
        rows: list[list[float]] = actions.tolist()
        return rows


def picture_of(observation: ObservationAnswer) -> U8:
    """The picture uint8 [H, W, 3] of an observation, of whatever size the camera has.

    Raises:
        BadObservation: not a whole colour JPEG, or one of more than 1024 pixels a side.
    """
    try:
        jpeg = base64.b64decode(observation.jpeg, validate=True)
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:  # opened once: that costs a tenth
            if max(picture.size) > PICTURE_SIDE_MAX or picture.mode != "RGB":
                found = f"{picture.mode} {picture.size[0]}x{picture.size[1]}"
                expected = f"RGB of at most {PICTURE_SIDE_MAX} pixels a side"
                raise BadObservation(thing="picture", expected=expected, found=found)
            return np.array(picture, dtype=np.uint8)
    except NO_PICTURE as cause:
        found = f"{len(observation.jpeg)} characters that are none"
        raise BadObservation(thing="picture", expected="a whole JPEG in base64", found=found) from cause


def _require_usable(policy: Policy) -> None:
    if not 1 <= policy.chunk <= CHUNK_MAX:
        raise BadTensor(name="a chunk", expected=f"1 to {CHUNK_MAX} actions", found=str(policy.chunk))
