"""Running a policy server in a thread of this program: bind, say where, stop."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from daemon.policy_server.app import create_policy_app
from daemon.policy_server.sessions import PolicySessions
from daemon.settings import is_loopback
from robot_bridge.errors import BindRefused

GRACE_S = 5  # how long a call that runs may take to end


@contextmanager
def running_policy_server(
    sessions: PolicySessions, *, host: str = "127.0.0.1", port: int = 0, token: str | None = None
) -> Iterator[str]:
    """Serve the policy for the length of a with block; gives its URL. Port 0 takes a free one.

    Raises:
        BindRefused: `host` can be reached from elsewhere, and there is no token.
        OSError: the address cannot be listened on.
    """
    if token is None and not is_loopback(host):
        raise BindRefused(thing="a policy server", missing="a token", host=host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
        config = uvicorn.Config(
            create_policy_app(sessions, token=token),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="policy-server")
        thread.start()
        name, number = listener.getsockname()[:2]
        try:
            yield f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
        finally:
            server.should_exit = True
            thread.join()
