"""The client against things that are not a station, or only nearly: raw sockets with canned answers."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from itertools import count

import pytest
import requests

from robot_bridge.calls import READ_TIMEOUT_S
from robot_bridge.client import ESTOP_TIMEOUT_S, StationClient
from robot_bridge.errors import (
    BadRequest,
    DigestMismatch,
    EpisodeInvalid,
    FenceStale,
    FramesCorrupt,
    Resting,
    RobotBridgeError,
    StationMisbehaved,
    StationRefused,
    StationUnreachable,
    VersionMismatch,
)
from robot_bridge.observation import read_observation
from robot_bridge.protocol import ObservationAnswer, Problem
from robot_bridge.transport import Retries, TokenUnprotected, Transport
from tests.robot_bridge.builders import an_episode

Answer = tuple[int, dict[str, str], bytes]


def as_json(tree: object, status: int = 200, **headers: str) -> Answer:
    return status, {"Content-Type": "application/json", **headers}, json.dumps(tree).encode()


def as_problem(**fields: object) -> Answer:
    body = {"type": "t", "title": "t", "status": 412, "detail": "why", "code": "fence_stale", **fields}
    return 412, {"Content-Type": "application/problem+json"}, json.dumps(body).encode()


class Canned:
    """Answers the n-th request with the n-th answer, the last one again and again; None hangs up."""

    def __init__(self, *answers: Answer | None) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(self._read(connection))
                answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
                if answer is not None:
                    connection.sendall(self._render(answer))

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        lengths = [
            line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        while len(body) < int(lengths[0] if lengths else 0):
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body

    @staticmethod
    def _render(answer: Answer) -> bytes:
        status, headers, body = answer
        lines = [f"HTTP/1.1 {status} X", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def canned() -> Iterator[Callable[..., tuple[Canned, StationClient]]]:
    opened: list[tuple[Canned, StationClient]] = []

    def serve(*answers: Answer | None) -> tuple[Canned, StationClient]:
        server = Canned(*answers)
        opened.append((server, StationClient(server.url, retries=Retries(tries=3, pause=lambda _: None))))
        return opened[-1]

    yield serve
    for server, client in opened:
        client.close()
        server.close()


STATUS = {
    "state": "IDLE",
    "lease": None,
    "episode": None,
    "estop_reason": None,
    "spooled_episodes": 0,
    "spooled_bytes": 0,
    "station_time": 1.0,
}


def test_a_connection_that_is_cut_is_tried_again(canned):
    server, client = canned(None, None, as_json(STATUS))
    assert client.status().state == "IDLE"
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_gateway_that_stumbles_is_tried_again_and_reported_when_it_stays_down(canned, status):
    page = (status, {"Content-Type": "text/html"}, b"<html>")
    server, client = canned(page, as_json(STATUS))
    assert client.status().state == "IDLE"
    server, client = canned(page)
    with pytest.raises(StationUnreachable, match=f"HTTP {status}"):
        client.status()
    assert len(server.requests) == 3


def test_a_refusal_is_raised_at_once_and_not_tried_again(canned):
    server, client = canned(as_problem(parts={"found": 1, "current": 2}))
    with pytest.raises(FenceStale, match="fence 1 is out of date, 2 is current"):
        client.status()
    assert len(server.requests) == 1


def test_a_refusal_of_a_later_version_keeps_its_words(canned):
    _, client = canned(as_problem(code="arm_bored", detail="the arm is bored"))
    with pytest.raises(StationRefused, match="arm_bored: the arm is bored"):
        client.status()


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"Content-Type": "text/html"}, b"<html>hello</html>"),
        (200, {}, b""),
        as_json([1, 2]),
        as_json({**STATUS, "state": "DANCING"}),
        as_json({"state": "IDLE"}),
        (204, {}, b""),
        (301, {"Location": "http://127.0.0.1:9/v1/status"}, b""),
        (404, {"Content-Type": "text/plain"}, b"not here"),
        (412, {"Content-Type": "application/problem+json"}, b"{"),
    ],
)
def test_something_that_is_no_station_is_recognised(canned, answer):
    server, client = canned(answer)
    with pytest.raises(StationMisbehaved, match=r"GET /v1/status"):
        client.status()
    assert len(server.requests) == 1


def test_an_answer_may_hold_more_than_this_version_knows(canned):
    _, client = canned(as_json({**STATUS, "mood": "fine"}))
    assert client.status().state == "IDLE"


def test_every_request_says_which_version_it_speaks(canned):
    server, client = canned(as_json(STATUS))
    client.status()
    assert b"station-protocol: 1.3" in server.requests[0].lower()


def test_a_retry_sends_the_very_same_request(canned):
    lease = {"lease_id": "x", "fence": 1, "ttl_s": 30.0, "heartbeat_s": 10.0, "station_time": 5.0}
    server, client = canned(None, as_json(lease, 201))
    client.acquire_lease("daemon")
    first, second = server.requests
    assert first == second
    assert b"idempotency-key: " in first.lower()


def test_two_leases_are_asked_for_with_two_keys(canned):
    lease = {"lease_id": "x", "fence": 1, "ttl_s": 30.0, "heartbeat_s": 10.0, "station_time": 5.0}
    server, client = canned(as_json(lease, 201))
    client.acquire_lease("daemon")
    client.acquire_lease("daemon")
    first, second = server.requests
    assert first != second


def test_a_station_of_another_major_version_is_not_used(canned):
    description = {
        "station_id": "s",
        "robot_model": "m",
        "software_digest": "0",
        "protocol": {"major": 2, "minor": 0},
        "capabilities": [],
        "modes": [],
        "conventions": {},
        "control_hz": 5.0,
        "cameras": [],
        "limits": {"step_xyz_max": 1, "step_rot_max": 1, "max_steps": 1, "max_actions_per_call": 1},
        "tasks": [],
    }
    _, client = canned(as_json(description))
    with pytest.raises(VersionMismatch, match=r"1\.3 was asked for, this station speaks 2\.x"):
        client.station()


def test_the_pauses_between_tries_grow():
    pauses: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    transport = Transport(f"http://127.0.0.1:{port}", retries=Retries(tries=4, pause=pauses.append))
    with pytest.raises(StationUnreachable, match="within 4 tries"):
        transport.call("GET", "/v1/health", timeout_s=1.0)
    assert pauses == [0.1, 0.2, 0.4]
    transport.close()


def test_a_station_that_takes_the_call_and_says_nothing_runs_into_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        transport = Transport(url, retries=Retries(tries=2, pause=lambda _: None))
        with pytest.raises(StationUnreachable, match="ReadTimeout"):
            transport.call("GET", "/v1/health", timeout_s=0.05)
        transport.close()


def test_a_proxy_in_the_environment_is_not_asked(monkeypatch, canned):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    _, client = canned(as_json(STATUS))
    assert client.status().state == "IDLE"


def test_a_session_of_the_callers_own_is_used(canned):
    server, _ = canned(as_json(STATUS))
    with requests.Session() as session:
        session.headers["X-Lab"] = "bench"
        assert StationClient(server.url, session=session).status().state == "IDLE"
    assert b"X-Lab: bench" in server.requests[0]


EPISODE = an_episode()
MANIFEST = (200, {"Manifest-Sha256": EPISODE.digest}, EPISODE.manifest.canonical_json())
STEPS = (200, {}, EPISODE.steps.to_npz())
FRAMES = (200, {}, EPISODE.frames.data)


def test_an_episode_is_put_together_from_three_answers(canned):
    server, client = canned(MANIFEST, STEPS, FRAMES)
    assert client.fetch_episode("episode-1").digest == EPISODE.digest
    assert [line.split()[1] for line in server.requests] == [
        b"/v1/episodes/episode-1",
        f"/v1/episodes/episode-1/blobs/{hashlib.sha256(STEPS[2]).hexdigest()}".encode(),
        f"/v1/episodes/episode-1/blobs/{hashlib.sha256(FRAMES[2]).hexdigest()}".encode(),
    ]


def test_a_blob_that_arrives_damaged_is_fetched_again(canned):
    damaged = (200, {}, STEPS[2][:-1] + b"x")
    server, client = canned(MANIFEST, damaged, STEPS, FRAMES)
    assert client.fetch_episode("episode-1").digest == EPISODE.digest
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ((MANIFEST, STEPS, (200, {}, FRAMES[2][:-1])), DigestMismatch),
        ((MANIFEST, FRAMES), DigestMismatch),
        (((200, {"Manifest-Sha256": "0" * 64}, MANIFEST[2]),), DigestMismatch),
        (((200, {}, MANIFEST[2]),), DigestMismatch),
        (((200, {"Manifest-Sha256": EPISODE.digest}, b"{}"),), EpisodeInvalid),
    ],
)
def test_an_episode_that_does_not_arrive_whole_is_not_an_episode(canned, answers, error):
    _, client = canned(*answers)
    with pytest.raises(error):
        client.fetch_episode("episode-1")


@pytest.mark.parametrize("jpeg", ["not base64!", "", "AAAA", "/9j/"])
def test_an_observation_without_a_picture_is_refused(jpeg):
    answer = ObservationAnswer(t=0, jpeg=jpeg, proprio=[0.0] * 7, qpos=[0.0] * 8, captured_at=0.0)
    with pytest.raises(FramesCorrupt):
        read_observation(answer, width=8, height=8)


def test_a_problem_says_whether_to_ask_again():
    assert Problem(type="t", title="t", status=409, detail="d", code="c").retryable is False


KEY = "gst_secret"
REDIRECTS = [301, 302, 303, 307, 308]


@pytest.mark.parametrize("status", REDIRECTS)
def test_a_redirect_is_not_followed_and_the_token_goes_nowhere_else(canned, status):
    elsewhere, _ = canned(as_json(STATUS))
    server, _ = canned((status, {"Location": elsewhere.url + "/v1/status"}, b""))
    client = StationClient(server.url, token=KEY, retries=Retries(tries=2, pause=lambda _: None))
    with pytest.raises(StationMisbehaved, match=f"HTTP {status}"):
        client.status()
    assert elsewhere.requests == []
    assert len(server.requests) == 1
    client.close()


def test_a_token_is_sent_with_every_call_in_its_header_only(canned):
    server, _ = canned(as_json(STATUS), as_json({"since": "now", "reason": "x"}))
    client = StationClient(server.url, token=KEY)
    client.status()
    client.estop("x")
    for request in server.requests:
        assert b"Authorization: Bearer gst_secret\r\n" in request
        assert request.count(b"gst_secret") == 1
    client.close()


def test_without_a_token_there_is_no_such_header(canned):
    server, client = canned(as_json(STATUS))
    client.status()
    assert b"authorization" not in server.requests[0].lower()


def test_a_token_is_not_taken_from_the_callers_home_folder(canned, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server, _ = canned(as_json(STATUS))
    client = StationClient(server.url, token=KEY)
    client.status()
    assert b"Bearer gst_secret" in server.requests[0]
    assert b"Basic" not in server.requests[0]
    client.close()


@pytest.mark.parametrize("token", ["", "a b", "gst_x\r\nX-Evil: 1", "gst_é", "x" * 501])
def test_what_can_be_no_token_is_refused_without_repeating_it(token):
    with pytest.raises(TokenUnprotected) as refused:
        StationClient("http://127.0.0.1:1", token=token)
    assert "Evil" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:8401", "http://station.lab", "http://127.0.0.1.example.org"]
)
def test_a_token_does_not_leave_this_machine_in_clear(url):
    with pytest.raises(TokenUnprotected, match="https"):
        StationClient(url, token=KEY)
    StationClient(url.replace("http:", "https:"), token=KEY).close()
    StationClient(url).close()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "http://127.9.9.9"]
)
def test_on_this_machine_a_token_needs_no_encryption(url):
    StationClient(url, token=KEY).close()


@pytest.mark.parametrize("url", ["http://me:word@127.0.0.1:1", "http://me@127.0.0.1:1", "https://:word@lab"])
def test_a_password_in_the_address_is_refused_without_repeating_it(url):
    with pytest.raises(BadRequest, match="password") as refused:
        StationClient(url)
    assert "word@" not in str(refused.value)


def test_no_error_of_a_call_holds_its_token(canned):
    answers = [None, (200, {}, b"gone"), as_problem(code="new", detail="no")]
    for answer in answers:
        server, _ = canned(answer)
        client = StationClient(server.url, token=KEY, retries=Retries(tries=1))
        with pytest.raises(RobotBridgeError) as raised:
            client.status()
        told = "".join(traceback.format_exception(raised.value))
        assert "gst_secret" not in told
        client.close()


RESTING = {"type": "t", "title": "t", "status": 503, "detail": "rests", "code": "resting"}


@pytest.mark.parametrize(
    ("parts", "header", "waits"),
    [
        ({"worked_s": 5, "retry_after_s": 70}, None, 70),
        ({"worked_s": 5, "retry_after_s": 70}, "80", 70),
        ({"worked_s": 5}, "80", 80),
    ],
)
def test_a_station_that_rests_says_when_to_ask_again(canned, parts, header, waits):
    headers = {"Content-Type": "application/problem+json"}
    headers |= {} if header is None else {"Retry-After": header}
    server, client = canned((503, headers, json.dumps({**RESTING, "parts": parts}).encode()))
    with pytest.raises(Resting, match=f"rest for {waits} s") as rests:
        client.status()
    assert (rests.value.parts["retry_after_s"], rests.value.retryable) == (waits, True)
    assert len(server.requests) == 1  # it is for whoever asked to wait


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "soon", ""])
def test_a_retry_after_that_is_no_number_of_seconds_is_no_news(canned, header):
    headers = {"Content-Type": "application/problem+json", "Retry-After": header}
    _, client = canned((503, headers, json.dumps({**RESTING, "parts": {"worked_s": 5}}).encode()))
    with pytest.raises(StationRefused, match="rests"):
        client.status()


def test_a_stop_gives_up_waiting_for_an_answer_sooner_than_other_calls():
    """Four tries of two seconds at most: a stop that cannot be delivered is known while it matters."""
    assert ESTOP_TIMEOUT_S * Retries().tries < READ_TIMEOUT_S


def as_state(state: str, outcome: str | None = None) -> Answer:
    return as_json({"episode_id": "e1", "state": state, "next_step": 1, "outcome": outcome})


def as_events(*episodes: str, cursor: int) -> Answer:
    events = [
        {"cursor": cursor, "at": "2026-01-01T12:00:00Z", "kind": "hold", "episode_id": episode}
        for episode in episodes
    ]
    return as_json({"events": events, "next_cursor": cursor, "oldest": 1})


def test_a_station_without_a_place_to_wait_is_not_asked_without_pause():
    """It answers at once and empty; an event of another episode is no reason to ask for the state."""
    pauses: list[float] = []
    ticks = count(0.0, 0.01)
    server = Canned(
        *(as_events(cursor=7), as_state("running")),
        *(as_events(cursor=7), as_events("e9", cursor=8), as_events(cursor=8), as_events("e1", cursor=9)),
        as_state("finished", "completed"),
    )
    client = StationClient(
        server.url, retries=Retries(tries=1, pause=pauses.append), clock=lambda: next(ticks)
    )
    assert client.wait_finished("e1", timeout_s=30.0).outcome == "completed"
    asked = [request.split()[1].decode().split("&")[0] for request in server.requests]
    assert [path for path in asked if "events" in path] == [
        f"/v1/events?after={after}" for after in (2**63 - 1, 7, 7, 8, 8)
    ]
    assert len([path for path in asked if path.endswith("/state")]) == 2
    assert pauses == [0.2, 0.2]
    client.close()
    server.close()


def test_a_spool_of_many_pages_is_read_to_its_end_and_its_cursor_is_quoted(canned):
    def page(name: str, cursor: str | None) -> Answer:
        episode = {"episode_id": name, "manifest_sha256": "0", "task_id": "t", "outcome": "completed", "T": 1}
        return as_json({"episodes": [episode], "next_cursor": cursor, "unreadable": []})

    server, client = canned(page("a", "1~a&b"), page("b", None))
    assert [episode.episode_id for episode in client.waiting_episodes()] == ["a", "b"]
    assert [request.split()[1] for request in server.requests] == [
        b"/v1/episodes",
        b"/v1/episodes?after=1~a%26b",
    ]


def test_whoever_waits_without_a_lease_any_more_still_learns_how_it_ended(canned):
    lease = {"lease_id": "x", "fence": 1, "ttl_s": 30.0, "heartbeat_s": 10.0, "station_time": 5.0}
    server, client = canned(
        *(as_json(lease, 201), as_events(cursor=7), as_state("running")),
        as_problem(code="unknown_lease", parts={"lease_id": "x"}),
        *(as_events("e1", cursor=8), as_state("running"), as_events("e1", cursor=9)),
        as_state("finished", "aborted_estop"),
    )
    client.acquire_lease("daemon")
    assert client.wait_finished("e1", timeout_s=30.0).outcome == "aborted_estop"
    assert sum(b"/heartbeat" in request for request in server.requests) == 1
