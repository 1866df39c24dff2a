"""Running a station: bind where it may, say where, serve until told to stop."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from robot_bridge.addresses import is_loopback
from robot_bridge.drivers.driver import RobotDriver
from robot_bridge.errors import BindRefused, RobotBridgeError
from robot_bridge.http_heads import BoundedHeads
from robot_bridge.listening import Address, serving
from robot_bridge.station.app import create_station_app
from robot_bridge.station.event_routes import end_waiting
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.tokens import TokenFile

log = logging.getLogger(__name__)

GRACE_S: Final = 30  # how long a call that runs may take to end when the station is told to stop


class AddressUnavailable(RobotBridgeError):
    code = "address_unavailable"
    sentence = (
        "nothing can listen on {host}, port {port}: {reason}. Take another, or stop what listens there."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding(Address):
    """Where a station listens, and who may call it there."""

    tokens: TokenFile | None = None

    def check(self) -> None:
        """Raises:
        BindRefused: it leaves this machine without TLS and tokens.
        TlsUnusable: certificate and key are not two files that fit.
        """
        self.check_tls()
        missing = [
            name for name, given in (("TLS", self.tls_certificate), ("tokens", self.tokens)) if given is None
        ]
        if missing and not is_loopback(self.host):
            raise BindRefused(thing="a station", missing=" and ".join(missing), host=self.host)


def serve_station(
    driver: RobotDriver,
    *,
    spool: Path,
    station_id: str,
    announce: Callable[[str], None],
    binding: Binding | None = None,
    policy: StationPolicy | None = None,
) -> None:
    """Serve robot-station/v1 until SIGINT or SIGTERM; an open episode is spooled as aborted then.

    `announce` is called with the URL once connections are accepted.

    Raises:
        BindRefused, TlsUnusable, AddressUnavailable: it would listen where it must not, or cannot.
        SpoolBusy: another station has the folder `spool`.
    """
    bound = binding or Binding()
    with _listen(bound) as listener:
        app = create_station_app(driver, spool, station_id=station_id, policy=policy, tokens=bound.tokens)
        server = _StationServer(app, bound)
        log.info("station ready station=%s spool=%s", station_id, spool)
        announce(bound.url(listener))
        server.run(sockets=[listener])


@contextmanager
def running_station(
    driver: RobotDriver,
    *,
    spool: Path,
    station_id: str,
    policy: StationPolicy | None = None,
    tokens: TokenFile | None = None,
    binding: Binding | None = None,
) -> Iterator[str]:
    """A station in a thread of this program, by default on a free loopback port; gives its URL."""
    bound = binding or Binding()
    if tokens is not None:
        bound = replace(bound, tokens=tokens)
    with _listen(bound) as listener:
        app = create_station_app(driver, spool, station_id=station_id, policy=policy, tokens=bound.tokens)
        with serving(_StationServer(app, bound), listener, name="station"):
            yield bound.url(listener)


class _StationServer(uvicorn.Server):
    """Ends long-polls before it waits for calls that run. Who calls is who connects: no proxy is believed."""

    def __init__(self, app: FastAPI, binding: Binding) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="on",
                ws="none",
                http=BoundedHeads,
                proxy_headers=False,
                ssl_certfile=binding.tls_certificate,
                ssl_keyfile=binding.tls_key,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._station = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        end_waiting(self._station)
        await super().shutdown(sockets=sockets)


def _listen(binding: Binding) -> socket.socket:
    binding.check()
    try:
        return binding.listen()
    except OSError as cause:
        reason = cause.strerror or str(cause)
        raise AddressUnavailable(host=binding.host, port=binding.port, reason=reason) from cause
