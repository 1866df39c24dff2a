"""The emergency stop of every station of the settings, at once. It needs no lease and waits for nothing.

What undoes a stop is at the station alone: somebody has to have looked at the robot.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from daemon.settings import Settings
from daemon.station_clients import station_client
from robot_bridge.errors import RobotBridgeError

log = logging.getLogger(__name__)

TRIES = 2  # of one station; whoever pressed the button has to know soon that it did not help
ELSEWHERE = "AutoEval's cells are not ours to stop; cancel the iteration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What became of stopping one station: since when and why it stands, or why it may still move."""

    address: str
    since: str | None = None
    reason: str | None = None
    failure: str | None = None


def stop_stations(settings: Settings, *, reason: str) -> list[Stop]:
    """Ask every station to stop, side by side, and wait for their answers."""
    if settings.collect_via == "autoeval":
        return [Stop(address=settings.autoeval_url or "AutoEval", failure=ELSEWHERE)]
    addresses: Sequence[str] = settings.stations
    with ThreadPoolExecutor(max_workers=len(addresses), thread_name_prefix="estop") as threads:
        return list(threads.map(lambda address: stop_station(settings, address, reason=reason), addresses))


def stop_station(settings: Settings, address: str, *, reason: str) -> Stop:
    """Ask one station to stop."""
    try:
        with closing(station_client(settings, address, tries=TRIES)) as client:
            latched = client.estop(reason)
    except (RobotBridgeError, OSError) as error:
        log.error("station not stopped url=%s reason=%s", address, error)
        return Stop(address=address, failure=str(error))
    log.warning("station stopped url=%s since=%s reason=%r", address, latched.since, latched.reason)
    return Stop(address=address, since=latched.since, reason=latched.reason)
