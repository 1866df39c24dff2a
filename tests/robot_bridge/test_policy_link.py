"""The link to a policy against servers that answer well, badly, slowly, twice or not at all."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from robot_bridge.callback import PolicyActRequest
from robot_bridge.errors import (
    BadObservation,
    BadRequest,
    EndpointRefused,
    PolicyFailed,
    PolicyUnreachable,
    RobotBridgeError,
    UnknownSession,
)
from robot_bridge.policy_link import ANSWER_MAX_BYTES, HttpPolicyLink, checked_endpoint
from robot_bridge.protocol import ObservationAnswer
from tests.robot_bridge.canned_policy import (
    Script,
    as_json,
    as_problem,
    canned_policy,
    hangs_up,
    rendered,
    says,
)
from tests.robot_bridge.scripted_policy import a_reset

SECRET = "very-secret-token"  # noqa: S105
PATIENT = 30.0  # seconds; a call that needs them has hung
READY = {"session": "session-1", "policy": {"name": "p", "version": "1"}, "chunk": 2}
ACTED = {"session": "session-1", "t": 4, "actions": [[0.0] * 7, [0.5] * 7], "infer_ms": 1.5}
OBSERVATION = ObservationAnswer(t=4, jpeg="AAAA", proprio=[0.0] * 7, qpos=[], captured_at=0.0)
ACT = PolicyActRequest(session="session-1", t=4, observation=OBSERVATION)


def linked(url: str, timeout_s: float = PATIENT, token: str | None = None) -> HttpPolicyLink:
    return HttpPolicyLink(url, timeout_s=timeout_s, token=token)


def test_the_two_calls_are_those_of_the_callback_contract() -> None:
    with canned_policy(as_json(READY), as_json(ACTED)) as server:
        link = linked(server.url + "/lab/", token=SECRET)
        assert link.reset(a_reset()).chunk == 2
        answer = link.act(ACT)
        link.close()
    assert answer.actions == ACTED["actions"]
    assert [request.split(b" HTTP")[0] for request in server.requests] == [
        b"POST /lab/v1/policy/reset",
        b"POST /lab/v1/policy/act",
    ]
    bodies = [json.loads(request.split(b"\r\n\r\n", 1)[1]) for request in server.requests]
    assert bodies == [a_reset().model_dump(), ACT.model_dump()]
    for request in server.requests:
        assert f"authorization: bearer {SECRET}".encode() in request.lower()
        assert b"content-type: application/json" in request.lower()


def test_one_connection_serves_all_calls_of_a_thread() -> None:
    with canned_policy(as_json(ACTED)) as server:
        link = linked(server.url)
        for _ in range(3):
            link.act(ACT)
        assert server.connections == 1
        link.close()


def test_threads_do_not_share_connections_and_do_not_wait_for_each_other() -> None:
    together = threading.Barrier(3, timeout=PATIENT)

    def meets(connection: socket.socket) -> None:
        together.wait()  # answers only once all three requests are here
        as_json(ACTED)(connection)

    with canned_policy(meets) as server, ThreadPoolExecutor(3) as threads:
        link = linked(server.url)
        answers = list(threads.map(link.act, [ACT] * 3))
        assert [answer.t for answer in answers] == [4, 4, 4]
        assert server.connections == 3
        link.close()


def test_a_closed_link_opens_again() -> None:
    with canned_policy(as_json(ACTED)) as server:
        link = linked(server.url)
        link.act(ACT)
        link.close()
        link.act(ACT)
        link.close()
        assert server.connections == 2


@pytest.mark.parametrize(
    "lost",
    [hangs_up, lambda c: c.sendall(rendered(200, b"{}")[:-30]) or hangs_up(c)],
    ids=["silent", "cut in its headers"],
)
def test_a_lost_connection_is_asked_again_with_the_very_same_request(lost: Script) -> None:
    with canned_policy(lost, as_json(ACTED)) as server:
        link = linked(server.url)
        assert link.act(ACT).t == 4
        link.close()
    first, second = server.requests
    assert first == second


def test_an_answer_that_stops_before_its_length_is_a_lost_one() -> None:
    def half(connection: socket.socket) -> None:
        whole = rendered(200, json.dumps(ACTED).encode(), Content_Type="application/json")
        connection.sendall(whole[:-10])
        hangs_up(connection)

    with canned_policy(half, as_json(ACTED)) as server:
        link = linked(server.url)
        assert link.act(ACT).actions == ACTED["actions"]
        link.close()
    assert len(server.requests) == 2


def test_a_connection_that_is_lost_again_and_again_is_given_up() -> None:
    with canned_policy(hangs_up) as server:
        link = linked(server.url)
        with pytest.raises(PolicyUnreachable, match="did not answer /v1/policy/act"):
            link.act(ACT)
        link.close()
    assert len(server.requests) == 3


def test_a_policy_that_is_not_there_is_told_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(PolicyUnreachable, match="ConnectionRefusedError") as caught:
        linked(f"http://127.0.0.1:{port}").reset(a_reset())
    assert caught.value.retryable


def test_a_policy_that_takes_the_call_and_says_nothing_runs_into_the_deadline_once() -> None:
    with canned_policy(lambda connection: None) as server:
        link = linked(server.url, timeout_s=0.1)
        with pytest.raises(PolicyUnreachable, match=r"within 0\.1 s"):
            link.act(ACT)
        link.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize("where", ["status line", "headers", "body"])
def test_an_answer_that_trickles_is_over_at_the_deadline(where: str) -> None:
    whole = rendered(200, json.dumps(ACTED).encode(), Content_Type="application/json")
    at = {"status line": 0, "headers": 20, "body": len(whole) - 60}[where]
    with canned_policy(lambda connection: trickle(connection)) as server:  # noqa: PLW0108 - defined below

        def trickle(connection: socket.socket) -> None:
            connection.sendall(whole[:at])
            for byte in whole[at:]:
                connection.sendall(bytes([byte]))
                server.closing.wait(0.03)

        link = linked(server.url, timeout_s=0.3)
        begun = time.monotonic()
        with pytest.raises(PolicyUnreachable):
            link.act(ACT)
        assert time.monotonic() - begun < 0.03 * len(whole[at:])  # it was not read to its end
        link.close()


def test_a_deadline_that_was_missed_does_not_spoil_the_next_call() -> None:
    with canned_policy(lambda connection: None, as_json(ACTED)) as server:
        link = linked(server.url, timeout_s=0.5)
        with pytest.raises(PolicyUnreachable):
            link.act(ACT)
        assert link.act(ACT).t == 4
        link.close()


@pytest.mark.parametrize(
    ("script", "raised", "said"),
    [
        (as_problem("policy_failed", "weights are gone"), PolicyFailed, "policy_failed: weights are gone"),
        (as_problem("unknown_session", status=404, session="x"), UnknownSession, "no session session-1"),
        (as_problem("bad_request", "t is 4", status=422), PolicyFailed, "bad_request: t is 4"),
        (as_problem("unauthorized", "no token", status=401), PolicyFailed, "unauthorized: no token"),
        (as_problem("bored"), PolicyFailed, "bored: why"),
        (
            as_problem("bad_observation", status=422, thing="picture", expected="a JPEG", found="ink"),
            BadObservation,
            "picture must be a JPEG, found ink",
        ),
        (as_problem("bad_observation", "no parts"), PolicyFailed, "bad_observation: no parts"),
        (says(503, b"{", Content_Type="application/problem+json"), PolicyFailed, "cannot be read"),
    ],
    ids=["failed", "unknown", "bad", "token", "new", "picture", "partless", "broken"],
)
def test_a_refusal_is_raised_as_what_it_means_and_not_asked_again(
    script: Script, raised: type[RobotBridgeError], said: str
) -> None:
    with canned_policy(script) as server:
        link = linked(server.url)
        with pytest.raises(raised, match=said):
            link.act(ACT)
        link.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (as_json({**ACTED, "t": 5}), "t 4 was answered for t 5"),
        (as_json({**ACTED, "session": "session-2"}), "answered for session session-2"),
        (as_json({**ACTED, "actions": []}), "PolicyActAnswer: actions"),
        (as_json({**ACTED, "actions": [["left"] * 7]}), r"PolicyActAnswer: actions\.0\.0"),
        (as_json({**ACTED, "infer_ms": -1}), "infer_ms"),
        (as_json([1, 2]), "PolicyActAnswer"),
        (as_json("error"), "PolicyActAnswer"),
        (says(200, b"<html>"), "PolicyActAnswer: the body"),
        (says(200, b""), "PolicyActAnswer"),
        (says(204, b""), "HTTP 204"),
        (says(500, b"oops"), "HTTP 500"),
        (says(302, b"", Location="http://127.0.0.1:9/"), "HTTP 302"),
        (says(200, b"[" * (ANSWER_MAX_BYTES + 1)), "more than 65536 bytes"),
    ],
    ids=["t", "session", "none", "words", "time", "list", "text", "html", "", "204", "500", "302", "long"],
)
def test_an_answer_that_is_none_is_a_failure_of_the_policy(script: Script, said: str) -> None:
    with canned_policy(script) as server:
        link = linked(server.url)
        with pytest.raises(PolicyFailed, match=said):
            link.act(ACT)
        link.close()
    assert len(server.requests) == 1


def test_a_session_other_than_the_one_reset_is_a_failure() -> None:
    with canned_policy(as_json({**READY, "session": "session-2"})) as server:
        link = linked(server.url)
        with pytest.raises(PolicyFailed, match="answered for session session-2"):
            link.reset(a_reset())
        link.close()


def test_an_answer_may_hold_more_than_this_version_knows() -> None:
    with canned_policy(as_json({**ACTED, "mood": "fine"})) as server:
        link = linked(server.url)
        assert link.act(ACT).infer_ms == 1.5
        link.close()


def test_numbers_are_not_judged_here() -> None:
    with canned_policy(says(200, json.dumps({**ACTED, "actions": [[float("nan")] * 7]}).encode())) as server:
        link = linked(server.url)
        assert len(link.act(ACT).actions) == 1
        link.close()


@pytest.mark.parametrize(
    "script",
    [as_problem("policy_failed", f"you said {SECRET}"), as_json({SECRET: 1}), says(500, SECRET.encode())],
    ids=["problem", "answer", "error"],
)
def test_the_token_is_in_no_error_and_no_log(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    with canned_policy(script) as server, caplog.at_level(logging.DEBUG):
        link = linked(server.url, token=SECRET)
        with pytest.raises(PolicyFailed) as caught:
            link.act(ACT)
        link.close()
    assert SECRET not in str(caught.value) + repr(caught.value.parts)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "tök"])
def test_a_token_that_no_header_can_carry_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(BadRequest) as caught:
        HttpPolicyLink("http://127.0.0.1", token=token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://user:hunter2@127.0.0.1:8000",
        "http://hunter2@127.0.0.1:8000",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "127.0.0.1:8000",
        "http://",
        "",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:0",
        "http://[::1",
        "http://127.0.0.1/?key=hunter2",
        "http://127.0.0.1/#hunter2",
    ],
)
def test_only_a_plain_address_is_an_endpoint(endpoint: str) -> None:
    with pytest.raises(EndpointRefused) as caught:
        HttpPolicyLink(endpoint)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:8000", "https://policy.lab", "http://[::1]:8000/gate"]
)
def test_an_address_is_kept_but_for_the_slash_at_its_end(endpoint: str) -> None:
    assert checked_endpoint(endpoint) == checked_endpoint(endpoint + "/") == endpoint


def test_neither_a_proxy_nor_a_netrc_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w") as file:  # noqa: PTH123
        file.write("machine 127.0.0.1 login lab password hunter2\n")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", netrc)
    with canned_policy(as_json(ACTED)) as server:
        link = linked(server.url)
        link.act(ACT)
        link.close()
    assert b"authorization" not in server.requests[0].lower()
