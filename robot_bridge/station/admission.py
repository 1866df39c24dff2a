"""Whether a request may be carried out: checks that move nothing, raised as refusals of the protocol."""

from __future__ import annotations

from dataclasses import replace

from robot_bridge.drivers.driver import DriverDescription
from robot_bridge.errors import (
    BadRequest,
    EpisodeState,
    IdempotencyMismatch,
    StepOutOfOrder,
    StepStale,
    UnknownOutcome,
)
from robot_bridge.limits import Limits
from robot_bridge.protocol import EpisodeMode, EpisodeRequest, StepsRequest
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.recording import Recording
from robot_bridge.station.spool import Spool


def limits_of(description: DriverDescription, request: EpisodeRequest) -> Limits:
    """The station's limits for the task, narrowed as far as the request wishes.

    Raises:
        UnknownTask: this robot has no such task.
        LimitsViolation: the request would widen one of them.
    """
    own = description.limits(request.task_id)
    if request.limits is None:
        return own
    wanted = {name: value for name, value in request.limits if value is not None}
    return own.narrowed_to(replace(own, **wanted))


def check_mode(policy: StationPolicy, request: EpisodeRequest) -> None:
    """Raises:
    EndpointRefused: a callback episode names no policy that this station may call.
    """
    if request.mode == "callback":
        policy.require_endpoint(request.policy_endpoint)


def require_new(spool: Spool, episode_id: str) -> None:
    """Raises:
    UnknownOutcome: the station died while an episode of this id ran.
    EpisodeState: one of this id was finished here.
    """
    if spool.is_lost(episode_id):
        raise UnknownOutcome(episode_id=episode_id, found="(last)")
    if spool.holds(episode_id) or spool.acked_digest(episode_id) is not None:
        raise EpisodeState(episode_id=episode_id, found="finished", expected="a new id")


def require_same(recording: Recording, request: EpisodeRequest) -> None:
    """Raises:
    IdempotencyMismatch: the open episode was created by another request.
    """
    if recording.request != request:
        raise IdempotencyMismatch(thing=f"episode {request.episode_id}")


def require_open(recording: Recording) -> None:
    """Raises:
    EpisodeState: its end was decided; it only waits for room on the disk.
    """
    if recording.ending is not None:
        raise EpisodeState(episode_id=recording.episode_id, found="finished", expected="open")


def require_mode(recording: Recording, mode: EpisodeMode) -> None:
    """Raises:
    EpisodeState: the call is for episodes of the other mode.
    """
    if recording.request.mode != mode:
        found, expected = f"in mode {recording.request.mode}", f"in mode {mode}"
        raise EpisodeState(episode_id=recording.episode_id, found=found, expected=expected)


def require_next(recording: Recording, request: StepsRequest, *, station_time: float) -> None:
    """Check that these actions are the next ones and still fresh.

    Raises:
        StepOutOfOrder: another step is next.
        BadRequest: more actions than the episode has steps left.
        StepStale: the command took longer than its time to live to get here.
    """
    episode_id, left = recording.request.episode_id, recording.request.max_steps - recording.count
    if request.t != recording.count:
        raise StepOutOfOrder(episode_id=episode_id, found=request.t, expected_step=recording.count)
    if len(request.actions) > left:
        reason = f"{len(request.actions)} actions, {left} steps are left of {recording.request.max_steps}"
        raise BadRequest(thing=f"step {request.t} of episode {episode_id}", reason=reason)
    if request.issued_at is not None and request.ttl_ms is not None:
        late_ms = (station_time - request.issued_at) * 1000.0 - request.ttl_ms
        if late_ms > 0:
            raise StepStale(episode_id=episode_id, found=request.t, late_ms=round(late_ms))
