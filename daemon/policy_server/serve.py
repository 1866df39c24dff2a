"""Running a policy server: bind where it may, say where, serve until told to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import uvicorn

from daemon.policy_server.app import create_policy_app
from daemon.policy_server.sessions import PolicySessions
from robot_bridge.addresses import is_loopback
from robot_bridge.errors import BindRefused
from robot_bridge.http_heads import BoundedHeads
from robot_bridge.listening import Address, serving

log = logging.getLogger(__name__)

GRACE_S: Final = 5  # how long a call that runs may take to end
KEEP_ALIVE_S: Final = 120  # a robot is silent while its scene is reset, and keeps its connection
CONNECTIONS_MAX: Final = 64  # each may send a body of 1 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBinding(Address):
    """Where a policy server listens, and who may call it there.

    `trust_network` says that everybody who can reach the address may use the policy: AutoEval cannot send a
    token, and comes through a tunnel.
    """

    token: str | None = None
    trust_network: bool = False

    def check(self) -> None:
        """Raises:
        BindRefused: it can be reached from elsewhere, without TLS and a token, and nobody said that is meant.
        TlsUnusable: certificate and key are not two files that fit.
        """
        self.check_tls()
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
    binding.check()
    with binding.listen() as listener:
        server = _server(sessions, binding, seed)
        log.info("policy server ready policy=%s version=%s", sessions.ref.name, sessions.ref.version)
        announce(binding.url(listener))
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
    bound.check()
    with (
        bound.listen() as listener,
        serving(_server(sessions, bound, 0), listener, name="policy-server"),
    ):
        yield bound.url(listener)


def _server(sessions: PolicySessions, binding: PolicyBinding, seed: int) -> uvicorn.Server:
    config = uvicorn.Config(
        create_policy_app(sessions, token=binding.token, seed=seed),
        log_config=None,
        log_level="warning",
        access_log=False,
        http=BoundedHeads,
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
