import json

import pytest
from fastapi.testclient import TestClient

from daemon.app import create_app
from daemon.curves import append_moment, curves_path
from daemon.spec import IterationSpec
from storage import audit

URL = "/v1/iterations"


def test_a_request_answers_201_with_the_whole_record_and_its_address(client):
    answer = client.post(URL, json={"seed": 4, "tasks": ["open_drawer"]})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/v1/iterations/1"
    record = answer.json()
    assert (record["number"], record["state"]) == (1, "requested")
    assert record["spec"] == IterationSpec(seed=4, tasks=("open_drawer",)).document()
    assert record["success"] == {}
    assert client.get(answer.headers["location"]).json()["id"] == record["id"]


def test_numbers_are_dense(client):
    numbers = [client.post(URL, json={"seed": seed}).json()["number"] for seed in range(3)]
    assert numbers == [1, 2, 3]


def test_the_same_key_and_spec_find_the_first_request_again(client):
    first = client.post(URL, json={"seed": 4}, headers={"Idempotency-Key": "night-1"})
    again = client.post(URL, json={"seed": 4}, headers={"Idempotency-Key": "night-1"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["location"] == first.headers["location"]
    assert len(client.get(URL).json()["items"]) == 1


def test_a_spec_spelled_out_is_the_same_spec(client):
    key = {"Idempotency-Key": "night-1"}
    assert client.post(URL, json={}, headers=key).status_code == 201
    assert client.post(URL, json=IterationSpec().document(), headers=key).status_code == 200


def test_the_same_key_with_another_spec_is_refused(client):
    client.post(URL, json={"seed": 4}, headers={"Idempotency-Key": "night-1"})
    answer = client.post(URL, json={"seed": 5}, headers={"Idempotency-Key": "night-1"})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "idempotency_mismatch"
    assert len(client.get(URL).json()["items"]) == 1


def test_without_a_key_every_request_is_a_new_one(client):
    assert [client.post(URL, json={}).json()["number"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("key", ["", "k" * 201])
def test_a_key_that_cannot_be_kept_is_refused(client, key):
    answer = client.post(URL, json={}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["code"] == "request_invalid"
    assert client.get(URL).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"sead": 1}, "spec_unknown_field", "sead"),
        ({"policy": {"kl_beta": 1}}, "spec_unknown_field", "policy.kl_beta"),
        ({"seed": -1}, "spec_invalid", "seed"),
        ({"tasks": ["juggle"]}, "spec_invalid", "tasks.0"),
        ({"collect": None}, "spec_invalid", "collect"),
        ([], "spec_invalid", "body"),
        (None, "spec_invalid", "body"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_by_field_and_nothing_is_stored(client, body, code, field):
    answer = client.post(URL, json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["code"], problem["status"], problem["retryable"]) == (code, 422, False)
    assert field in problem["faults"]
    assert client.get(URL).json()["items"] == []


def test_what_the_way_of_collecting_cannot_do_is_refused_when_it_is_asked_for(settings):
    ours = settings.model_copy(update={"collect_via": "callback"})
    with TestClient(create_app(ours)) as client:
        answer = client.post(URL, json={"stop_on_success": True})
        assert (answer.status_code, answer.json()["code"]) == (422, "spec_invalid")
        assert "GYMNASTD_COLLECT_VIA is callback" in answer.json()["faults"]["stop_on_success"]
        assert client.get(URL).json()["items"] == []
        imagined = {"stop_on_success": True, "phases": ["update_policy"]}
        answer = client.post(URL, json=imagined)
        assert (answer.status_code, answer.json()["spec"]["stop_on_success"]) == (201, True)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"seed": NaN}', b'{"collect": {"temperature": NaN}}']
)
def test_a_body_that_is_no_json_is_refused(client, body):
    answer = client.post(URL, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "spec_invalid"
    assert client.get(URL).json()["items"] == []


def test_a_body_that_is_too_large_is_refused(client):
    answer = client.post(URL, json={"tasks": ["x" * 300_000]})
    assert answer.status_code == 413
    assert answer.json()["code"] == "request_too_large"
    assert client.get(URL).json()["items"] == []


def test_pages_go_from_the_newest_to_the_first_and_end(client):
    for seed in range(5):
        client.post(URL, json={"seed": seed})
    seen, cursor = [], None
    for _ in range(3):
        page = client.get(URL, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["number"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [5, 4, 3, 2, 1]
    assert cursor is None


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"cursor": "elsewhere"}, "cursor_invalid"),
        ({"limit": 0}, "request_invalid"),
        ({"limit": 501}, "request_invalid"),
        ({"limit": "all"}, "request_invalid"),
    ],
)
def test_a_page_that_cannot_be_is_refused(client, params, code):
    answer = client.get(URL, params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize("path", ["/v1/iterations/9", "/v1/iterations/9/curves"])
def test_an_iteration_that_does_not_exist_is_not_found(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "page_not_found")


@pytest.mark.parametrize("number", ["zero", "1.5", "9" * 30])
def test_a_number_that_is_none_is_refused_and_breaks_nothing(client, number):
    answer = client.get(f"/v1/iterations/{number}")
    assert answer.status_code in {404, 422}
    assert answer.json()["code"] in {"page_not_found", "request_invalid"}


def test_the_record_follows_the_phases(client, finish_phase):
    client.post(URL, json={})
    finish_phase(read={"policy": "p1"})
    finish_phase(
        held_out_error={"before": 0.2, "after": 0.1}, made={"judge": "j2"}, rejected={"world_model": "w2"}
    )
    record = client.get("/v1/iterations/1").json()
    assert record["state"] == "running"
    assert record["world_model"]["held_out_error"] == {"before": 0.2, "after": 0.1}
    assert record["checkpoints"] == {
        "read": {"policy": "p1"},
        "made": {"judge": "j2"},
        "rejected": {"world_model": "w2"},
    }
    assert [run["state"] for run in record["phases"][:2]] == ["finished", "finished"]


def test_curves_are_told_per_phase(client, finish_phase, settings, now):
    client.post(URL, json={})
    claimed = finish_phase()
    path = curves_path(settings.data_dir, claimed.phase_run_id)
    append_moment(path, {"update": 1, "loss": 0.5}, now=now)
    append_moment(path, {"update": 2, "loss": 0.25}, now=now)
    curves = client.get("/v1/iterations/1/curves").json()
    assert curves["collect"] == {"loss": [[1.0, 0.5], [2.0, 0.25]]}


def test_film_strips_are_told_where_a_phase_left_them(client, finish_phase, blobs):
    real, imagined = blobs.put(b"\xff\xd8real"), blobs.put(b"\xff\xd8imagined")
    client.post(URL, json={})
    finish_phase(film_strips={"open_drawer": {"episode_id": "e", "real": real, "imagined": imagined}})
    answer = client.get("/v1/iterations/1/film-strips/open_drawer/imagined.jpg")
    assert (answer.content, answer.headers["content-type"]) == (b"\xff\xd8imagined", "image/jpeg")
    assert client.get("/v1/iterations/1/film-strips/open_drawer/real.jpg").content == b"\xff\xd8real"
    missing = client.get("/v1/iterations/1/film-strips/close_drawer/real.jpg")
    assert (missing.status_code, missing.json()["code"]) == (404, "page_not_found")
    assert client.get("/v1/iterations/1/film-strips/open_drawer/episode_id.jpg").status_code == 422


def test_every_request_leaves_a_trace_and_a_repetition_none(client, database):
    for _ in range(2):
        client.post(URL, json={}, headers={"Idempotency-Key": "k"})
    with database.read() as session:
        (event,) = audit.read(session, subject="iteration 1")
    assert (event.action, event.facts["idempotency_key"]) == ("iteration_requested", "k")


def test_the_record_is_plain_json_with_utc_times(client):
    text = client.post(URL, json={}).text
    record = json.loads(text)
    assert record["requested_at"].endswith(("Z", "+00:00"))


def test_a_film_strip_of_a_number_that_no_iteration_can_have_is_refused(client):
    for number in (0, 2**31, 35469688784828805120):
        answer = client.get(f"/v1/iterations/{number}/film-strips/open_drawer/real.jpg")
        assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
