"""A callback episode: the station asks the policy, takes the actions open loop, asks again, to the end.

It runs on a thread of its own and moves nothing itself: what it may do to the episode is `Stage`, which takes
the motion lock for every call. A policy that does not answer is asked the same again while the arm holds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from robot_bridge.callback import PolicyActRequest, PolicyLink, PolicyReadyAnswer, PolicyResetRequest
from robot_bridge.episode import Outcome
from robot_bridge.errors import (
    BadArray,
    DriverError,
    PolicyError,
    PolicyFailed,
    PolicyUnreachable,
    RobotBridgeError,
    StationRefused,
)
from robot_bridge.protocol import StepsRequest
from robot_bridge.station.recording import Recording

log = logging.getLogger(__name__)

ASK_AGAIN_S: Final = 0.05  # after an answer that was none

AnswerT = TypeVar("AnswerT")


class Stage(Protocol):
    """What a run may do. Each call raises EpisodeState when the episode is over by now."""

    def advance(self, recording: Recording, request: StepsRequest) -> None:
        """Execute the next actions."""
        ...

    def hold(self, recording: Recording, why: str) -> None:
        """Let the arm hold until the next action."""
        ...

    def end(self, recording: Recording, outcome: Outcome) -> None:
        """End the episode."""
        ...


class CallbackRun:
    """One episode's loop. `start` it once; it ends when the episode does, whoever ended it."""

    def __init__(
        self,
        recording: Recording,
        *,
        stage: Stage,
        connect: Callable[[str], PolicyLink],
        clock: Callable[[], float],
        patience_s: float,
    ) -> None:
        self._recording, self._stage, self._connect = recording, stage, connect
        self._clock, self._patience_s = clock, patience_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self.run, name="callback", daemon=True)

    def start(self) -> None:
        """Begin the loop."""
        self._thread.start()

    def stop(self, wait_s: float) -> None:
        """Ask no more; waits until the loop is over, but no longer than `wait_s`."""
        self._stopped.set()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(wait_s)

    def run(self) -> None:
        """The loop itself."""
        recording = self._recording
        try:
            self._act_to_the_end()
        except (PolicyError, BadArray) as error:
            log.warning("policy gave up episode=%s error=%s", recording.episode_id, error)
            self._end("policy_error")
        except (StationRefused, DriverError) as error:
            log.info("callback episode stopped episode=%s reason=%s", recording.episode_id, error)

    def _act_to_the_end(self) -> None:
        recording, request = self._recording, self._recording.request
        link = self._connect(str(request.policy_endpoint))
        self._pin(self._answered(partial(link.reset, self._session())))
        while recording.count < request.max_steps:
            asked = PolicyActRequest(
                session=request.episode_id, t=recording.count, observation=recording.observation()
            )
            answer = self._answered(partial(link.act, asked))
            actions = answer.actions[: request.max_steps - recording.count]
            steps = StepsRequest(t=recording.count, actions=actions, infer_ms=answer.infer_ms)
            self._stage.advance(recording, steps)
        self._end("completed")

    def _session(self) -> PolicyResetRequest:
        request, around = self._recording.request, self._recording.circumstances
        return PolicyResetRequest(
            session=request.episode_id,
            task_id=request.task_id,
            instruction=around.instruction,
            control_hz=around.control_hz,
            seed=request.seed,
        )

    def _pin(self, ready: PolicyReadyAnswer) -> None:
        """Record who really decides; another policy than the one that was ordered decides nothing."""
        ordered, found = self._recording.policy, ready.policy
        if ordered.digest is not None and found.digest is not None and ordered.digest != found.digest:
            reason = f"it runs {found.name} {found.digest}, the episode was ordered for {ordered.digest}"
            raise PolicyFailed(url=self._recording.request.policy_endpoint, reason=reason)
        if found.digest is not None:
            self._recording.policy = found

    def _answered(self, ask: Callable[[], AnswerT]) -> AnswerT:
        """Ask until there is an answer or the patience is over.

        Raises:
            PolicyError: there is none.
            StationRefused: the episode was over before.
        """
        asked_at = self._clock()
        while True:
            try:
                return ask()
            except (PolicyUnreachable, PolicyFailed) as error:
                self._stage.hold(self._recording, str(error))
                if self._clock() - asked_at >= self._patience_s or self._stopped.is_set():
                    raise
            self._stopped.wait(ASK_AGAIN_S)

    def _end(self, outcome: Outcome) -> None:
        try:
            self._stage.end(self._recording, outcome)
        except RobotBridgeError as error:  # over already, or no room: the session tries again
            log.info("callback episode not ended episode=%s reason=%s", self._recording.episode_id, error)
