"""Running a station: bind, say where, serve until told to stop."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn

from robot_bridge.drivers.driver import RobotDriver
from robot_bridge.errors import BindRefused
from robot_bridge.station.app import create_station_app

log = logging.getLogger(__name__)

GRACE_S: Final = 30  # how long a call that runs may take to end when the station is told to stop


def serve_station(
    driver: RobotDriver,
    *,
    spool: Path,
    station_id: str,
    announce: Callable[[str], None],
    host: str = "127.0.0.1",
    port: int = 0,
) -> None:
    """Serve robot-station/v1 until SIGINT or SIGTERM; an open episode is spooled as aborted then.

    Port 0 takes a free one; `announce` is called with the URL once connections are accepted.

    Raises:
        BindRefused: `host` is not a loopback address.
        SpoolBusy: another station has the folder `spool`.
    """
    listener = _listen(host, port)
    with listener:
        server = _server(driver, spool=spool, station_id=station_id)
        announce(_url(listener))
        server.run(sockets=[listener])


@contextmanager
def running_station(driver: RobotDriver, *, spool: Path, station_id: str) -> Iterator[str]:
    """A station on a free loopback port, in a thread of this program; gives its URL."""
    with _listen("127.0.0.1", 0) as listener:
        server = _server(driver, spool=spool, station_id=station_id)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="station")
        thread.start()
        try:
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join()


def _server(driver: RobotDriver, *, spool: Path, station_id: str) -> uvicorn.Server:
    app = create_station_app(driver, spool, station_id=station_id)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=GRACE_S,
    )
    log.info("station ready station=%s spool=%s", station_id, spool)
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    if host != "localhost" and not _is_loopback(host):
        raise BindRefused(thing="a station", missing="TLS and tokens", host=host)
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


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
