"""Labels over REST: added by people, never changed, and success rates follow the newest."""

from uuid import UUID

import pytest

from storage import access_tokens, audit, episodes, iterations
from tests.waiting import until

EPISODE = str(UUID(int=1))
URL = f"/v1/episodes/{EPISODE}/labels"


@pytest.fixture
def episode(client, database, blobs, now, an_episode):
    """One episode of iteration 1 that the simulator calls a success."""
    client.post("/v1/iterations", json={})
    with database.write() as session:
        (row,), _ = iterations.list_iterations(session)
        provenance = episodes.Provenance(origin="collect", iteration_id=row.id)
        return episodes.commit(session, blobs, an_episode(1), provenance=provenance, now=now)[0]


def say(client, success, *, labeller="ann", note=None, **headers):
    body = {"success": success, "labeller": labeller, "note": note}
    return client.post(URL, json=body, headers=headers)


def rate(client):
    return client.get("/v1/success-rates").json()["items"][0]


def test_a_human_overrules_and_the_rates_follow(client, episode):
    assert rate(client)["successes"] == 1
    answer = say(client, False, note="it sprang back")
    assert answer.status_code == 201
    assert answer.headers["location"] == URL
    kept = answer.json()
    assert (kept["source"], kept["who"], kept["note"], kept["counts"]) == (
        "human",
        "ann",
        "it sprang back",
        True,
    )
    assert (rate(client)["successes"], rate(client)["episodes"]) == (0, 1)
    (item,) = client.get("/v1/episodes").json()["items"]
    assert (item["success"], item["label_source"]) == (False, "human")


def test_the_newest_human_counts_and_every_verdict_is_kept(client, episode):
    say(client, False)
    say(client, True, labeller="bob")
    items = client.get(URL).json()["items"]
    assert [(one["source"], one["success"], one["who"]) for one in items] == [
        ("sim_predicate", True, "predicate/1"),
        ("human", False, "ann"),
        ("human", True, "bob"),
    ]
    assert [one["counts"] for one in items] == [False, False, True]
    assert rate(client)["successes"] == 1


def test_somebody_who_cannot_tell_hides_no_verdict(client, episode):
    kept = say(client, None).json()
    assert (kept["success"], kept["counts"]) == (None, False)
    assert rate(client)["successes"] == 1


def test_a_request_that_is_repeated_under_its_key_is_one_label(client, episode):
    first, again = (say(client, False, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert len(client.get(URL).json()["items"]) == 2


def test_the_same_key_for_another_verdict_is_refused(client, episode):
    say(client, False, **{"Idempotency-Key": "k"})
    answer = say(client, True, **{"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (409, "request_key_reused")
    assert len(client.get(URL).json()["items"]) == 2


def test_a_label_is_an_event_and_an_act_of_who_gave_it(client, episode, database):
    say(client, False)
    (event,) = client.get("/v1/events", params={"kind": "label_added"}).json()["items"]
    assert event["text"] == f"iteration 1: ann says that episode {EPISODE} is a failure"
    with database.read() as session:
        (act,) = audit.read(session, subject=f"episode {EPISODE}")
    assert (act.actor, act.action, act.facts["success"]) == ("ann", "label_added", False)


def test_an_episode_that_does_not_exist_is_not_found(client):
    url = "/v1/episodes/nowhere/labels"
    assert client.get(url).status_code == 404
    answer = client.post(url, json={"success": True, "labeller": "ann"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert client.get("/v1/events").json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"success": True},
        {"labeller": "ann"},
        {"success": "yes", "labeller": "ann"},
        {"success": 1, "labeller": "ann"},
        {"success": True, "labeller": ""},
        {"success": True, "labeller": "  "},
        {"success": True, "labeller": "x" * 201},
        {"success": True, "labeller": "nul\x00"},
        {"success": True, "labeller": "ann", "note": "x" * 2001},
        {"success": True, "labeller": "ann", "source": "vlm"},
        [],
    ],
)
def test_a_body_that_is_no_label_is_refused_by_field(client, episode, body):
    answer = client.post(URL, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert len(client.get(URL).json()["items"]) == 1


@pytest.mark.parametrize(("scope", "status"), [("label", 201), ("operate", 403), ("read", 403)])
def test_a_token_that_may_label_is_what_it_takes_and_the_act_is_under_its_name(
    client, episode, database, now, scope, status
):
    with database.write() as session:
        token = access_tokens.create(session, "ann", scopes=[scope], expires_at=None, now=now)[1]
    until(lambda: client.get("/v1/episodes").status_code == 401, "the first token to be asked for")
    assert say(client, False, labeller="bob", Authorization=f"Bearer {token}").status_code == status
    with database.read() as session:
        acts = [
            (act.actor, act.facts["labeller"]) for act in audit.read(session, subject=f"episode {EPISODE}")
        ]
    assert acts == ([("ann", "bob")] if status == 201 else [])
