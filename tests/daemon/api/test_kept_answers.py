"""Answers that are given again: only while nothing was written, only to those who may read them."""

import asyncio
import sqlite3
import threading
from collections import Counter
from types import SimpleNamespace

import pytest
from fastapi import Request, Response
from sqlalchemy.exc import OperationalError

from daemon.api import checkpoints, episodes, iterations, success_rates
from daemon.api.callers import ANYBODY, Caller
from daemon.api.kept_answers import MARKS_AT_ONCE, KeptAnswers, is_kept, keeps
from daemon.api.security import needs
from tests.waiting import until

KEPT = [
    "/v1/iterations",
    "/v1/success-rates",
    "/v1/success-rates?by=task",
    "/v1/success-rates?format=csv",
    "/v1/episodes",
    "/v1/checkpoints?limit=3",
]
LISTS = {
    "/v1/iterations": (iterations, "iteration_summary"),
    "/v1/success-rates": (success_rates, "rates_page"),
    "/v1/episodes": (episodes, "_summaries"),
    "/v1/checkpoints": (checkpoints, "page_of"),
}


class Marks:
    """Marks that the test sets; `fails` is raised instead."""

    waits = False

    def __init__(self):
        self.mark, self.fails = "1", None

    def newest(self):
        if self.fails is not None:
            raise self.fails
        return self.mark


class Making:
    """Makes answers and counts them, by address."""

    def __init__(self, body=b"made", status=200):
        self.body, self.status, self.made = body, status, Counter()

    async def __call__(self, request):
        self.made[str(request.url)] += 1
        headers = {"ETag": '"t"', "X-Own": "1"}
        return Response(self.body, status_code=self.status, media_type="text/plain", headers=headers)


def asked(path="/v1/x", *, query="", accept=None, caller=ANYBODY, dependencies=()):
    headers = [(b"accept", accept.encode())] if accept else []
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": headers,
        "server": ("lab", 80),
        "scheme": "http",
        "route": SimpleNamespace(dependencies=list(dependencies)),
        "state": {"caller": caller},
    }
    return Request(scope)


@pytest.fixture
def marks():
    return Marks()


def answer(answers, making, **request):
    return asyncio.run(answers.answer(asked(**request), making))


def test_an_answer_is_given_again_with_its_kind_and_tag_until_something_is_written(marks):
    answers, making = KeptAnswers(marks), Making()
    first, again = answer(answers, making), answer(answers, making)
    assert (first.body, again.body, making.made.total()) == (b"made", b"made", 1)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert (again.headers["etag"], again.headers["content-length"]) == ('"t"', "4")
    assert dict(again.headers) == dict(first.headers), "the next page's cursor is a header of CSV"
    marks.mark, making.body = "2", b"newer"
    assert answer(answers, making).body == b"newer"
    marks.mark = "1"
    assert answer(answers, making).body == b"newer", "made again: an older mark is another mark"
    assert making.made.total() == 3


def test_what_is_written_while_an_answer_is_made_ends_it(marks):
    answers = KeptAnswers(marks)

    async def making(request):
        marks.mark = "2"
        return Response(b"maybe without it")

    assert answer(answers, making).body == b"maybe without it"
    assert answer(answers, Making(b"with it")).body == b"with it"


@pytest.mark.parametrize("other", [{"path": "/v1/y"}, {"query": "limit=2"}, {"accept": "text/csv"}])
def test_another_question_has_another_answer(marks, other):
    answers, making = KeptAnswers(marks), Making()
    answer(answers, making)
    answer(answers, making, **other)
    assert making.made.total() == 2


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_refusal_is_never_kept(marks, status):
    answers, making = KeptAnswers(marks), Making(status=status)
    assert [answer(answers, making).status_code for _ in range(2)] == [status, status]
    assert making.made.total() == 2


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    "fails", [sqlite3.OperationalError("disk I/O error"), OperationalError("SELECT", None, OSError("gone"))]
)
def test_a_database_that_does_not_answer_is_the_routes_own_business(marks, fails, waits):
    marks.waits = waits
    answers, making = KeptAnswers(marks), Making()
    answer(answers, making)
    marks.fails = fails
    answer(answers, making)
    assert making.made.total() == 2


def test_nobody_waits_long_for_a_mark_and_no_more_threads_do_than_may(marks, monkeypatch):
    monkeypatch.setattr("daemon.api.kept_answers.PATIENCE_S", 0.01)
    over, asking = threading.Event(), []

    def hang():
        asking.append(threading.current_thread())
        over.wait(30)
        return "1"

    marks.waits, marks.newest = True, hang
    answers, making = KeptAnswers(marks), Making()
    try:
        until(lambda: answer(answers, making).body == b"made" and len(asking) == MARKS_AT_ONCE)
        assert [answer(answers, making).body for _ in range(3)] == [b"made"] * 3
        assert len(asking) == MARKS_AT_ONCE
    finally:
        over.set()


def test_a_thread_that_is_given_up_before_it_began_is_free_again(marks, monkeypatch):
    marks.waits = True
    answers, making = KeptAnswers(marks), Making()
    monkeypatch.setattr("daemon.api.kept_answers.PATIENCE_S", -1.0)
    for _ in range(2 * MARKS_AT_ONCE):
        answer(answers, making)
    assert making.made.total() == 2 * MARKS_AT_ONCE
    monkeypatch.setattr("daemon.api.kept_answers.PATIENCE_S", 30.0)
    assert [answer(answers, making).body for _ in range(2)] == [b"made"] * 2
    assert making.made.total() == 2 * MARKS_AT_ONCE + 1


def test_a_database_across_a_network_is_asked_on_a_thread_of_its_own(marks):
    marks.waits, asked_on = True, []
    marks.newest = lambda: asked_on.append(threading.current_thread()) or "1"
    answers, making = KeptAnswers(marks), Making()
    for _ in range(2 * MARKS_AT_ONCE):
        answer(answers, making)
    assert making.made.total() == 1
    assert threading.main_thread() not in asked_on


def test_questions_that_differ_in_nothing_that_counts_do_not_fill_the_memory(marks):
    answers, making = KeptAnswers(marks, most_bytes=48_000), Making(b"")
    for number in range(500):
        answer(answers, making, query=f"_={number}")
    assert len(answers._kept) < 48
    answer(answers, making, query="_=499")
    assert making.made.total() == 500
    marks.mark = "2"
    answer(answers, making, query="_=0")
    assert len(answers._kept) == 1, "what had another mark is forgotten"


def test_a_caller_without_the_scope_gets_the_routes_own_refusal_although_an_answer_is_kept(marks):
    answers, making, refusing = KeptAnswers(marks), Making(), Making(b"no", 403)
    assert answer(answers, making).status_code == 200
    labeller = Caller(name="ann", scopes=frozenset({"label"}))
    assert answer(answers, refusing, caller=labeller).status_code == 403
    assert answer(answers, refusing, caller=labeller, dependencies=[needs("label")]).status_code == 200


def test_the_answers_asked_for_longest_ago_are_given_up_first(marks):
    answers, making = KeptAnswers(marks, most_bytes=48_000), Making(b"x" * 10_000)
    for path in ("/1", "/2", "/3", "/4", "/1", "/5"):  # five do not fit; 2 is the oldest
        answer(answers, making, path=path)
    answer(answers, making, path="/1")
    assert making.made["http://lab/1"] == 1
    answer(answers, making, path="/2")
    assert making.made["http://lab/2"] == 2


def test_an_answer_that_would_take_more_than_a_quarter_is_not_kept(marks):
    answers, making = KeptAnswers(marks, most_bytes=48_000), Making(b"x" * 12_000)
    answer(answers, making)
    answer(answers, making)
    assert making.made.total() == 2


def test_a_route_is_marked_by_its_dependency():
    assert is_kept([needs("read"), keeps()])
    assert not is_kept([needs("read")])


@pytest.mark.parametrize("path", KEPT)
def test_a_list_is_made_once_and_again_after_every_write(client, database, path, monkeypatch):
    client.post("/v1/iterations", json={})
    module, name = LISTS[path.partition("?")[0]]
    calls, real = Counter(), getattr(module, name)

    def counted(*arguments, **named):
        calls["all"] += 1
        return real(*arguments, **named)

    monkeypatch.setattr(module, name, counted)
    monkeypatch.setattr(client.app.state.services.answers, "_marks", marks := Marks())
    first, again = client.get(path), client.get(path)
    assert (first.status_code, first.content, again.content) == (200, again.content, first.content)
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["content-type"] == first.headers["content-type"]
    assert calls["all"] == 1
    marks.mark = "2"
    assert client.get(path).content == first.content
    assert calls["all"] == 2


def test_a_new_iteration_is_in_the_next_list(client):
    for count in range(1, 4):
        client.post("/v1/iterations", json={})
        assert len(client.get("/v1/iterations").json()["items"]) == count


def test_a_kept_answer_is_not_sent_again_to_somebody_who_has_it(client, monkeypatch):
    monkeypatch.setattr(client.app.state.services.answers, "_marks", Marks())
    tag = client.get("/v1/checkpoints").headers["etag"]
    again = client.get("/v1/checkpoints", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
