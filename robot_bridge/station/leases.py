"""Who may move the robot: one lease at a time, each with a fence higher than all before it."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from robot_bridge.description import LeaseState
from robot_bridge.errors import FenceStale, LeaseConflict, LeaseRequired, UnknownLease
from robot_bridge.protocol import LeaseAnswer, LeaseRequest
from robot_bridge.station.durable import read_json, write_json

log = logging.getLogger(__name__)

HEARTBEATS_PER_TTL: Final = 3


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

    def __init__(self, root: Path, *, clock: Callable[[], float]) -> None:
        self._path = root / "fence.json"
        self._clock = clock
        self._held: _Held | None = None
        self._lock = threading.RLock()  # its own, so that a heartbeat never waits for a motion

    def acquire(self, request: LeaseRequest, *, key: str | None) -> LeaseAnswer:
        """Lend the robot; the same idempotency key gets the same lease again while it lasts.

        Raises:
            LeaseConflict: somebody has it.
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

    def revoke(self) -> None:
        """End whatever lease there is."""
        with self._lock:
            self._held = None

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
            self._held = None
        return self._held

    def _by_id(self, lease_id: str) -> _Held:
        held = self._current()
        if held is None or held.lease_id != lease_id:
            raise UnknownLease(lease_id=lease_id)
        return held

    def _grant(self, request: LeaseRequest, key: str | None) -> _Held:
        fence = self._next_fence()
        log.info("lease acquired holder=%s fence=%d ttl_s=%.1f", request.holder, fence, request.ttl_s)
        return _Held(
            lease_id=str(uuid.uuid4()),
            holder=request.holder,
            fence=fence,
            ttl_s=request.ttl_s,
            expires_at=self._clock() + request.ttl_s,
            key=key,
        )

    def _next_fence(self) -> int:
        fence = int((read_json(self._path) or {"fence": 0})["fence"]) + 1
        write_json(self._path, {"fence": fence})
        return fence

    def _answer(self, held: _Held) -> LeaseAnswer:
        return LeaseAnswer(
            lease_id=held.lease_id,
            fence=held.fence,
            ttl_s=held.ttl_s,
            heartbeat_s=held.ttl_s / HEARTBEATS_PER_TTL,
            station_time=self._clock(),
        )
