"""The client against real HTTP servers: a daemon of its own, and ones that misbehave."""

import socket
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import uvicorn

from daemon.app import create_app, listening_socket
from daemon.client import DaemonClient
from daemon.errors import DaemonRefused, DaemonUnreachable, IterationFailed, TokenUnusable, WaitTimedOut
from daemon.settings import Settings
from storage import access_tokens, iterations


class Server(uvicorn.Server):
    """Runs in a thread and says when it answers."""

    def __init__(self, app) -> None:
        super().__init__(uvicorn.Config(app, log_config=None))
        self.answering = threading.Event()

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets=sockets)
        self.answering.set()


@pytest.fixture
def daemon(tmp_path, sqlite_url):
    app = create_app(Settings(data_dir=tmp_path, database_url=sqlite_url, worker_count=0))
    server = Server(app)
    with listening_socket("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        assert server.answering.wait(20)
        app.state.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield app
        server.should_exit = True
        thread.join()


@contextmanager
def answering(answers):
    """A server that gives one prepared (status, type, body) per request, None being a closed connection."""
    pending = list(answers)
    seen = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("content-length") or 0)
            seen.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
            answer = pending.pop(0)
            if answer is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, kind, body = answer
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - http.server asks for this name

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


JSON = "application/json"


def test_what_is_asked_for_can_be_read_back(daemon):
    client = DaemonClient(daemon.state.url + "/")
    record = client.request_iteration({"seed": 3}, idempotency_key="k")
    assert record["number"] == 1
    assert client.request_iteration({"seed": 3}, idempotency_key="k")["number"] == 1
    assert client.iteration(1)["spec"]["seed"] == 3
    assert [item["number"] for item in client.iterations()["items"]] == [1]
    assert client.iterations(limit=1, cursor="1")["items"] == []
    assert client.success_rates()["items"] == []
    assert client.episodes(iteration=1, limit=5)["items"] == []
    assert client.checkpoints(kind="policy")["items"] == []
    assert client.film_strip(1, "open_drawer", "real") is None
    assert client.ready() is True


def test_tokens_can_be_made_listed_and_revoked(daemon):
    now = datetime.now(UTC)
    with daemon.state.services.database.write() as session:
        made = access_tokens.create(session, "ann", scopes=["admin"], expires_at=None, now=now)
    client = DaemonClient(daemon.state.url, token=made[1])
    bob = client.make_token("bob", ["read"], expires_at=now + timedelta(days=1))
    assert DaemonClient(daemon.state.url, token=bob["token"]).iterations()["items"] == []
    client.revoke_token("bob")
    assert [token["state"].split()[0] for token in client.tokens()["items"]] == ["in", "revoked"]


def test_schedules_and_hours_can_be_kept_changed_and_removed(daemon):
    client = DaemonClient(daemon.state.url)
    wish = {"name": "nightly", "trigger": {"kind": "interval", "seconds": 3600}}
    schedule = client.add_schedule(wish)
    assert client.add_schedule(wish) == schedule, "a retry keeps it once"
    paused = client.change_schedule(schedule, enabled=False)
    assert (paused["enabled"], paused["version"]) == (False, 2)
    with pytest.raises(DaemonRefused, match="precondition_failed"):
        client.change_schedule(schedule, enabled=True)
    assert client.schedule(schedule["id"]) == paused
    run = [client.run_schedule_now(schedule["id"], idempotency_key="k")["number"] for _ in range(2)]
    assert run == [1, 1]
    client.remove_schedule(schedule["id"])
    assert client.schedules()["items"] == []
    assert client.set_hours("cell-1", {"minutes_per_hour": 30})["version"] == 1
    assert client.hours("cell-1")["hours"]["minutes_per_hour"] == 30
    client.remove_hours("cell-1")
    assert client.hours("cell-1")["version"] == 0


def test_two_requests_without_a_key_are_two_iterations(daemon):
    client = DaemonClient(daemon.state.url)
    assert [client.request_iteration({})["number"] for _ in range(2)] == [1, 2]


def test_a_refusal_carries_the_daemons_code(daemon):
    client = DaemonClient(daemon.state.url)
    with pytest.raises(DaemonRefused) as refused:
        client.request_iteration({"sead": 1})
    assert (refused.value.status, refused.value.problem_code) == (422, "spec_unknown_field")
    assert "sead" in str(refused.value)
    with pytest.raises(DaemonRefused, match="page_not_found"):
        client.iteration(5)
    with pytest.raises(DaemonRefused, match="not_found"):
        client.video("nothing")


def test_nobody_there_is_told_with_what_to_do():
    with listening_socket("127.0.0.1", 0) as listener:
        address = listener.getsockname()
    url = f"http://127.0.0.1:{address[1]}"
    with pytest.raises(DaemonUnreachable, match="gymnastd serve") as failed:
        DaemonClient(url).iterations()
    assert failed.value.retryable


def test_a_broken_connection_is_tried_again_with_the_same_key():
    with answering([None, (201, JSON, b'{"number": 4}')]) as (url, seen):
        assert DaemonClient(url).request_iteration({})["number"] == 4
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in seen]
    assert len(keys) == 2
    assert keys[0] == keys[1] != ""


def test_an_act_is_sent_again_under_its_key_after_a_broken_connection():
    with answering([None, (200, JSON, b'{"number": 4}')]) as (url, seen):
        assert DaemonClient(url).skip(4, "collect")["number"] == 4
    assert [path for _, path, _, _ in seen] == ["/v1/iterations/4/skip"] * 2
    assert seen[0][2]["Idempotency-Key"] == seen[1][2]["Idempotency-Key"] != ""
    assert seen[1][3] == b'{"phase": "collect"}'


def test_an_iteration_is_steered_by_methods_of_their_names(daemon):
    client = DaemonClient(daemon.state.url)
    number = client.request_iteration({})["number"]
    assert client.pause(number)["state"] == "paused"
    assert client.resume(number)["state"] in {"requested", "running"}
    assert client.cancel(number)["state"] == "cancelled"
    with pytest.raises(DaemonRefused, match="illegal_move"):
        client.retry(number)


def test_a_connection_that_stays_broken_is_given_up():
    with answering([None] * 3) as (url, seen), pytest.raises(DaemonUnreachable):
        DaemonClient(url).iteration(1)
    assert len(seen) == 3


def test_a_refusal_is_not_repeated():
    answer = (409, JSON, b'{"code": "idempotency_mismatch", "detail": "other"}')
    with answering([answer]) as (url, seen), pytest.raises(DaemonRefused, match="idempotency_mismatch"):
        DaemonClient(url).request_iteration({}, idempotency_key="k")
    assert len(seen) == 1


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[1, 2]", b"{", b""])
def test_an_answer_of_something_else_is_not_taken_for_the_daemons(body):
    with (
        answering([(200, "text/html", body)]) as (url, _),
        pytest.raises(DaemonUnreachable, match="gymnastd"),
    ):
        DaemonClient(url).iteration(1)


@pytest.mark.parametrize("body", [b"<html>proxy</html>", b'"text"'])
def test_a_refusal_of_something_else_shows_its_text(body):
    with answering([(502, "text/html", body)]) as (url, _), pytest.raises(DaemonRefused) as refused:
        DaemonClient(url).iteration(1)
    assert (refused.value.status, refused.value.problem_code) == (502, "unknown")
    assert body.decode().strip('"')[:5] in str(refused.value)


def test_a_daemon_that_is_starting_is_not_ready_and_another_refusal_is_no_answer_to_that():
    with answering([(503, JSON, b'{"code": "not_ready"}')]) as (url, _):
        assert DaemonClient(url).ready() is False
    with answering([(404, JSON, b"{}")]) as (url, _), pytest.raises(DaemonRefused):
        DaemonClient(url).ready()


def test_a_missing_film_strip_is_none_but_a_damaged_one_is_an_error():
    with answering([(404, JSON, b"{}"), (500, JSON, b'{"code": "blob_corrupt"}')]) as (url, _):
        client = DaemonClient(url)
        assert client.film_strip(1, "open_drawer", "real") is None
        with pytest.raises(DaemonRefused, match="blob_corrupt"):
            client.film_strip(1, "open_drawer", "real")


def test_waiting_shows_every_record_and_ends_with_the_iteration(daemon, now):
    client = DaemonClient(daemon.state.url)
    client.request_iteration({})
    seen = []

    def watch(record):
        seen.append(record["state"])
        if len(seen) == 3:
            database = daemon.state.services.database
            with database.write() as session:
                rows, _ = iterations.list_iterations(session)
                iterations.fail(session, rows[0], error_code="bad_luck", message="it rained", now=now)

    with pytest.raises(IterationFailed, match="bad_luck: it rained"):
        client.wait(1, on_record=watch, poll_s=0.01)
    assert len(seen) == 4
    assert seen[-1] == "failed"


def test_a_cancelled_iteration_ends_the_waiting(daemon, now):
    client = DaemonClient(daemon.state.url)
    record = client.request_iteration({})
    with daemon.state.services.database.write() as session:
        iterations.cancel(session, record["id"], now=now)
    with pytest.raises(IterationFailed, match="cancelled"):
        client.wait(1, poll_s=0.01)


def test_waiting_has_an_end(daemon):
    client = DaemonClient(daemon.state.url)
    client.request_iteration({})
    with pytest.raises(WaitTimedOut, match="gymnastd status 1"):
        client.wait(1, poll_s=0.01, timeout_s=0.05)


def test_a_token_goes_into_a_header_of_every_call_and_nowhere_else():
    answers = [(200, JSON, b'{"items": []}'), (201, JSON, b'{"number": 4}')]
    with answering(answers) as (url, seen):
        client = DaemonClient(url, token="gmd_x_secret")
        client.iterations()
        client.request_iteration({})
    assert [headers["Authorization"] for _, _, headers, _ in seen] == ["Bearer gmd_x_secret"] * 2
    assert all("secret" not in path and b"secret" not in body for _, path, _, body in seen)
    assert "secret" not in repr(client)


def test_without_a_token_none_is_sent():
    with answering([(200, JSON, b'{"items": []}')]) as (url, seen):
        DaemonClient(url).iterations()
    assert "Authorization" not in seen[0][2]


def test_a_password_that_lies_around_does_not_replace_the_token(tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password other\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with answering([(200, JSON, b'{"items": []}')]) as (url, seen):
        DaemonClient(url, token="gmd_x_secret").iterations()
    assert seen[0][2]["Authorization"] == "Bearer gmd_x_secret"


def test_a_redirect_to_another_host_does_not_take_the_token_along():
    with answering([(200, JSON, b'{"items": []}')]) as (elsewhere, seen):
        there = elsewhere.replace("127.0.0.1", "localhost") + "/v1/iterations"
        with redirecting(there) as url:
            DaemonClient(url, token="gmd_x_secret").iterations()
    assert "Authorization" not in seen[0][2]


@contextmanager
def redirecting(there):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(307)
            self.send_header("Location", there)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "url", ["http://lab.example:8400", "http://192.0.2.1", "http://127.0.0.1.evil.example"]
)
def test_a_token_is_not_sent_in_the_open(url):
    with pytest.raises(TokenUnusable, match="everybody on the way could read it") as refused:
        DaemonClient(url, token="gmd_x_secret")
    assert "secret" not in str(refused.value)
    DaemonClient(url.replace("http", "https"), token="gmd_x_secret")


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ümlaut"])
def test_what_no_header_can_carry_is_no_token(token):
    with pytest.raises(TokenUnusable, match="characters that no token has") as refused:
        DaemonClient(token=token)
    assert token == "" or token not in str(refused.value)


def test_a_daemon_that_asks_for_a_token_is_asked_with_one(daemon, now):
    with daemon.state.services.database.write() as session:
        made = access_tokens.create(session, "ann", scopes=["operate"], expires_at=None, now=now)
    client = DaemonClient(daemon.state.url, token=made[1])
    assert client.request_iteration({"seed": 3})["number"] == 1
    with pytest.raises(DaemonRefused) as refused:
        DaemonClient(daemon.state.url).iterations()
    assert (refused.value.status, refused.value.problem_code) == (401, "unauthorized")


def test_manifests_and_differences_are_asked_for_by_number(daemon):
    client = DaemonClient(daemon.state.url)
    for seed in (1, 2):
        client.request_iteration({"seed": seed})
    assert client.manifest(1)["spec"]["seed"] == 1
    assert client.diff(1, 2)["spec"] == [{"field": "seed", "from": 1, "to": 2}]
    with pytest.raises(DaemonRefused) as refused:
        client.diff(1, 3)
    assert refused.value.problem_code == "page_not_found"
