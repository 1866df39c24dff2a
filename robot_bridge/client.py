"""The daemon's side of robot-station/v1: one method per call, numpy in and out. Here is what needs the lease.

A client holds at most one lease and sends its fence by itself. What can be read without one is in `reader`,
retries and errors are in `transport`.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import requests
from numpy.typing import ArrayLike

from robot_bridge.calls import MOTION_TIMEOUT_S, READ_TIMEOUT_S, read_answer
from robot_bridge.conventions import checked_action
from robot_bridge.episode import Manifest
from robot_bridge.errors import BadAction, LeaseRequired, RobotBridgeError, UnknownLease
from robot_bridge.events import EVENTS_WAIT_MAX_S
from robot_bridge.observation import EpisodeReady, StepResult, read_ready, read_steps
from robot_bridge.protocol import (
    FENCE_HEADER,
    IDEMPOTENCY_HEADER,
    RESET_ATTEMPTS_MAX,
    EpisodeReadyAnswer,
    EpisodeRequest,
    EpisodeStateAnswer,
    EStopAnswer,
    EStopRequest,
    FinishReason,
    FinishRequest,
    HeartbeatRequest,
    LeaseAnswer,
    LeaseRequest,
    ResetAnswer,
    ResetRequest,
    StartRequest,
    StepsAnswer,
    StepsRequest,
)
from robot_bridge.reader import StationReader, checked_manifest
from robot_bridge.transport import Retries, Transport

ESTOP_TIMEOUT_S: Final = 2.0
NEWEST: Final = 2**63 - 1  # a cursor above all: the answer only says where the journal ends
CROWDED_PAUSE_S: Final = 0.2  # when the station has no place for one more who waits
OVER: Final = {"finished", "lost"}


class StillRunning(RobotBridgeError):
    code = "still_running"
    retryable = True
    sentence = (
        "episode {episode_id} is still {found} after {waited_s} s. Wait on, finish it, or stop the arm."
    )


class StationClient(StationReader):
    """Talks to one station. Use it from one thread at a time; `estop` may be called from any thread.

    Every method may raise StationUnreachable (retryable: asking again never moves the arm twice),
    StationMisbehaved, and the refusals of `robot_bridge.errors` that the station answers with.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        verify: str | bool = True,
        session: requests.Session | None = None,
        retries: Retries | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retries = retries or Retries()
        self._connect: Callable[[requests.Session | None], Transport] = lambda own: Transport(
            base_url, token=token, verify=verify, session=own, retries=self._retries
        )
        super().__init__(self._connect(session))
        self._clock = clock
        self._lease: LeaseAnswer | None = None
        self._heartbeats = 0
        self._clock_offset, self._clock_error = 0.0, math.inf

    @property
    def lease(self) -> LeaseAnswer | None:
        """The lease this client acquired last and did not release."""
        return self._lease

    @property
    def clock_offset(self) -> float:
        """Seconds that the station's clock is ahead of this client's, as lease and heartbeats told."""
        return self._clock_offset

    def acquire_lease(self, holder: str, ttl_s: float = 30.0, *, purpose: str = "") -> LeaseAnswer:
        """Get the robot for `ttl_s` seconds from every heartbeat or accepted step on.

        Raises:
            LeaseConflict: somebody else has it.
        """
        request = LeaseRequest(holder=holder, purpose=purpose, ttl_s=ttl_s)
        key = {IDEMPOTENCY_HEADER: str(uuid.uuid4())}
        self._clock_error = math.inf  # the station may be another one, with another clock
        lease = self._timed("/v1/leases", request, headers=key)
        self._lease, self._heartbeats = lease, 0
        return lease

    def heartbeat(self) -> LeaseAnswer:
        """Prolong the lease.

        Raises:
            LeaseRequired: this client has none.
            UnknownLease: it ran out.
        """
        self._heartbeats += 1
        path = f"/v1/leases/{self._held('heartbeat').lease_id}/heartbeat"
        return self._timed(path, HeartbeatRequest(seq=self._heartbeats))

    def release(self) -> None:
        """Give the robot back; a lease that is over already is no error."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            self._transport.call("DELETE", f"/v1/leases/{lease.lease_id}", timeout_s=READ_TIMEOUT_S)
        except UnknownLease:
            return

    @contextmanager
    def leased(self, holder: str, ttl_s: float = 30.0) -> Iterator[LeaseAnswer]:
        """Hold the robot for the length of a with block."""
        lease = self.acquire_lease(holder, ttl_s)
        try:
            yield lease
        finally:
            self.release()

    def reset(self, task_id: str, *, seed: int = 0, max_attempts: int = RESET_ATTEMPTS_MAX) -> ResetAnswer:
        """Bring scene and arm in order without an episode.

        Raises:
            WaitingHuman, NeedsHuman: it takes somebody's hand.
        """
        request = ResetRequest(task_id=task_id, seed=seed, max_attempts=max_attempts)
        return self._post("/v1/resets", request, ResetAnswer, headers=self._fence("resets"))

    def create_episode(self, request: EpisodeRequest) -> EpisodeReady:
        """Reset the scene; gives the first observation."""
        answer = self._post("/v1/episodes", request, EpisodeReadyAnswer, headers=self._fence("episodes"))
        width, height = self._picture()
        return read_ready(answer, width=width, height=height)

    def start(self, episode_id: str) -> EpisodeStateAnswer:
        """Let the station run a callback episode by itself; see `wait_finished`. Twice starts it once."""
        path = f"/v1/episodes/{episode_id}/start"
        return self._post(path, StartRequest(), EpisodeStateAnswer, headers=self._fence("start"))

    def wait_finished(self, episode_id: str, *, timeout_s: float) -> EpisodeStateAnswer:
        """Wait until an episode is over, keeping the lease alive meanwhile; gives how it ended.

        Raises:
            StillRunning: it is not over within `timeout_s` seconds.
        """
        began_at, keeps_lease = self._clock(), self._lease is not None
        cursor = self.events(NEWEST, limit=1).next_cursor
        while True:
            state = self.state(episode_id)
            if state.state in OVER:
                return state
            waited_s = self._clock() - began_at
            if waited_s >= timeout_s:
                raise StillRunning(episode_id=episode_id, found=state.state, waited_s=round(waited_s, 1))
            keeps_lease = keeps_lease and self._beats()
            cursor = self._await_news(episode_id, cursor, wait_s=timeout_s - waited_s)

    def step(
        self,
        episode_id: str,
        t: int,
        actions: ArrayLike,
        *,
        infer_ms: float = 0.0,
        ttl_ms: float | None = None,
    ) -> StepResult:
        """Execute bridge_v2 actions [k, 7] from step t on; gives the k observations they produced.

        Sent again for the same t, it moves nothing and gives the same result. With `ttl_ms`, a command that
        reaches the arm later than that is refused.

        Raises:
            BadAction: not [k, 7] finite numbers with k >= 1; nothing was sent.
        """
        request = StepsRequest(
            t=t,
            actions=_rows(actions),
            infer_ms=infer_ms,
            issued_at=None if ttl_ms is None else self._clock() + self._clock_offset,
            ttl_ms=ttl_ms,
        )
        path = f"/v1/episodes/{episode_id}/steps"
        answer = self._post(path, request, StepsAnswer, headers=self._fence("steps"))
        width, height = self._picture()
        return read_steps(answer, width=width, height=height)

    def finish(self, episode_id: str, reason: FinishReason = "completed") -> Manifest:
        """End the episode: the station judges it when it was completed, and keeps it until `ack`."""
        path, request = f"/v1/episodes/{episode_id}/finish", FinishRequest(reason=reason)
        return checked_manifest(
            self._send(path, request, headers=self._fence("finish"), timeout_s=MOTION_TIMEOUT_S)
        )

    def estop(self, reason: str = "") -> EStopAnswer:
        """Stop the arm now; needs no lease, and only somebody at the station can undo it.

        It has a connection of its own and short deadlines, so it waits for no other call of this client.
        """
        transport, path = self._connect(None), "/v1/estop"
        body = EStopRequest(reason=reason).model_dump_json()
        try:
            answer = transport.call("POST", path, body=body, timeout_s=ESTOP_TIMEOUT_S)
        finally:
            transport.close()
        return read_answer(answer, EStopAnswer, call=f"POST {path}", url=self.base_url)

    def _timed(
        self, path: str, command: LeaseRequest | HeartbeatRequest, *, headers: dict[str, str] | None = None
    ) -> LeaseAnswer:
        asked_at = self._clock()
        lease = self._post(path, command, LeaseAnswer, headers=headers)
        answered_at = self._clock()
        if answered_at - asked_at <= self._clock_error:  # the quickest answer tells the time best
            self._clock_error = answered_at - asked_at
            self._clock_offset = lease.station_time - (asked_at + answered_at) / 2.0
        return lease

    def _beats(self) -> bool:
        """Prolong the lease; False when it is over: the station ends the episode by itself then."""
        try:
            self.heartbeat()
        except UnknownLease:
            return False
        return True

    def _await_news(self, episode_id: str, cursor: int, *, wait_s: float) -> int:
        """Wait for an event of the episode, a heartbeat's time at most; gives the cursor to go on from."""
        beat_s = EVENTS_WAIT_MAX_S if self._lease is None else self._lease.heartbeat_s
        ends_at = self._clock() + min(wait_s, beat_s, EVENTS_WAIT_MAX_S)
        while (left_s := ends_at - self._clock()) > 0:
            asked_at = self._clock()
            answer = self.events(cursor, wait_s=left_s)
            if any(event.episode_id == episode_id for event in answer.events):
                return answer.next_cursor
            if not answer.events and self._clock() - asked_at < left_s / 2.0:
                self._retries.pause(min(CROWDED_PAUSE_S, left_s))
            cursor = answer.next_cursor
        return cursor

    def _held(self, call: str) -> LeaseAnswer:
        if self._lease is None:
            raise LeaseRequired(call=call)
        return self._lease

    def _fence(self, call: str) -> dict[str, str]:
        return {FENCE_HEADER: str(self._held(call).fence)}

    def _picture(self) -> tuple[int, int]:
        camera = self.station().cameras[0]
        return camera.w, camera.h


def _rows(actions: ArrayLike) -> list[list[float]]:
    rows = np.asarray(actions)
    if rows.ndim != 2 or len(rows) == 0:
        raise BadAction(thing="actions", expected="an array [k, 7] with k >= 1", found=f"shape {rows.shape}")
    return [[float(number) for number in checked_action(row)] for row in rows]
