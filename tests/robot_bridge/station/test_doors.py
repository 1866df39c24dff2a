"""The doors: what each call needs, who has it, and that nothing gets in beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from robot_bridge.station import problems
from robot_bridge.station.doors import CALLS, FAILURES_MAX, PEERS_MAX, Doors, scope_of
from robot_bridge.station.tokens import SCOPES, TokenFile
from tests.robot_bridge.builders import Clock

HERE, FAR = ("127.0.0.1", 40000), ("192.0.2.7", 40000)
CASES = [(method, path.replace("[^/]+", "x1"), scope) for method, path, scope in CALLS]
Enter = Callable[..., TestClient]


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def enter(tokens: TokenFile, clock: Clock) -> Enter:
    """A client of an app that has every call of the protocol, and one that the table does not know."""

    def client(*scopes: str, peer: tuple[str, int] = HERE, guarded: bool = True) -> TestClient:
        app = FastAPI(openapi_url=None)
        for method, path, _ in CALLS:
            app.add_api_route(
                path.replace("[^/]+", "{x}", 1).replace("[^/]+", "{y}"), lambda: "in", methods=[method]
            )
        app.add_api_route("/v1/secret", lambda: "in", methods=["POST"])
        app.add_middleware(Doors, tokens=tokens if guarded else None, clock=clock)
        problems.install(app)
        headers = {}
        if scopes:
            name = f"t{len(tokens.tokens())}"
            headers = {"Authorization": f"Bearer {tokens.create(name, scopes)}"}
        return TestClient(app, headers=headers, client=peer)

    return client


def code(answer: object) -> str:
    return answer.json()["code"]  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(("method", "path", "scope"), CASES)
def test_every_call_takes_its_own_scope_and_no_other(enter, method, path, scope):
    others = [other for other in SCOPES if other != scope]
    refused = enter(*others).request(method, path)
    granted = enter(*([scope] if scope else others[:1])).request(method, path)
    assert granted.text == '"in"'
    if scope is None:
        assert refused.text == '"in"'
    else:
        assert (refused.status_code, code(refused)) == (403, "forbidden")
        assert f"needs the scope {scope}" in refused.json()["detail"]


@pytest.mark.parametrize(("method", "path", "scope"), CASES)
def test_where_there_are_tokens_nobody_gets_in_without_one(enter, method, path, scope):
    answer = enter().request(method, path)
    if scope is None:
        assert answer.text == '"in"'
    else:
        assert (answer.status_code, code(answer)) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path", "scope"), CASES)
def test_where_there_are_none_everybody_here_may_all_but_operate(enter, method, path, scope):
    answer = enter(guarded=False).request(method, path)
    if scope == "operate":
        assert (answer.status_code, code(answer)) == (403, "forbidden")
    else:
        assert answer.text == '"in"'


@pytest.mark.parametrize(("method", "path", "scope"), [case for case in CASES if case[2] == "operate"])
@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "fe80::1", "testclient", ""])
def test_operating_is_for_somebody_at_the_station(enter, method, path, scope, peer):
    answer = enter(*SCOPES, peer=(peer, 1)).request(method, path)
    assert (answer.status_code, code(answer)) == (403, "forbidden")
    assert "at the station itself" in answer.json()["detail"]


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_every_name_of_this_machine_is_at_the_station(enter, peer):
    assert enter("operate", peer=(peer, 1)).post("/v1/human/done").text == '"in"'


def test_a_call_that_the_table_does_not_know_needs_operate(enter):
    assert code(enter(*(scope for scope in SCOPES if scope != "operate")).post("/v1/secret")) == "forbidden"
    assert code(enter(guarded=False).post("/v1/secret")) == "forbidden"
    assert code(enter().post("/v1/secret")) == "unauthorized"
    assert enter("operate").post("/v1/secret").text == '"in"'


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/secret", 405),
        ("PUT", "/v1/status", 405),
        ("GET", "/", 404),
    ],
)
def test_what_the_app_does_not_have_is_unknown_to_everybody(enter, method, path, status):
    for client in (enter(), enter("observe"), enter(guarded=False)):
        answer = client.request(method, path)
        assert (answer.status_code, code(answer)) == (status, "unknown_call")


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/v1/estop%2Fclear",
            "//v1/estop/clear",
            "/v1/estop/clear/",
            "/V1/estop/clear",
            "/v1/./estop/clear",
        ),
        *(
            "/v1/maintenance/sleep/",
            "/v1/maintenance/sleep%0a",
            "/v1/maintenance%2Fsleep",
            "/v1/human/done;x",
        ),
    ],
)
def test_no_spelling_of_an_operators_call_gets_a_driver_in(enter, path):
    answer = enter("observe", "drive", "label", "estop").post(path)
    assert answer.text != '"in"'
    assert answer.status_code in {403, 404}


def test_the_table_knows_each_call_by_its_whole_path():
    assert scope_of("GET", "/v1/health") == (True, None)
    assert scope_of("GET", "/v1/healthy") == (False, None)
    assert scope_of("POST", "/v1/health") == (False, None)
    assert scope_of("GET", "/v1/episodes/a/b") == (False, None)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "bearer  ",
        "Basic Z3N0XzpnczQ=",
        "gst_abc",
        "Bearer gst_abc",
        "Bearer \xe9\xff",
    ],
)
def test_what_is_no_known_token_is_refused_and_not_repeated(enter, value, caplog):
    with caplog.at_level(logging.DEBUG):
        answer = enter().get("/v1/status", headers={"Authorization": value.encode("latin-1")})
    assert (answer.status_code, code(answer)) == (401, "unauthorized")
    for secret in ("gst_abc", "Z3N0"):
        assert secret not in answer.text
        assert secret not in caplog.text


def test_two_tokens_in_one_call_are_none(enter, tokens):
    secret = tokens.create("daemon", SCOPES)
    sent = [("Authorization", f"Bearer {secret}"), ("Authorization", "Bearer gst_other")]
    assert code(enter().get("/v1/status", headers=sent)) == "unauthorized"


def test_the_scheme_is_read_in_any_case(enter, tokens):
    secret = tokens.create("daemon", SCOPES)
    assert enter().get("/v1/status", headers={"Authorization": f"bEARER {secret}"}).status_code == 200


@pytest.mark.parametrize(
    "query",
    ["token=x", "TOKEN=x", "access_token=", "a=1&api_key=3", "x=gst_abcdef", "gst_abcdef", "authorization=x"],
)
def test_a_token_in_the_url_is_refused_whoever_sends_it(enter, query, caplog):
    for client in (enter(*SCOPES), enter(guarded=False)):
        with caplog.at_level(logging.DEBUG, logger="robot_bridge"):
            answer = client.get(f"/v1/status?{query}")
        assert (answer.status_code, code(answer)) == (422, "bad_request")
        assert "gst_abcdef" not in answer.text + caplog.text


def test_a_revoked_token_is_out_at_once(enter, tokens):
    client = enter("observe")
    assert client.get("/v1/status").status_code == 200
    tokens.revoke("t0")
    assert client.get("/v1/status").status_code == 401


def test_a_web_page_drives_nothing(enter):
    page = {"Origin": "https://example.org"}
    for client in (enter(*SCOPES), enter(guarded=False)):
        assert code(client.post("/v1/leases", headers=page)) == "bad_request"
        assert client.post("/v1/estop", headers=page).text == '"in"'
        assert client.get("/v1/health", headers=page).text == '"in"'


def test_whoever_tries_tokens_is_made_to_wait_and_nobody_else(enter, clock):
    client = enter(peer=FAR)
    answers = [client.get("/v1/status") for _ in range(FAILURES_MAX + 1)]
    assert [answer.status_code for answer in answers] == [401] * FAILURES_MAX + [429]
    assert code(answers[-1]) == "rate_limited"
    assert answers[-1].headers["Retry-After"] == str(answers[-1].json()["parts"]["retry_after_s"]) == "60"


def test_waiting_helps_who_was_made_to_wait(enter, clock):
    client = enter(peer=FAR)
    for _ in range(FAILURES_MAX):
        client.get("/v1/status")
    clock.advance(59.0)
    assert client.get("/v1/status").headers["Retry-After"] == "1"
    clock.advance(1.0)
    assert client.get("/v1/status").status_code == 401


def test_another_peer_and_a_known_token_do_not_wait(tokens, clock):
    app = FastAPI()
    app.add_api_route("/v1/status", lambda: "in")
    app.add_api_route("/v1/estop", lambda: "in", methods=["POST"])
    app.add_middleware(Doors, tokens=tokens, clock=clock)
    problems.install(app)
    far, near = TestClient(app, client=FAR), TestClient(app, client=HERE)
    statuses = [far.get("/v1/status").status_code for _ in range(FAILURES_MAX + 1)]
    assert statuses[-1] == 429
    assert near.get("/v1/status").status_code == 401
    known = {"Authorization": f"Bearer {tokens.create('daemon', ['observe'])}"}
    assert far.get("/v1/status", headers=known).status_code == 200
    assert far.get("/v1/status").status_code == 429


def test_an_emergency_stop_is_never_made_to_wait(enter, tokens):
    client = enter(peer=FAR)
    answers = {client.post("/v1/estop").status_code for _ in range(3 * FAILURES_MAX)}
    assert answers == {401}
    known = {"Authorization": f"Bearer {tokens.create('button', ['estop'])}"}
    assert {client.post("/v1/estop", headers=known).status_code for _ in range(3 * FAILURES_MAX)} == {200}


def test_an_emergency_stop_does_not_wait_for_the_token_file(enter, tokens):
    """Once known, a token stops the arm whatever became of the file, until another call has looked at it."""
    client = enter("estop", "observe")
    assert client.post("/v1/estop").status_code == 200
    tokens.path.unlink()
    assert client.post("/v1/estop").status_code == 200
    assert client.get("/v1/status").status_code == 401
    assert client.post("/v1/estop").status_code == 401


def test_a_flood_of_peers_does_not_grow_without_end(tokens, clock):
    doors = Doors(FastAPI(), tokens=tokens, clock=clock)
    for n in range(PEERS_MAX + 50):
        doors._failures.add(f"10.0.{n // 250}.{n % 250}")
    assert len(doors._failures._times) == PEERS_MAX


def test_what_was_refused_is_logged_without_what_was_sent(enter, caplog):
    with caplog.at_level(logging.WARNING):
        enter(peer=FAR).get("/v1/status", headers={"Authorization": "Bearer gst_wrong"})
    assert "call='GET /v1/status' peer=192.0.2.7 found=an unknown one" in caplog.text
    assert "gst_wrong" not in caplog.text
