"""Who may move the robot: one lease at a time, each with a fence higher than all before it.

The last fence is in fence.json. A file that was lost, damaged or put back from a backup must not bring an old
fence back to life, so the desk also looks at the fences that journal and episodes remember.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from robot_bridge.description import LeaseState
from robot_bridge.errors import (
    FenceStale,
    LeaseConflict,
    LeaseRequired,
    SpoolCorrupt,
    StationRefused,
    UnknownLease,
)
from robot_bridge.events import Fact
from robot_bridge.protocol import LeaseAnswer, LeaseRequest
from robot_bridge.station.durable import read_json, write_json
from robot_bridge.station.journal import Journal

log = logging.getLogger(__name__)

HEARTBEATS_PER_TTL: Final = 3


class FenceNotKept(StationRefused):
    code = "fence_not_kept"
    retryable = True
    sentence = (
        "the fence cannot be kept in {path} ({reason}), so no lease was given. Make room at the station."
    )


@dataclass(slots=True, kw_only=True)
class _Held:
    lease_id: str
    holder: str
    fence: int
    ttl_s: float
    expires_at: float
    key: str | None
    last_seq: int = -1


class LeaseDesk:
    """Grants, prolongs and ends the one lease. Times are seconds of `clock`; the fence is kept on disk."""

    def __init__(
        self,
        root: Path,
        *,
        clock: Callable[[], float],
        journal: Journal | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = root / "fence.json"
        self._clock = clock
        self._journal = journal
        self._fence = _highest_fence(root, journal=journal, wall=wall)
        self._held: _Held | None = None
        self._lock = threading.RLock()  # its own, so that a heartbeat never waits for a motion

    def acquire(self, request: LeaseRequest, *, key: str | None) -> LeaseAnswer:
        """Lend the robot; the same idempotency key gets the same lease again while it lasts.

        Raises:
            LeaseConflict: somebody has it.
            FenceNotKept: the disk does not take the new fence.
        """
        with self._lock:
            held = self._current()
            if held is not None and (key is None or held.key != key):
                raise LeaseConflict(holder=held.holder, remaining_s=held.expires_at - self._clock())
            if held is None:
                held = self._held = self._grant(request, key)
            return self._answer(held)

    def heartbeat(self, lease_id: str, seq: int) -> LeaseAnswer:
        """Prolong a lease by its time to live, unless a later heartbeat came first.

        Raises:
            UnknownLease: not held, or not any more.
        """
        with self._lock:
            held = self._by_id(lease_id)
            if seq > held.last_seq:
                held.last_seq = seq
                held.expires_at = self._clock() + held.ttl_s
            return self._answer(held)

    def release(self, lease_id: str) -> None:
        """Give the robot back.

        Raises:
            UnknownLease: not held, or not any more.
        """
        with self._lock:
            held = self._by_id(lease_id)
            log.info("lease released holder=%s fence=%d", held.holder, held.fence)
            self._held = None
        self._note("lease_released", held, revoked=False)

    def revoke(self) -> None:
        """End whatever lease there is."""
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            self._note("lease_released", held, revoked=True)

    def require(self, fence: int | None, *, call: str) -> int:
        """Check the fence of a call that moves something, and take it as a sign of life.

        Raises:
            LeaseRequired: no fence was sent, or nobody holds the robot.
            FenceStale: the fence is not the current one.
        """
        with self._lock:
            held = self._current()
            if fence is None or held is None:
                raise LeaseRequired(call=call)
            if fence != held.fence:
                raise FenceStale(found=fence, current=held.fence)
            held.expires_at = max(held.expires_at, self._clock() + held.ttl_s)
            return held.fence

    def state(self) -> LeaseState | None:
        """What everybody may know of the lease that is held now."""
        with self._lock:
            held = self._current()
            if held is None:
                return None
            remaining_s = held.expires_at - self._clock()
            return LeaseState(holder=held.holder, fence=held.fence, remaining_s=remaining_s)

    def _current(self) -> _Held | None:
        if self._held is not None and self._clock() >= self._held.expires_at:
            log.warning("lease expired holder=%s fence=%d", self._held.holder, self._held.fence)
            self._note("lease_expired", self._held)
            self._held = None
        return self._held

    def _by_id(self, lease_id: str) -> _Held:
        held = self._current()
        if held is None or held.lease_id != lease_id:
            raise UnknownLease(lease_id=lease_id)
        return held

    def _grant(self, request: LeaseRequest, key: str | None) -> _Held:
        try:
            write_json(self._path, {"fence": self._fence + 1})
        except OSError as cause:
            raise FenceNotKept(path=self._path, reason=cause.strerror or "no room") from cause
        self._fence += 1
        log.info("lease acquired holder=%s fence=%d ttl_s=%.1f", request.holder, self._fence, request.ttl_s)
        held = _Held(
            lease_id=str(uuid.uuid4()),
            holder=request.holder,
            fence=self._fence,
            ttl_s=request.ttl_s,
            expires_at=self._clock() + request.ttl_s,
            key=key,
        )
        self._note("lease_acquired", held, ttl_s=request.ttl_s, purpose=request.purpose)
        return held

    def _note(self, kind: str, held: _Held, **facts: Fact) -> None:
        if self._journal is not None:
            self._journal.append(kind, episode_id=None, holder=held.holder, fence=held.fence, **facts)

    def _answer(self, held: _Held) -> LeaseAnswer:
        return LeaseAnswer(
            lease_id=held.lease_id,
            fence=held.fence,
            ttl_s=held.ttl_s,
            heartbeat_s=held.ttl_s / HEARTBEATS_PER_TTL,
            station_time=self._clock(),
        )


def _highest_fence(root: Path, *, journal: Journal | None, wall: Callable[[], float]) -> int:
    """The highest fence that was ever given out here, as far as anything tells.

    A file that does not read back leaves only the clock: no station gives out a lease a second for decades,
    so the seconds since 1970 are above every fence that was counted up.
    """
    newest = None if journal is None else journal.newest("lease_acquired")
    seen = [_number(newest.facts.get("fence")) if newest is not None else 0]
    seen += [_fence_of(path, "metadata") for path in (root / "episodes").glob("*/manifest.json")]
    seen += [_fence_of(path) for path in (root / "lost").glob("*.json")]
    try:
        tree = read_json(root / "fence.json")
        kept = 0 if tree is None else int(tree["fence"])
    except (SpoolCorrupt, KeyError, TypeError, ValueError, OSError) as error:
        kept = int(wall())
        log.error("fence file not read path=%s reason=%s going_on_from=%d", root / "fence.json", error, kept)
    if max(seen) > kept:
        log.error("fence file too low path=%s found=%d seen=%d", root / "fence.json", kept, max(seen))
    return max(kept, *seen)


def _fence_of(path: Path, part: str | None = None) -> int:
    try:
        tree = read_json(path) or {}
    except (SpoolCorrupt, OSError):
        return 0
    inner = tree if part is None else tree.get(part)
    return _number(inner.get("fence")) if isinstance(inner, dict) else 0


def _number(found: object) -> int:
    return int(found) if isinstance(found, int | str) and str(found).isdecimal() else 0
