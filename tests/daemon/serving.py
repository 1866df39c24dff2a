"""The daemon's real server in a thread of the test, without workers; its parts are at hand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from daemon.api.services import Services
from daemon.app import AnnouncingServer, create_app, listening_socket, running
from daemon.settings import Settings
from robot_bridge.http_heads import BoundedHeads


@dataclass(slots=True)
class Served:
    url: str
    services: Services
    server: AnnouncingServer
    thread: threading.Thread

    def end(self) -> None:
        """Ask it to end, as SIGTERM does, and wait until it has."""
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    app = create_app(settings)
    announced, urls = threading.Event(), []

    def announce(bound: socket.socket) -> None:
        host, port = bound.getsockname()
        urls.append(f"http://{host}:{port}")
        announced.set()

    with listening_socket("127.0.0.1", 0) as listener, running(settings) as services:
        app.state.services = services
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            http=BoundedHeads,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
        server = AnnouncingServer(config, announce, ending=services.feed.close)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert announced.wait(30)
            yield Served(url=urls[0], services=services, server=server, thread=thread)
        finally:
            server.should_exit = True
            thread.join(30)
