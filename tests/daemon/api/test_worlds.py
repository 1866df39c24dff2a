"""What-ifs over REST: asked once, done by a worker, answered with pictures that are only handed on."""

import base64
import io
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from daemon.api.worlds import MOST_OPEN
from robot_bridge.body_limit import MAX_BODY_BYTES
from storage import audit, checkpoints, episodes, what_ifs
from storage.episodes import Provenance, commit

URL = "/v1/worlds/what-if"
LIST = "/v1/worlds/what-ifs"
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def image_text(pixels=PIXELS):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


WISH = {"image": image_text(), "instruction": "open the drawer"}


def asked(client, **changes):
    answer = client.post(URL, json={**WISH, **changes})
    assert answer.status_code == 202, answer.text
    return answer.json()


@pytest.fixture
def finish(database, blobs):
    """Be the worker: take the oldest and give it a result."""

    def one():
        now = datetime.now(UTC)
        rollout = {"success": True, "probability": 0.9, "along": [0.5, None, 0.9]}
        rollout |= {"strip": blobs.put(b"a strip"), "film": blobs.put(b"a film")}
        rate = {"successes": 1, "judged": 1, "declined": 0, "wilson_low": 0.2, "wilson_high": 1.0}
        read = {"policy": {"id": "p", "number": 3}}
        result = {"read": read, "steps": 2, "trusted_steps": None, "rate": rate, "rollouts": [rollout]}
        with database.write() as session:
            claimed = what_ifs.claim(session, "w", ttl_s=60, now=now)
            what_ifs.finish(session, claimed, result=result, now=now)

    return one


@pytest.fixture
def episode(database, blobs, an_episode):
    made = an_episode(1)
    with database.write() as session:
        row, _ = commit(session, blobs, made, provenance=Provenance(origin="collect"), now=datetime.now(UTC))
    return row


def test_a_question_waits_for_a_worker_and_says_where_its_answer_will_be(client):
    answer = client.post(URL, json={**WISH, "rollouts": 8, "steps": 20, "temperature": 0.5, "seed": 4})
    assert answer.status_code == 202
    record = answer.json()
    assert answer.headers["location"] == f"{LIST}/{record['id']}"
    assert (record["state"], record["attempts"], record["result"], record["policy"]) == (
        "queued",
        0,
        None,
        None,
    )
    assert [record[name] for name in ("rollouts", "steps", "temperature", "seed")] == [8, 20, 0.5, 4]
    assert client.get(answer.headers["location"]).json() == record
    start = client.get(record["start"])
    assert start.headers["content-type"] == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(start.content))), PIXELS)


def test_what_was_imagined_is_answered_with_addresses_of_its_pictures(client, finish):
    record = asked(client)
    at = f"{LIST}/{record['id']}"
    assert client.get(f"{at}/rollouts/0/strip.jpg").status_code == 404
    finish()
    found = client.get(at).json()
    assert (found["state"], found["progress"], found["error"]) == ("finished", 1.0, None)
    assert found["result"]["rate"]["wilson_low"] == 0.2
    (rollout,) = found["result"]["rollouts"]
    assert rollout["along"] == [0.5, None, 0.9]
    strip, film = client.get(rollout["strip"]), client.get(rollout["film"])
    assert (strip.content, strip.headers["content-type"]) == (b"a strip", "image/jpeg")
    assert (film.content, film.headers["content-type"]) == (b"a film", "video/mp4")
    assert client.get(f"{at}/rollouts/1/film.mp4").json()["code"] == "page_not_found"


def test_a_failure_is_told_with_its_reason(client, database):
    record = asked(client)
    now = datetime.now(UTC)
    with database.write() as session:
        claimed = what_ifs.claim(session, "w", ttl_s=60, now=now)
        what_ifs.fail(session, claimed, error=("retired", "it is gone"), retry=False, now=now)
    found = client.get(f"{LIST}/{record['id']}").json()
    assert (found["state"], found["error"]) == ("failed", {"code": "retired", "message": "it is gone"})


def test_it_can_start_from_any_observation_of_an_episode(client, database, blobs, episode):
    record = client.post(URL, json={"episode": episode.id, "step": 2}).json()
    assert (record["episode"], record["step"], record["instruction"]) == (episode.id, 2, "open drawer")
    shown = np.asarray(Image.open(io.BytesIO(client.get(record["start"]).content)))
    with database.read() as session:
        assert np.array_equal(shown, episodes.frames(session, blobs, episode.id).decode(2))
    other = client.post(URL, json={"episode": episode.id, "instruction": "close it"}).json()
    assert (other["step"], other["instruction"]) == (0, "close it")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"image": WISH["image"]}, "body"),
        ({**WISH, "episode": "e"}, "body"),
        ({"episode": "nowhere"}, "body.episode"),
        ({**WISH, "policy": "nobody"}, "body.policy"),
        ({**WISH, "rollouts": 17}, "body.rollouts"),
        ({**WISH, "rollouts": 0}, "body.rollouts"),
        ({**WISH, "steps": 101}, "body.steps"),
        ({**WISH, "seed": "1"}, "body.seed"),
        ({**WISH, "temperature": -1}, "body.temperature"),
        ({**WISH, "instruction": " "}, "body.instruction"),
        ({**WISH, "instruction": "a\x00"}, "body.instruction"),
        ({**WISH, "colour": "red"}, "body.colour"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_field_and_nothing_is_kept(client, body, field):
    answer = client.post(URL, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert field in answer.json()["faults"]
    assert client.get(LIST).json()["items"] == []


def test_an_observation_that_the_episode_does_not_have_is_refused(client, episode):
    answer = client.post(URL, json={"episode": episode.id, "step": 4})
    assert answer.json()["faults"] == {"body.step": "expected 0 to 3, as the episode has 4 observations"}


def test_only_a_policy_whose_file_is_there_can_act(client, database, blobs, tmp_path):
    now, ids = datetime.now(UTC), {}
    for kind in ("policy", "judge"):
        file = tmp_path / kind
        file.write_bytes(kind.encode())
        with database.write() as session:
            new = checkpoints.NewCheckpoint(kind=kind, spec_digest="0" * 64)
            ids[kind] = checkpoints.save(session, blobs, new, file=file, now=now).id
    assert asked(client, policy=ids["policy"])["policy"] == ids["policy"]
    assert client.post(URL, json={**WISH, "policy": ids["judge"]}).status_code == 422
    with database.write() as session:
        checkpoints.get(session, ids["policy"]).retired_at = now
    assert client.post(URL, json={**WISH, "policy": ids["policy"]}).status_code == 422


def test_a_picture_that_is_none_is_a_problem_of_its_own(client):
    answer = client.post(URL, json={**WISH, "image": base64.b64encode(b"GIF89a").decode()})
    assert (answer.status_code, answer.json()["code"]) == (422, "picture_unusable")


def test_a_picture_may_be_larger_than_other_bodies_and_not_without_end(client):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    text = image_text(noise)
    assert len(text) > MAX_BODY_BYTES
    assert asked(client, image=text)["state"] == "queued"
    answer = client.post(URL, json={**WISH, "image": "A" * 5_000_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert client.post("/v1/iterations", json={"x": "A" * MAX_BODY_BYTES}).status_code == 413


def test_a_key_asks_once(client):
    first = client.post(URL, json=WISH, headers={"Idempotency-Key": "k"})
    again = client.post(URL, json=WISH, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    other = client.post(URL, json={**WISH, "seed": 1}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (409, "request_key_reused")
    assert len(client.get(LIST).json()["items"]) == 1


def test_so_many_wait_and_no_more(client, finish):
    for seed in range(MOST_OPEN):
        asked(client, seed=seed)
    answer = client.post(URL, json=WISH)
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (
        503,
        "what_ifs_full",
        True,
    )
    finish()
    asked(client)


def test_they_are_listed_newest_first_page_by_page(client):
    ids = [asked(client, seed=seed)["id"] for seed in range(3)]
    first = client.get(LIST, params={"limit": 2}).json()
    second = client.get(LIST, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in (*first["items"], *second["items"])] == ids[::-1]
    assert client.get(LIST, params={"cursor": "nonsense"}).json()["code"] == "cursor_invalid"
    assert client.get(f"{LIST}/nothing").json()["code"] == "page_not_found"


def test_who_asked_is_in_the_audit_and_among_the_events(client, database):
    record = asked(client)
    with database.read() as session:
        (event,) = audit.read(session, subject=f"what-if {record['id']}")
    assert (event.actor, event.action) == ("rest", "what_if_requested")
    assert event.facts["instruction"] == "open the drawer"
    told = client.get("/v1/events").json()["items"][0]
    assert (told["kind"], told["facts"]["what_if_id"]) == ("what_if_requested", record["id"])
    assert told["text"] == f"rest asks what would happen (what-if {record['id']})"
