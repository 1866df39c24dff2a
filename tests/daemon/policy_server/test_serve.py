"""A policy server listens where it may, keeps its connections, and ends when it is told to."""

from __future__ import annotations

import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
import trustme

from daemon.policy_server.app import QUICK_MS
from daemon.policy_server.serve import PolicyBinding, running_policy_server, serve_policy
from daemon.policy_server.sessions import PolicySessions
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import BindRefused, PolicyFailed, PolicyUnreachable
from robot_bridge.listening import TlsUnusable
from robot_bridge.policy_link import HttpPolicyLink
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.policy_tokens import read_policy_tokens
from tests.daemon.policy_server.small_policies import a_policy
from tests.daemon.policy_server.test_sessions import a_reset, an_act

TOKEN = "the-word"  # noqa: S105
EVERYWHERE = "0.0.0.0"  # noqa: S104 - whether it may is what is tested
PATIENT = 30.0


@pytest.fixture
def sessions() -> PolicySessions:
    return PolicySessions(a_policy(), PolicyRef(name="nano"), temperature=1.0)


@pytest.mark.parametrize(
    ("binding", "missing"),
    [
        (PolicyBinding(host=EVERYWHERE), "TLS and a token"),
        (PolicyBinding(host=EVERYWHERE, token=TOKEN), "TLS"),
        (PolicyBinding(host="192.0.2.1"), "TLS and a token"),
        (PolicyBinding(host="policy.lab", token=TOKEN), "TLS"),
        (PolicyBinding(host="::"), "TLS and a token"),
    ],
    ids=str,
)
def test_beyond_this_machine_it_listens_with_tls_and_a_token_only(
    binding: PolicyBinding, missing: str
) -> None:
    with pytest.raises(BindRefused, match=f"without {missing} listens on loopback only"):
        binding.check()


@pytest.mark.parametrize(
    "binding",
    [
        PolicyBinding(),
        PolicyBinding(host="localhost"),
        PolicyBinding(host="::1"),
        PolicyBinding(host=EVERYWHERE, trust_network=True),
    ],
    ids=str,
)
def test_on_this_machine_or_in_a_trusted_network_it_listens_as_it_is(binding: PolicyBinding) -> None:
    binding.check()


def test_a_refused_address_is_not_listened_on(sessions: PolicySessions) -> None:
    with (
        pytest.raises(BindRefused),
        running_policy_server(sessions, host=EVERYWHERE, token=TOKEN),
    ):
        pytest.fail("it listens")
    with pytest.raises(BindRefused):
        serve_policy(sessions, binding=PolicyBinding(host=EVERYWHERE), announce=pytest.fail)


@pytest.mark.parametrize("missing", ["key", "certificate", "both files"])
def test_tls_needs_two_files_that_fit(tmp_path: Path, missing: str) -> None:
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    binding = PolicyBinding(
        tls_certificate=None if missing == "certificate" else certificate,
        tls_key=None if missing == "key" else key,
    )
    with pytest.raises(TlsUnusable):
        binding.check()


def test_a_trusted_network_reaches_the_policy(sessions: PolicySessions) -> None:
    with running_policy_server(sessions, host=EVERYWHERE, trust_network=True) as url:
        port = url.rpartition(":")[2]
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=PATIENT).status_code == 200


def test_an_ipv6_address_is_written_as_one(sessions: PolicySessions) -> None:
    with running_policy_server(sessions, host="::1") as url:
        assert url.startswith("http://[::1]:")
        assert requests.get(f"{url}/health", timeout=PATIENT).status_code == 200


def test_a_port_that_is_taken_is_told(sessions: PolicySessions) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), running_policy_server(sessions, port=port):
            pytest.fail("it listens")


def test_afterwards_nobody_answers(sessions: PolicySessions) -> None:
    with running_policy_server(sessions) as url:
        link = HttpPolicyLink(url, timeout_s=PATIENT)
        link.reset(a_reset())
    with pytest.raises(PolicyUnreachable):
        link.act(an_act(0))
    link.close()


def test_one_server_after_the_other_may_have_the_same_port(sessions: PolicySessions) -> None:
    with running_policy_server(sessions) as url:
        port = int(url.rpartition(":")[2])
        requests.get(f"{url}/health", timeout=PATIENT)
    with running_policy_server(sessions, port=port) as url:
        assert requests.get(f"{url}/health", timeout=PATIENT).status_code == 200


def test_a_session_outlives_its_connections(sessions: PolicySessions) -> None:
    with running_policy_server(sessions) as url:
        for t in (0, 5, 10):
            link = HttpPolicyLink(url, timeout_s=PATIENT)
            link.reset(a_reset())
            assert link.act(an_act(t)).t == t
            link.close()


def test_robots_that_ask_at_once_each_get_what_they_would_have_got_alone(sessions: PolicySessions) -> None:
    names = [f"s{number}" for number in range(4)]

    def episode(link: HttpPolicyLink, name: str) -> list[list[list[float]]]:
        link.reset(a_reset(name, seed=int(name[1:])))
        return [link.act(an_act(t, session=name)).actions for t in (0, 5, 10)]

    with running_policy_server(sessions) as url, ThreadPoolExecutor(len(names)) as threads:
        link = HttpPolicyLink(url, timeout_s=PATIENT)
        together = list(threads.map(lambda name: episode(link, name), names))
        link.close()
    alone = PolicySessions(a_policy(), PolicyRef(name="nano"), temperature=1.0)
    with running_policy_server(alone) as url:
        link = HttpPolicyLink(url, timeout_s=PATIENT)
        assert [episode(link, name) for name in names] == together
        link.close()


def test_with_a_certificate_it_speaks_tls_and_says_so(sessions: PolicySessions, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    for name, content in (
        ("server.pem", issued.cert_chain_pems[0]),
        ("server.key", issued.private_key_pem),
        ("ca.pem", authority.cert_pem),
    ):
        content.write_to_path(str(tmp_path / name))
    binding = PolicyBinding(
        token=TOKEN, tls_certificate=tmp_path / "server.pem", tls_key=tmp_path / "server.key"
    )
    with running_policy_server(sessions, binding=binding) as url:
        assert url.startswith("https://127.0.0.1:")
        link = HttpPolicyLink(url, token=TOKEN, timeout_s=PATIENT, verify=str(tmp_path / "ca.pem"))
        assert link.reset(a_reset()).policy.name == "nano"
        assert link.act(an_act(0)).t == 0
        link.close()
        stranger = HttpPolicyLink(url, timeout_s=PATIENT, verify=str(tmp_path / "ca.pem"))
        with pytest.raises(PolicyFailed, match="unauthorized"):
            stranger.reset(a_reset())
        stranger.close()
        doubter = HttpPolicyLink(url, token=TOKEN, timeout_s=PATIENT)
        with pytest.raises(PolicyUnreachable, match="SSL"):
            doubter.reset(a_reset())
        doubter.close()
        host, port = url.removeprefix("https://").split(":")
        with pytest.raises(ssl.SSLError), socket.create_connection((host, int(port)), timeout=PATIENT) as raw:
            ssl.create_default_context().wrap_socket(raw, server_hostname=host)


def test_a_policy_that_takes_its_time_keeps_nobody_else_waiting() -> None:
    policy, thinks, may_end = a_policy(), threading.Event(), threading.Event()
    slow = PolicySessions(policy, PolicyRef(name="slow"))

    def ponder(*_: object) -> None:
        thinks.set()
        assert may_end.wait(PATIENT)

    hook = policy.model.register_forward_pre_hook(ponder)
    with running_policy_server(slow) as url, ThreadPoolExecutor(1) as thread:
        link = HttpPolicyLink(url, timeout_s=PATIENT)
        link.reset(a_reset())
        deciding = thread.submit(link.act, an_act(0))
        assert thinks.wait(PATIENT)
        assert requests.get(f"{url}/health", timeout=PATIENT).json()["sessions"] == 1
        assert link.reset(a_reset("other")).session == "other"
        assert not deciding.done()
        may_end.set()
        assert deciding.result(PATIENT).t == 0
        link.close()
    hook.remove()


@pytest.mark.parametrize(("took_ms", "in_a_thread"), [(QUICK_MS, False), (QUICK_MS + 1, True)])
def test_only_a_slow_policy_is_worth_waking_a_thread_for(
    sessions: PolicySessions, took_ms: float, in_a_thread: bool
) -> None:
    policy, deciders = a_policy(), []
    sessions.swap(policy, PolicyRef(name="nano"))
    hook = policy.model.register_forward_pre_hook(lambda *_: deciders.append(threading.current_thread().name))
    sessions.last_thought_ms = took_ms
    with running_policy_server(sessions) as url:
        link = HttpPolicyLink(url, timeout_s=PATIENT)
        link.reset(a_reset())
        link.act(an_act(0))
        link.close()
    hook.remove()
    assert [name != "policy-server" for name in deciders] == [in_a_thread]


def test_a_station_that_has_the_token_is_let_in_and_another_is_not(
    sessions: PolicySessions, tmp_path: Path
) -> None:
    path = tmp_path / "policies"
    path.touch(mode=0o600)
    with running_policy_server(sessions, token=TOKEN) as url:
        path.write_text(f"{url} {TOKEN}\n")
        tokens = read_policy_tokens(path)
        link = StationPolicy(act_timeout_s=PATIENT, policy_tokens=tokens).connect(url)
        assert link.reset(a_reset()).policy.name == "nano"
        link.close()
        stranger = StationPolicy(act_timeout_s=PATIENT).connect(url)
        with pytest.raises(PolicyFailed, match="unauthorized"):
            stranger.reset(a_reset())
        stranger.close()
