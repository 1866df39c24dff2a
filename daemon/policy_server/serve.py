"""Running a policy server: bind where it may, say where, serve until told to stop."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn

from daemon.policy_server.app import create_policy_app
from daemon.policy_server.sessions import PolicySessions
from daemon.settings import is_loopback
from robot_bridge.errors import BindRefused
from robot_bridge.station.serve import Binding

log = logging.getLogger(__name__)

GRACE_S: Final = 5  # how long a call that runs may take to end
KEEP_ALIVE_S: Final = 120  # a robot is silent while its scene is reset, and keeps its connection
CONNECTIONS_MAX: Final = 64  # each may send a body of 1 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBinding:
    """Where a policy server listens, and who may call it there. Port 0 takes a free one.

    `trust_network` says that everybody who can reach the address may use the policy: AutoEval cannot send a
    token, and comes through a tunnel.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trust_network: bool = False

    @property
    def scheme(self) -> str:
        return "http" if self.tls_certificate is None else "https"

    def check(self) -> None:
        """Raises:
        BindRefused: it can be reached from elsewhere, without TLS and a token, and nobody said that is meant.
        TlsUnusable: certificate and key are not two files that fit.
        """
        Binding(tls_certificate=self.tls_certificate, tls_key=self.tls_key).check()
        wanted = (("TLS", self.tls_certificate), ("a token", self.token))
        missing = [name for name, given in wanted if given is None]
        if missing and not self.trust_network and not is_loopback(self.host):
            raise BindRefused(thing="a policy server", missing=" and ".join(missing), host=self.host)


def serve_policy(
    sessions: PolicySessions, *, binding: PolicyBinding, announce: Callable[[str], None], seed: int = 0
) -> None:
    """Serve the policy until SIGINT or SIGTERM; `announce` is called with the URL once connections are taken.

    Raises:
        BindRefused, TlsUnusable: it would listen where it must not, or cannot.
        OSError: the address cannot be listened on.
    """
    with _listening(binding) as listener:
        server = _server(sessions, binding, seed)
        log.info("policy server ready policy=%s version=%s", sessions.ref.name, sessions.ref.version)
        announce(_url(listener, binding))
        server.run(sockets=[listener])


@contextmanager
def running_policy_server(
    sessions: PolicySessions,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    trust_network: bool = False,
    binding: PolicyBinding | None = None,
) -> Iterator[str]:
    """Serve the policy in a thread of this program for the length of a with block; gives its URL.

    `binding` replaces the four before it, and can say TLS too.

    Raises:
        BindRefused, TlsUnusable: it would listen where it must not, or cannot.
        OSError: the address cannot be listened on.
    """
    bound = binding or PolicyBinding(host=host, port=port, token=token, trust_network=trust_network)
    with _listening(bound) as listener:
        server = _server(sessions, bound, 0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="policy-server")
        thread.start()
        try:
            yield _url(listener, bound)
        finally:
            server.should_exit = True
            thread.join()


def _server(sessions: PolicySessions, binding: PolicyBinding, seed: int) -> uvicorn.Server:
    config = uvicorn.Config(
        create_policy_app(sessions, token=binding.token, seed=seed),
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        ssl_certfile=binding.tls_certificate,
        ssl_keyfile=binding.tls_key,
        timeout_keep_alive=KEEP_ALIVE_S,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=GRACE_S,
    )
    return uvicorn.Server(config)


def _listening(binding: PolicyBinding) -> socket.socket:
    binding.check()
    family = socket.AF_INET6 if ":" in binding.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((binding.host, binding.port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _url(listener: socket.socket, binding: PolicyBinding) -> str:
    host, port = listener.getsockname()[:2]
    return f"{binding.scheme}://[{host}]:{port}" if ":" in host else f"{binding.scheme}://{host}:{port}"
