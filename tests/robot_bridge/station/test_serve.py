"""A station as a program: bound to loopback, and killed, with what it keeps and what it must not repeat."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import trustme

from robot_bridge.client import StationClient
from robot_bridge.errors import (
    BindRefused,
    EStopped,
    SpoolBusy,
    StationUnreachable,
    Unauthorized,
    UnknownOutcome,
)
from robot_bridge.listening import TlsUnusable
from robot_bridge.station.doors import FAILURES_MAX
from robot_bridge.station.estop import EStopLatch
from robot_bridge.station.serve import Binding, running_station, serve_station
from robot_bridge.station.tokens import TokenFile
from robot_bridge.transport import Retries
from tests.robot_bridge.builders import a_request, forward
from tests.robot_bridge.toy_driver import ToyDriver

PROGRAM = Path(__file__).with_name("toy_station.py")
Start = Callable[..., tuple[subprocess.Popen[str], StationClient]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts station programs on one spool, and clients of theirs that try twice without waiting."""
    programs: list[subprocess.Popen[str]] = []
    clients: list[StationClient] = []

    def begin(*, die_at: int = 0) -> tuple[subprocess.Popen[str], StationClient]:
        command = [sys.executable, str(PROGRAM), str(tmp_path / "spool"), str(tmp_path / "log"), str(die_at)]
        programs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert programs[-1].stdout is not None
        url = programs[-1].stdout.readline().strip()
        clients.append(StationClient(url, retries=Retries(tries=2, pause=lambda _: None)))
        return programs[-1], clients[-1]

    yield begin
    for client in clients:
        client.close()
    for program in programs:
        if program.poll() is None:
            program.kill()
        program.communicate()


def moves(tmp_path: Path) -> int:
    log = tmp_path / "log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def run_episode(client: StationClient, episode_id: str, steps: int = 6) -> str:
    """One whole episode; gives the digest of its manifest."""
    client.create_episode(a_request(episode_id=episode_id, max_steps=steps))
    client.step(episode_id, 0, forward(steps))
    return client.finish(episode_id).digest


def test_finished_episodes_that_nobody_acknowledged_survive_a_killed_station(start, tmp_path):
    program, client = start()
    client.acquire_lease("daemon")
    digests = {name: run_episode(client, name) for name in ("e1", "e2", "e3")}
    client.ack(client.fetch_episode("e2"))
    os.kill(program.pid, signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL

    _, client = start()
    assert {e.episode_id: e.manifest_sha256 for e in client.waiting_episodes()} == {
        "e1": digests["e1"],
        "e3": digests["e3"],
    }
    for name in ("e1", "e3"):
        episode = client.fetch_episode(name)
        assert (episode.digest, episode.manifest.T, len(episode.frames)) == (digests[name], 6, 7)
        assert episode.frames.decode_all().shape == (7, 32, 32, 3)
        client.ack(episode)
    assert client.waiting_episodes() == ()
    assert moves(tmp_path) == 18


def test_a_step_during_which_the_station_died_is_never_executed_again(start, tmp_path):
    program, client = start(die_at=3)
    client.acquire_lease("daemon")
    client.create_episode(a_request(episode_id="e1"))
    client.step("e1", 0, forward(2))
    with pytest.raises(StationUnreachable) as unreachable:
        client.step("e1", 2, forward(1))
    assert unreachable.value.retryable
    assert program.wait() == -signal.SIGKILL

    _, client = start()
    client.acquire_lease("daemon")
    with pytest.raises(UnknownOutcome, match="step 2"):
        client.step("e1", 2, forward(1))
    assert moves(tmp_path) == 3
    assert client.waiting_episodes() == ()
    run_episode(client, "e2")
    assert moves(tmp_path) == 9


def test_fences_rise_over_a_killed_station(start):
    program, client = start()
    first = client.acquire_lease("daemon").fence
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    _, client = start()
    assert client.acquire_lease("other").fence == first + 1


def test_an_emergency_stop_survives_a_killed_station_until_somebody_clears_it_there(start, tmp_path):
    program, client = start()
    client.estop("hand in the cell")
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    _, client = start()
    assert client.status().state == "ESTOPPED"
    with pytest.raises(EStopped, match="hand in the cell"):
        client.acquire_lease("daemon")
    EStopLatch(tmp_path / "spool").clear()
    client.acquire_lease("daemon")
    run_episode(client, "e1")


def test_a_station_that_is_asked_to_end_keeps_the_open_episode(start):
    program, client = start()
    client.acquire_lease("daemon")
    client.create_episode(a_request(episode_id="e1"))
    client.step("e1", 0, forward(2))
    client.close()
    program.terminate()
    assert program.wait() == -signal.SIGTERM
    _, client = start()
    episode = client.fetch_episode("e1")
    assert (episode.manifest.outcome, episode.manifest.T) == ("aborted_lease", 2)


def test_the_heartbeat_of_a_killed_daemon_stops_and_the_next_one_gets_the_robot(start, tmp_path):
    """The lease runs out by itself and the station, uncalled, puts the abandoned episode into the spool."""
    _, client = start()
    client.acquire_lease("first daemon", ttl_s=0.5)
    client.create_episode(a_request(episode_id="e1"))
    client.step("e1", 0, forward(2))
    spooled = tmp_path / "spool" / "episodes" / "e1"
    while not spooled.exists():  # nobody calls the station: its own watch must do it
        os.sched_yield()
    with client.leased("second daemon"):
        assert run_episode(client, "e2")
    assert client.fetch_episode("e1").manifest.outcome == "aborted_lease"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org", ""])  # noqa: S104
def test_a_station_without_a_password_listens_on_loopback_only(tmp_path, host):
    with pytest.raises(BindRefused, match="loopback"):
        serve_station(
            ToyDriver(),
            binding=Binding(host=host),
            spool=tmp_path,
            station_id="bench",
            announce=lambda _: None,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_second_station_on_the_same_spool_is_refused_and_lets_go_of_its_port(tmp_path):
    with (
        running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench"),
        socket.socket() as probe,
    ):
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        with pytest.raises(SpoolBusy):
            serve_station(
                ToyDriver(),
                binding=Binding(port=port),
                spool=tmp_path / "spool",
                station_id="two",
                announce=lambda _: None,
            )
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))


def test_a_station_in_a_thread_closes_its_driver_and_frees_its_spool(tmp_path):
    driver = ToyDriver()
    for _ in range(2):
        with running_station(driver, spool=tmp_path / "spool", station_id="bench") as url:
            client = StationClient(url)
            assert client.status().state == "IDLE"
            client.close()
    assert driver.closed == 2


@dataclass
class Certificates:
    """A lab's own authority, and a station's certificate for this machine."""

    authority: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def lab_tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")
    found = Certificates(folder / "ca.pem", folder / "station.pem", folder / "station.key")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(found.authority))
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(str(found.key))
    issued.cert_chain_pems[0].write_to_path(str(found.certificate))
    return found


def safe(tls: Certificates, tokens: TokenFile | None = None, **changes: object) -> Binding:
    fields = {"tls_certificate": tls.certificate, "tls_key": tls.key, "tokens": tokens, **changes}
    return Binding(**fields)


ONCE = Retries(tries=1)


def test_with_tls_and_tokens_a_station_is_for_the_whole_lab(tmp_path, lab_tls):
    tokens = TokenFile(tmp_path / "tokens.json")
    secret = tokens.create("daemon", ["observe", "drive", "estop"])
    binding = safe(lab_tls, tokens, host="0.0.0.0")  # noqa: S104 - this is what it is for
    with running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench", binding=binding) as url:
        assert url.startswith("https://0.0.0.0:")
        address = url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        client = StationClient(address, token=secret, verify=str(lab_tls.authority), retries=ONCE)
        client.acquire_lease("daemon")
        assert run_episode(client, "e1")
        assert client.fetch_episode("e1").manifest.T == 6
        assert client.estop("end").reason == "end"
        client.close()
        stranger = StationClient(address, verify=str(lab_tls.authority), retries=ONCE)
        with pytest.raises(Unauthorized):
            stranger.status()
        stranger.close()


def test_a_station_that_shows_a_certificate_of_others_is_not_talked_to(tmp_path, lab_tls):
    tokens = TokenFile(tmp_path / "tokens.json")
    secret = tokens.create("daemon", ["observe", "estop"])
    binding = safe(lab_tls, tokens)
    with running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench", binding=binding) as url:
        client = StationClient(url, token=secret, retries=ONCE)  # knows the system's authorities only
        for call in (client.status, client.estop):
            with pytest.raises(StationUnreachable, match="SSLError") as refused:
                call()
            assert secret not in str(refused.value)
        client.close()


def test_a_station_with_tls_does_not_answer_in_clear(tmp_path, lab_tls):
    with running_station(
        ToyDriver(), spool=tmp_path / "spool", station_id="bench", binding=safe(lab_tls)
    ) as url:
        client = StationClient(url.replace("https", "http"), retries=ONCE)
        with pytest.raises(StationUnreachable):
            client.health()
        client.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "station.lab", ""])  # noqa: S104
@pytest.mark.parametrize("has", ["neither", "tls", "tokens"])
def test_half_of_what_protects_is_none(tmp_path, lab_tls, host, has):
    tls = {"tls_certificate": lab_tls.certificate, "tls_key": lab_tls.key} if has == "tls" else {}
    tokens = TokenFile(tmp_path / "tokens.json") if has == "tokens" else None
    missing = {"neither": "TLS and tokens", "tls": "tokens", "tokens": "TLS"}[has]
    with pytest.raises(BindRefused, match=f"without {missing} listens on loopback only"):
        Binding(host=host, tokens=tokens, **tls).check()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_this_machine_needs_no_protection(host):
    Binding(host=host).check()


@pytest.mark.parametrize("fault", ["no key", "no certificate", "swapped", "gone", "of another"])
def test_certificate_and_key_that_do_not_fit_are_told_before_anything_listens(tmp_path, lab_tls, fault):
    other = tmp_path / "other.key"
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(str(other))
    certificate, key = {
        "no key": (lab_tls.certificate, None),
        "no certificate": (None, lab_tls.key),
        "swapped": (lab_tls.key, lab_tls.certificate),
        "gone": (tmp_path / "nothing.pem", lab_tls.key),
        "of another": (lab_tls.certificate, other),
    }[fault]
    with pytest.raises(TlsUnusable, match="certificate and its key"):
        serve_station(
            ToyDriver(),
            spool=tmp_path / "spool",
            station_id="bench",
            announce=lambda _: pytest.fail("it listens"),
            binding=Binding(tls_certificate=certificate, tls_key=key),
        )
    assert not (tmp_path / "spool").exists()


def spooled(url: str) -> tuple[str, bytes]:
    """One finished episode: the path of its frames, and what is in them."""
    client = StationClient(url)
    client.acquire_lease("daemon")
    run_episode(client, "e1")
    episode = client.fetch_episode("e1")
    client.release()
    client.close()
    return f"{url}/v1/episodes/e1/blobs/{episode.manifest.blob_sha256('frames.bin')}", episode.frames.data


def test_a_blob_is_also_given_in_parts(tmp_path):
    with (
        running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench") as url,
        requests.Session() as http,
    ):
        path, content = spooled(url)

        def part(which: str) -> requests.Response:
            return http.get(path, headers={"Range": f"bytes={which}"}, timeout=20)

        assert http.get(path, timeout=20).content == content
        first, rest, last = part("0-99"), part("100-"), part("-7")
        assert (first.status_code, first.content) == (206, content[:100])
        assert first.headers["Content-Range"] == f"bytes 0-99/{len(content)}"
        assert first.content + rest.content == content
        assert last.content == content[-7:]
        beyond = part(f"{len(content)}-")
        assert (beyond.status_code, beyond.json()["code"]) == (422, "bad_request")


def test_who_claims_to_come_from_this_machine_is_believed_by_nobody(tmp_path):
    """A header that proxies write changes neither who may operate nor whose tries are counted."""
    tokens = TokenFile(tmp_path / "tokens.json")
    secret = tokens.create("operator", ["operate"])
    with (
        running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench", tokens=tokens) as url,
        requests.Session() as http,
    ):

        def done(claimed: str, token: str) -> requests.Response:
            headers = {"X-Forwarded-For": claimed, "Authorization": f"Bearer {token}"}
            return http.post(f"{url}/v1/human/done", headers=headers, timeout=20)

        assert done("192.0.2.1", secret).status_code == 204
        answers = [done(f"192.0.2.{n}", "gst_wrong").status_code for n in range(FAILURES_MAX + 1)]
        assert answers == [401] * FAILURES_MAX + [429]


def test_a_station_that_ends_lets_nobody_wait_for_events(tmp_path):
    """The wait would last thirty seconds, and so would the end of the station; the answer may take twenty."""
    answers: list[bytes] = []
    with running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench") as url:
        client = StationClient(url)
        newest = client.events(2**63 - 1).next_cursor
        parts = urlsplit(url)
        waiting = socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=20.0)
        waiting.sendall(f"GET /v1/events?after={newest}&wait=30 HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        assert client.health().live  # asked later, answered: the station has read the other request, too
        client.close()

        def read() -> None:
            with suppress(TimeoutError):
                while content := waiting.recv(65536):
                    answers.append(content)

        reading = threading.Thread(target=read)
        reading.start()
    reading.join()
    waiting.close()
    assert b"".join(answers).startswith(b"HTTP/1.1 200")
    assert b'"events":[]' in b"".join(answers)
