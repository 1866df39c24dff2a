"""Lineages over REST: named in the spec, told in every record, and what is asked of one leaves others out."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.comparison import mean_difference
from storage import checkpoints, episodes, iterations
from tests.daemon.api.test_metrics import numbers, value
from tests.daemon.api.test_worlds import URL as WHAT_IF
from tests.daemon.api.test_worlds import WISH

LINEAGES = ("main", "b", "main", "b")  # of iterations 1 to 4


@pytest.fixture
def two_lineages(client, database, blobs, now, an_episode):
    """Of main 1 of 4, then 3 of 4; of b 2 of 4, then all; each iteration has made a policy."""
    number = 0
    with database.write() as session:
        for name, won in zip(LINEAGES, (1, 2, 3, 4), strict=True):
            spec = {"lineage": name, "seed": won}
            row, _ = iterations.request_iteration(session, spec=spec, idempotency_key=None, now=now)
            iterations.cancel(session, row.id, now=now)
            for index in range(4):
                number += 1
                built = an_episode(number, success=index < won)
                origin = episodes.Provenance(origin="collect", iteration_id=row.id)
                episodes.commit(session, blobs, built, provenance=origin, now=now)
            file = blobs.root / "policy"
            file.write_bytes(str(number).encode())
            new = checkpoints.NewCheckpoint(kind="policy", spec_digest="5" * 64, iteration_id=row.id)
            checkpoints.save(session, blobs, new, file=file, now=now)


def items(client, path, **params):
    answer = client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def test_an_iteration_is_asked_for_in_a_lineage_and_says_so(client):
    assert client.post("/v1/iterations", json={"lineage": "arm-2.b"}).json()["lineage"] == "arm-2.b"
    assert client.post("/v1/iterations", json={}).json()["lineage"] == "main"
    assert [item["lineage"] for item in items(client, "/v1/iterations")] == ["main", "arm-2.b"]


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 101, "é", 3, None])
def test_a_name_that_is_not_safe_is_refused_by_its_field(client, name):
    answer = client.post("/v1/iterations", json={"lineage": name})
    assert answer.status_code == 422
    assert list(answer.json()["faults"]) == ["lineage"]
    if isinstance(name, str):
        for path in ("iterations", "checkpoints", "ledger", "success-rates"):
            assert client.get(f"/v1/{path}", params={"lineage": name}).status_code == 422, path


@pytest.mark.usefixtures("two_lineages")
def test_lists_and_rates_of_a_lineage_leave_the_others_out(client):
    assert [one["number"] for one in items(client, "/v1/iterations", lineage="b")] == [4, 2]
    assert {one["iteration"] for one in items(client, "/v1/checkpoints", lineage="main")} == {1, 3}
    assert {one["lineage"] for one in items(client, "/v1/checkpoints")} == {"main", "b"}
    rates = items(client, "/v1/success-rates", lineage="b")
    assert {(one["iteration"], one["successes"]) for one in rates} == {(2, 2), (4, 4)}
    (together,) = items(client, "/v1/success-rates", by="", lineage="main")
    assert (together["successes"], together["episodes"]) == (4, 8)
    assert items(client, "/v1/success-rates", by="task", lineage="nobody") == []


@pytest.mark.usefixtures("two_lineages")
def test_a_gain_is_over_the_iteration_before_of_the_same_lineage(client):
    gains = {one["iteration"]: one for one in items(client, "/v1/ledger")}
    assert {number: one["compared_with"] for number, one in gains.items()} == {4: 2, 3: 1, 2: None, 1: None}
    assert gains[4]["gain"]["value"] == pytest.approx(mean_difference([((2, 4), (4, 4))]).value)
    (newest,) = items(client, "/v1/ledger", limit=1)
    assert newest["compared_with"] == 2, "also where the one before is on another page"
    assert client.get("/v1/ledger").json()["total"]["compared_with"] is None, "two lineages have no gain"
    total = client.get("/v1/ledger", params={"lineage": "main"}).json()["total"]
    assert (total["robot_episodes"], total["compared_with"]) == (8, 1)
    assert total["gain"]["value"] == pytest.approx(mean_difference([((1, 4), (3, 4))]).value)


@pytest.mark.usefixtures("two_lineages")
def test_prometheus_gets_the_last_rates_of_each_lineage(database, now):
    found = numbers(database, now)
    for name, rate, number in (("main", 3 / 4, 3), ("b", 1.0, 4)):
        assert value(found, "gymnastd_success_rate", lineage=name, task="open_drawer") == rate
        assert value(found, "gymnastd_success_iteration", lineage=name) == number


def test_a_what_if_asks_the_models_of_a_lineage_that_there_is(client):
    client.post("/v1/iterations", json={"lineage": "b"})
    assert client.post(WHAT_IF, json={**WISH, "lineage": "b"}).json()["lineage"] == "b"
    assert client.post(WHAT_IF, json=WISH).json()["lineage"] == "main"
    refused = client.post(WHAT_IF, json={**WISH, "lineage": "c"})
    assert refused.status_code == 404
    assert "lineage" in refused.json()["detail"]


def test_a_schedule_waits_for_its_own_iteration_and_not_for_another_lineages(client, database, until):
    for name in ("a", "b"):
        wish = {"name": name, "trigger": {"kind": "after_previous"}, "spec": {"lineage": name}}
        assert client.post("/v1/schedules", json=wish).status_code == 201
    until(lambda: len(items(client, "/v1/iterations")) == 2)
    first = items(client, "/v1/iterations", lineage="a")[0]
    at = datetime.now(UTC) - timedelta(minutes=1)
    with database.write() as session:
        iterations.cancel(session, first["id"], now=at)
    until(lambda: len(items(client, "/v1/iterations", lineage="a")) == 2)
    assert len(items(client, "/v1/iterations", lineage="b")) == 1


def test_events_and_their_sentences_name_the_lineage_where_it_is_not_main(client):
    for name in ("main", "b"):
        client.post("/v1/iterations", json={"lineage": name, "phases": ["update_policy"]})
    told = {event["text"] for event in items(client, "/v1/events", kind="iteration_requested")}
    assert told == {"iteration 1 was asked for", "iteration 2 of lineage b was asked for"}
