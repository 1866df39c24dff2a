"""Pages of grouped counts: given again until a count changes, then made anew, each question apart."""

from datetime import UTC, datetime

import pytest

from daemon.api.kept_counts import KeptCounts
from storage import episodes, iterations, success_counts
from storage.errors import CursorInvalid
from storage.success_counts import CountQuery

BY_TASK = CountQuery(by=("task",))
EARLIER = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def counted(monkeypatch):
    """The questions that were really put to the database."""
    asked, grouped = [], success_counts.grouped

    def counting(session, query, **page):
        asked.append(query)
        return grouped(session, query, **page)

    monkeypatch.setattr(success_counts, "grouped", counting)
    return asked


@pytest.fixture
def collect(client, database, blobs, now, an_episode):
    """Commit the next episode of iteration 1."""
    client.post("/v1/iterations", json={})
    with database.read() as session:
        (row,), _ = iterations.list_iterations(session)
    provenance = episodes.Provenance(origin="collect", iteration_id=row.id)

    def one(number):
        with database.write() as session:
            episodes.commit(session, blobs, an_episode(number), provenance=provenance, now=now)

    return one


def page(database, kept, query=BY_TASK, *, cursor=None, limit=50):
    with database.read() as session:
        return kept.grouped(session, query, cursor=cursor, limit=limit)


def test_a_page_is_added_up_once_until_an_episode_comes_in(database, collect, counted):
    kept = KeptCounts()
    collect(1)
    first = page(database, kept)
    assert page(database, kept) == first
    assert counted == [BY_TASK]
    collect(2)
    again = page(database, kept)
    assert counted == [BY_TASK, BY_TASK]
    assert (first[0][0].judged, again[0][0].judged) == (1, 2)


def test_what_changes_no_count_ends_nothing(client, database, collect, counted):
    kept = KeptCounts()
    collect(1)
    first = page(database, kept)
    client.post("/v1/iterations", json={})
    assert page(database, kept) == first
    assert counted == [BY_TASK]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        (CountQuery(by=("task", "policy")), {}),
        (CountQuery(by=("task",), lineage="main"), {}),
        (CountQuery(by=()), {}),
        (BY_TASK, {"limit": 1}),
        (BY_TASK, {"cursor": "0~1"}),
    ],
)
def test_another_question_is_another_page(database, collect, counted, query, place):
    kept = KeptCounts()
    collect(1)
    page(database, kept)
    page(database, kept, query, **place)
    assert counted == [BY_TASK, query]


def test_what_is_counted_from_episodes_by_their_times_is_never_kept(database, collect, counted):
    kept, since = KeptCounts(), CountQuery(by=("task",), since=EARLIER)
    collect(1)
    assert page(database, kept, since) == page(database, kept, since)
    assert counted == [since, since]


def test_of_more_than_may_be_kept_the_page_asked_for_longest_ago_goes(database, collect, counted):
    kept, others = KeptCounts(most_groups=2), [CountQuery(by=("iteration",)), CountQuery(by=("policy",))]
    collect(1)
    for query in (BY_TASK, others[0], BY_TASK, others[1]):
        page(database, kept, query)
    assert counted == [BY_TASK, *others], "the first was asked for again"
    page(database, kept, BY_TASK)
    assert counted == [BY_TASK, *others]
    page(database, kept, others[0])
    assert counted == [BY_TASK, *others, others[0]]


def test_a_question_that_cannot_be_is_refused_each_time(database, collect, counted):
    kept = KeptCounts()
    for _ in range(2):
        with pytest.raises(CursorInvalid):
            page(database, kept, cursor="7")
    assert len(counted) == 2


def test_rates_over_rest_say_at_once_what_was_collected(client, collect, counted):
    for number in (1, 2, 3):
        collect(number)
        (row,) = client.get("/v1/success-rates?by=task").json()["items"]
        assert row["episodes"] == number
    asked = len(counted)
    client.post("/v1/iterations", json={})  # a write, so the answer itself is not kept
    (row,) = client.get("/v1/success-rates?by=task").json()["items"]
    assert (row["episodes"], len(counted)) == (3, asked)
