"""One open job of the gateway: which attempt runs, when it ends, and that one request is answered at a time.

An attempt ends with the next `/reset`, after a silence, or with its job; AutoEval itself never says so. HTTP
is in `gateway_app`, what is sent in `gateway_attempt`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from robot_bridge.autoeval.attempt import EndedBy
from robot_bridge.autoeval.gateway_attempt import LiveAttempt, Pace, Received, Session
from robot_bridge.autoeval.gateway_decisions import PolicyThread, Question
from robot_bridge.autoeval.gateway_errors import (
    AttemptFull,
    PolicyChanged,
    RequestInFlight,
    ResetFirst,
    UnknownCapability,
    WrongInstruction,
)
from robot_bridge.autoeval.gateway_job import GatewayJob
from robot_bridge.autoeval.gateway_records import JobRecords
from robot_bridge.autoeval.recorder import RunningHeader
from robot_bridge.autoeval.wire import QUOTED_MAX, ActRequest
from robot_bridge.callback import PolicyLink
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import PolicyError, PolicyFailed

log = logging.getLogger(__name__)

SPARE_STEPS: Final = 5  # beyond max_steps, before an attempt that never ends is refused
ATTEMPTS_MAX: Final = 500  # of one job: 50 episodes with ten tries each, a gigabyte
RESET_TRIES: Final = 5
RESET_PAUSE: Final = 0.25  # between tries, of the deadline


class JobSession:
    """One job that AutoEval may call. Every method is safe to call from any thread."""

    def __init__(self, job: GatewayJob, *, link: PolicyLink, records: JobRecords, pace: Pace) -> None:
        self.job = job
        self._link = link
        self._records = records
        self._pace = pace
        self._thread = PolicyThread(f"job {job.job_id}")
        self._begin: Question[Session] = Question(self._thread, "a reset")
        self._alone = threading.Lock()
        self._closed = threading.Event()
        self._attempt: LiveAttempt | None = None
        self._last_heard = pace.clock()

    def act(self, request: ActRequest, received: Received) -> bytes:
        """The reply to an `/act`.

        Raises:
            WrongInstruction, ResetFirst, AttemptFull, RequestInFlight: not welcome; nothing was decided.
            PolicyError, RecordingFailed: AutoEval must stop this job.
        """
        job = self.job
        if request.instruction != job.instruction:
            found = ascii(request.instruction[:QUOTED_MAX])
            raise WrongInstruction(job_id=job.job_id, expected=job.instruction, found=found)
        with self._one_request(patience_s=0.0):
            self._end_if_idle()
            if self._attempt is None:
                raise ResetFirst(job_id=job.job_id)
            limit, steps = job.max_steps + SPARE_STEPS, self._attempt.recording.steps
            if steps >= limit:
                todo = "Call /reset"
                raise AttemptFull(
                    job_id=job.job_id, thing="steps", found=steps, expected=job.max_steps, todo=todo
                )
            body = self._attempt.answer(request, received)
            self._last_heard = self._pace.clock()
            return body

    def reset(self) -> None:
        """End the attempt that runs, and begin the next one with a session of its own.

        Raises:
            RequestInFlight: an `/act` did not end in time.
            AttemptFull: this job has had enough of them.
            PolicyError, PolicyChanged, RecordingFailed: none was begun.
        """
        with self._one_request(patience_s=self._pace.deadline_s + 1.0):
            self._end("reset")
            kept = self._records.count()
            if kept >= ATTEMPTS_MAX:
                raise AttemptFull(
                    job_id=self.job.job_id, thing="attempts", found=kept, expected=ATTEMPTS_MAX, todo="Stop"
                )
            self._attempt = self._next_attempt(self._records.begin())
            self._last_heard = self._pace.clock()

    def settle(self) -> None:
        """End an attempt that has been silent for too long."""
        if self._alone.acquire(blocking=False):
            try:
                self._end_if_idle()
            finally:
                self._alone.release()

    def close(self) -> None:
        """Answer nobody any more, and end the attempt that runs, after the request that is being answered.

        Raises:
            RecordingFailed: the last attempt could not be put away; it is read back at the next start.
        """
        self._closed.set()
        with self._alone:
            self._thread.close()
            self._end("job")

    def _next_attempt(self, index: int) -> LiveAttempt:
        session = self._begun_session(index)
        pinned = self._records.pin(session.policy)
        if pinned != session.policy:
            raise PolicyChanged(job_id=self.job.job_id, expected=_named(pinned), found=_named(session.policy))
        header = RunningHeader(
            job_id=self.job.job_id,
            index=index,
            task_id=self.job.task_id,
            instruction=self.job.instruction,
            policy=pinned,
            rotation=self.job.rotation,
            started_at=self._pace.now(),
        )
        recording = self._records.record(header)
        log.info("attempt begun job=%s attempt=%d policy=%s", header.job_id, index, pinned.name)
        return LiveAttempt(
            self.job, session=session, thread=self._thread, recording=recording, pace=self._pace
        )

    def _begun_session(self, index: int) -> Session:
        """The policy may be busy or restarting: it is asked a few times, for AutoEval gives up at once."""
        self._begin.drop()
        begin = partial(Session, self._link, self.job.session(index))
        failure: PolicyError = PolicyFailed(url=f"of job {self.job.job_id}", reason="the job was closed")
        for attempt in range(RESET_TRIES):
            if self._closed.wait(RESET_PAUSE * self._pace.deadline_s if attempt else 0.0):
                break
            try:
                return self._begin.ask(begin, within_s=self._pace.deadline_s)
            except PolicyError as error:
                failure = error
                log.warning("policy not reset job=%s attempt=%d error=%s", self.job.job_id, index, error)
        raise failure

    def _end_if_idle(self) -> None:
        if self._pace.clock() - self._last_heard > self._pace.idle_s:
            self._end("idle")

    def _end(self, ended_by: EndedBy) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._records.end(attempt.recording, ended_by)

    @contextmanager
    def _one_request(self, *, patience_s: float) -> Iterator[None]:
        if not self._alone.acquire(timeout=patience_s):
            raise RequestInFlight(job_id=self.job.job_id)
        try:
            if self._closed.is_set():
                raise UnknownCapability(thing="a job")
            yield
        finally:
            self._alone.release()


def _named(policy: PolicyRef) -> str:
    return " ".join(filter(None, (policy.name, policy.version, policy.digest)))
