"""What a station is made of beside its driver, handed round as one value. It does nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from robot_bridge.station.journal import Journal
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.spool import Spool


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """Name, files, clocks and rules. `clock` is monotonic seconds, `now` the wall clock."""

    station_id: str
    spool: Spool
    journal: Journal
    clock: Callable[[], float]
    now: Callable[[], datetime]
    policy: StationPolicy
