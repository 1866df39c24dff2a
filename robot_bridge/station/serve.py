"""Running a station: bind, say where, serve until told to stop."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from robot_bridge.drivers.driver import RobotDriver
from robot_bridge.errors import BindRefused
from robot_bridge.station.app import create_station_app
from robot_bridge.station.event_routes import end_waiting
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.tokens import TokenFile

log = logging.getLogger(__name__)

GRACE_S: Final = 30  # how long a call that runs may take to end when the station is told to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Where a station listens, and what protects it there. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    tokens: TokenFile | None = None

    @property
    def encrypted(self) -> bool:
        return self.certificate is not None and self.key is not None

    def require_safe(self) -> None:
        """Raises:
        BindRefused: others could reach it, and there are not both TLS and tokens.
        """
        missing = [
            name
            for name, given in (("TLS", self.encrypted), ("tokens", self.tokens is not None))
            if not given
        ]
        if missing and self.host != "localhost" and not _is_loopback(self.host):
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
        BindRefused: the binding is reachable from elsewhere without TLS and tokens.
        SpoolBusy: another station has the folder `spool`.
    """
    binding = binding or Binding()
    binding.require_safe()
    with _listen(binding.host, binding.port) as listener:
        app = create_station_app(driver, spool, station_id=station_id, policy=policy, tokens=binding.tokens)
        server = _server(app, binding)
        log.info("station ready station=%s spool=%s", station_id, spool)
        announce(_url(listener, encrypted=binding.encrypted))
        server.run(sockets=[listener])


@contextmanager
def running_station(
    driver: RobotDriver,
    *,
    spool: Path,
    station_id: str,
    policy: StationPolicy | None = None,
    binding: Binding | None = None,
) -> Iterator[str]:
    """A station in a thread of this program, on a free loopback port by default; gives its URL."""
    binding = binding or Binding()
    binding.require_safe()
    with _listen(binding.host, binding.port) as listener:
        app = create_station_app(driver, spool, station_id=station_id, policy=policy, tokens=binding.tokens)
        server = _server(app, binding)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="station")
        thread.start()
        try:
            yield _url(listener, encrypted=binding.encrypted)
        finally:
            server.should_exit = True
            end_waiting(app)
            thread.join()


class _Server(uvicorn.Server):
    """Ends long-polls when it is told to stop, instead of waiting for them."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        end_waiting(self._app)
        super().handle_exit(sig, frame)

    @property
    def _app(self) -> FastAPI:
        app = self.config.app
        assert isinstance(app, FastAPI)  # noqa: S101 - `_server` gave it
        return app


def _server(app: FastAPI, binding: Binding) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=binding.certificate,
        ssl_keyfile=binding.key,
    )
    return _Server(config)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(128)
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(listener: socket.socket, *, encrypted: bool) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "https" if encrypted else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
