"""Notes over REST: added by people, never changed, and no verdict anywhere."""

from uuid import UUID

import pytest

from storage import access_tokens, audit, episodes, iterations
from storage.note_tables import MOST_CHARACTERS
from tests.waiting import until

EPISODE = str(UUID(int=1))
URL = f"/v1/episodes/{EPISODE}/notes"
SNAGGED = "gripper cable snagged at step 20"


@pytest.fixture
def episode(client, database, blobs, now, an_episode):
    """One episode of iteration 1 that nobody has judged."""
    client.post("/v1/iterations", json={})
    with database.write() as session:
        (row,), _ = iterations.list_iterations(session)
        provenance = episodes.Provenance(origin="collect", iteration_id=row.id)
        built = an_episode(1, success=None)
        return episodes.commit(session, blobs, built, provenance=provenance, now=now)[0]


def write(client, text=SNAGGED, *, author="ann", **headers):
    return client.post(URL, json={"text": text, "author": author}, headers=headers)


def test_a_note_is_kept_with_who_wrote_it_and_when(client, episode):
    answer = write(client, f"  {SNAGGED}\n")
    assert answer.status_code == 201
    assert answer.headers["location"] == URL
    kept = answer.json()
    assert (kept["episode_id"], kept["text"], kept["author"]) == (EPISODE, SNAGGED, "ann")
    assert kept["noted_at"].endswith("Z")
    assert client.get(URL).json() == {"items": [kept]}


def test_every_note_is_told_in_the_order_it_came_in(client, episode):
    assert client.get(URL).json() == {"items": []}
    for author in ("ann", "bob", "ann"):
        assert write(client, f"seen by {author}", author=author).status_code == 201
    told = [(one["author"], one["text"]) for one in client.get(URL).json()["items"]]
    assert told == [("ann", "seen by ann"), ("bob", "seen by bob"), ("ann", "seen by ann")]


def test_a_note_is_no_verdict_anywhere(client, episode):
    asked = (f"/v1/episodes/{EPISODE}/labels", "/v1/success-rates", "/v1/success-rates?by=task")
    before = [client.get(path).json() for path in asked]
    write(client)
    assert [client.get(path).json() for path in asked] == before
    record = client.get(f"/v1/episodes/{EPISODE}").json()
    assert (record["success"], record["label_source"], record["notes"]) == (None, None, 1)


def test_lists_say_how_many_notes_an_episode_has(client, episode, database, blobs, now, an_episode):
    with database.write() as session:
        provenance = episodes.Provenance(origin="base")
        episodes.commit(session, blobs, an_episode(2), provenance=provenance, now=now)
    write(client)
    write(client)
    found = {one["id"]: one["notes"] for one in client.get("/v1/episodes").json()["items"]}
    assert found == {EPISODE: 2, str(UUID(int=2)): 0}


def test_a_request_that_is_repeated_under_its_key_is_one_note(client, episode):
    first, again = (write(client, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert len(client.get(URL).json()["items"]) == 1
    assert len(client.get("/v1/events", params={"kind": "note_added"}).json()["items"]) == 1


@pytest.mark.parametrize("other", [{"text": "another"}, {"author": "bob"}])
def test_the_same_key_for_another_note_is_refused(client, episode, other):
    write(client, **{"Idempotency-Key": "k"})
    answer = write(client, **other, **{"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (409, "request_key_reused")
    assert len(client.get(URL).json()["items"]) == 1


def test_a_key_of_a_label_is_another_key(client, episode):
    body = {"success": True, "labeller": "ann"}
    headers = {"Idempotency-Key": "k"}
    assert client.post(f"/v1/episodes/{EPISODE}/labels", json=body, headers=headers).status_code == 201
    assert write(client, **headers).status_code == 201


def test_a_note_is_an_event_and_an_act_of_who_wrote_it(client, episode, database):
    kept = write(client).json()
    (event,) = client.get("/v1/events", params={"kind": "note_added"}).json()["items"]
    assert event["text"] == f"iteration 1: ann notes on episode {EPISODE}: {SNAGGED}"
    assert (event["facts"]["note"], event["facts"]["episode_id"]) == (kept["id"], EPISODE)
    with database.read() as session:
        (act,) = audit.read(session, subject=f"episode {EPISODE}")
    assert (act.actor, act.action, act.facts) == ("ann", "note_added", {"note": kept["id"], "author": "ann"})


def test_the_event_of_a_long_note_has_its_beginning_on_one_line(client, episode):
    write(client, "one\n two {who} " + "x" * 300)
    (event,) = client.get("/v1/events", params={"kind": "note_added"}).json()["items"]
    begins = event["facts"]["begins"]
    assert begins == "one two {who} " + "x" * 185 + "…"
    assert event["text"].endswith(f": {begins}")
    assert len(client.get(URL).json()["items"][0]["text"]) > 300


def test_an_episode_that_does_not_exist_is_not_found(client):
    url = "/v1/episodes/nowhere/notes"
    body = {"text": SNAGGED, "author": "ann"}
    for answer in (client.get(url), client.post(url, json=body)):
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert "nowhere" in answer.json()["detail"]
    assert client.get("/v1/events").json()["items"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": SNAGGED}, "author"),
        ({"author": "ann"}, "text"),
        ({"text": "", "author": "ann"}, "text"),
        ({"text": " \n ", "author": "ann"}, "text"),
        ({"text": "x" * (MOST_CHARACTERS + 1), "author": "ann"}, "text"),
        ({"text": "nul\x00", "author": "ann"}, "text"),
        ({"text": 7, "author": "ann"}, "text"),
        ({"text": SNAGGED, "author": " "}, "author"),
        ({"text": SNAGGED, "author": "x" * 201}, "author"),
        ({"text": SNAGGED, "author": "ann", "success": True}, "success"),
    ],
)
def test_a_body_that_is_no_note_is_refused_by_field(client, episode, body, field):
    answer = client.post(URL, json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert list(answer.json()["faults"]) == [f"body.{field}"]
    assert client.get(URL).json()["items"] == []


def test_a_note_of_the_greatest_length_is_kept_whole(client, episode):
    text = "🦾" * MOST_CHARACTERS
    assert write(client, f" {text} ").status_code == 201
    assert client.get(URL).json()["items"][0]["text"] == text


@pytest.mark.parametrize(("scope", "status"), [("label", 201), ("operate", 403), ("read", 403)])
def test_writing_takes_the_scope_label_reading_any_and_the_act_is_under_the_tokens_name(
    client, episode, database, now, scope, status
):
    with database.write() as session:
        token = access_tokens.create(session, "ann", scopes=[scope], expires_at=None, now=now)[1]
    until(lambda: client.get(URL).status_code == 401, "the first token to be asked for")
    known = {"Authorization": f"Bearer {token}"}
    assert write(client, author="bob", **known).status_code == status
    assert len(client.get(URL, headers=known).json()["items"]) == (1 if status == 201 else 0)
    with database.read() as session:
        acts = [(act.actor, act.facts["author"]) for act in audit.read(session, subject=f"episode {EPISODE}")]
    assert acts == ([("ann", "bob")] if status == 201 else [])
