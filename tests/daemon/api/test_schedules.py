"""Schedules over REST: kept once, changed only by who has read them, forgotten without their iterations."""

import pytest
from fastapi.testclient import TestClient

from daemon.app import create_app
from storage import audit, schedules

URL = "/v1/schedules"
NIGHTLY = {"kind": "cron", "expression": "0 20 * * mon-fri", "timezone": "Europe/Berlin"}
WISH = {"name": "nightly", "trigger": NIGHTLY, "spec": {"seed": 4}}


def created(client, **changes):
    answer = client.post(URL, json={**WISH, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_schedule_is_kept_and_shows_its_next_five_times(client):
    answer = client.post(URL, json=WISH)
    assert answer.status_code == 201
    record = answer.json()
    assert answer.headers["location"] == f"/v1/schedules/{record['id']}"
    assert answer.headers["etag"] == '"1"'
    assert (record["trigger"], record["spec"]["seed"], record["enabled"]) == (NIGHTLY, 4, True)
    assert len(record["next_runs"]) == 5
    assert record["next_runs"][0] == record["next_run_at"]
    assert {at[11:16] for at in record["next_runs"]} <= {"18:00", "19:00"}, "eight in the evening in Berlin"
    again = client.get(answer.headers["location"])
    assert (again.json(), again.headers["etag"]) == (record, '"1"')


def test_the_same_again_is_found_and_something_else_of_its_name_is_refused(client):
    first = created(client)
    again = client.post(URL, json=WISH)
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    other = client.post(URL, json={**WISH, "spec": {"seed": 5}})
    assert (other.status_code, other.json()["code"]) == (409, "schedule_name_taken")
    assert [item["name"] for item in client.get(URL).json()["items"]] == ["nightly"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body.name"),
        ({**WISH, "name": "two words"}, "body.name"),
        ({**WISH, "colour": "red"}, "body.colour"),
        ({**WISH, "enabled": "yes"}, "body.enabled"),
        ({**WISH, "spec": {"sead": 1}}, "body.spec.sead"),
        ({**WISH, "trigger": {"kind": "moon"}}, "body.trigger"),
        ({**WISH, "trigger": {"kind": "cron", "expression": "0 20 * * 9"}}, "body.trigger.cron"),
        ({**WISH, "trigger": {**NIGHTLY, "timezone": "Mars/Olympus"}}, "body.trigger.cron.timezone"),
        ({**WISH, "trigger": {"kind": "interval", "seconds": 0}}, "body.trigger.interval.seconds"),
        ({**WISH, "ends_at": "2026-01-01T00:00:00"}, "body.ends_at"),
        ({**WISH, "ends_at": "0001-01-01T00:00:00+14:00"}, "body.ends_at"),
        ({**WISH, "max_runs": 0}, "body.max_runs"),
    ],
)
def test_what_cannot_be_is_refused_by_field_and_nothing_is_kept(client, body, field):
    answer = client.post(URL, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert field in answer.json()["faults"]
    assert client.get(URL).json()["items"] == []


def test_a_schedule_cannot_ask_for_what_the_way_of_collecting_cannot_do(settings):
    ours = settings.model_copy(update={"collect_via": "callback"})
    refused = {"spec": {"stop_on_success": True}}
    with TestClient(create_app(ours)) as client:
        answers = [client.post(URL, json={**WISH, **refused})]
        path = f"{URL}/{created(client)['id']}"
        answers.append(client.patch(path, json=refused, headers={"If-Match": '"1"'}))
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (422, "spec_invalid")
            assert "stop_on_success" in answer.json()["faults"]
        assert client.get(path).json()["spec"]["seed"] == 4
        spec = {"stop_on_success": True, "phases": ["update_policy"]}
        answer = client.patch(path, json={"spec": spec}, headers={"If-Match": '"1"'})
        assert (answer.status_code, answer.json()["spec"]["stop_on_success"]) == (200, True)


def test_a_change_needs_the_version_that_was_read(client):
    record = created(client)
    path = f"{URL}/{record['id']}"
    blind = client.patch(path, json={"enabled": False})
    assert (blind.status_code, blind.json()["code"]) == (428, "precondition_required")
    changed = client.patch(path, json={"enabled": False}, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert (changed.json()["enabled"], changed.json()["next_runs"]) == (False, [])
    late = client.patch(path, json={"enabled": True}, headers={"If-Match": '"1"'})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert client.get(path).json()["enabled"] is False
    assert client.patch(path, json={"enabled": True}, headers={"If-Match": '"9", "2"'}).status_code == 200
    assert client.patch(path, json={"enabled": False}, headers={"If-Match": "*"}).status_code == 200


def test_a_change_leaves_what_it_does_not_name(client):
    record = created(client, max_runs=3)
    path, headers = f"{URL}/{record['id']}", {"If-Match": "*"}
    changed = client.patch(path, json={"max_runs": None, "name": "weekly"}, headers=headers).json()
    assert (changed["max_runs"], changed["name"]) == (None, "weekly")
    assert changed["spec"] == record["spec"]
    assert changed["next_run_at"] == record["next_run_at"]
    trigger = {"kind": "interval", "seconds": 60}
    assert client.patch(path, json={"trigger": trigger}, headers=headers).json()["trigger"] == trigger


@pytest.mark.parametrize(
    "change",
    [{"name": None}, {"enabled": None}, {"trigger": None}, {"spec": None}, {"max_runs": 0}, {"id": "x"}],
)
def test_a_change_that_cannot_be_changes_nothing(client, change):
    record = created(client)
    answer = client.patch(f"{URL}/{record['id']}", json=change, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert client.get(f"{URL}/{record['id']}").json() == record


def test_a_name_is_not_taken_from_another(client):
    created(client, name="other")
    record = created(client)
    answer = client.patch(f"{URL}/{record['id']}", json={"name": "other"}, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["code"]) == (409, "schedule_name_taken")


def test_a_schedule_that_is_removed_leaves_its_iterations(client):
    record = created(client)
    path = f"{URL}/{record['id']}"
    assert client.post(f"{path}/run-now").status_code == 201
    assert client.delete(path, headers={"If-Match": '"7"'}).status_code == 412
    assert client.delete(path).status_code == 204
    assert client.get(path).json()["code"] == "page_not_found"
    assert client.delete(path).status_code == 404
    assert len(client.get("/v1/iterations").json()["items"]) == 1


def test_now_asks_for_one_iteration_at_a_time_and_once_per_key(client):
    path = f"{URL}/{created(client)['id']}"
    first = client.post(f"{path}/run-now", headers={"Idempotency-Key": "k"})
    again = client.post(f"{path}/run-now", headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.headers["location"] == again.headers["location"] == "/v1/iterations/1"
    assert first.json()["spec"]["seed"] == 4
    other = client.post(f"{path}/run-now")
    assert (other.status_code, other.json()["code"]) == (409, "schedule_busy")
    assert client.get(path).json()["last_iteration"] == 1
    assert client.post(f"{URL}/nothing/run-now").status_code == 404


def test_a_schedule_that_is_due_is_run_by_the_daemon_itself(client, until):
    record = created(client, trigger={"kind": "after_previous"})
    items = until(lambda: client.get("/v1/iterations").json()["items"])
    assert [item["spec"]["seed"] for item in items] == [4]
    found = client.get(f"{URL}/{record['id']}").json()
    assert (found["runs"], found["last_result"]["outcome"]) == (1, "requested")


def test_every_change_leaves_a_trace(client, database):
    path = f"{URL}/{created(client)['id']}"
    client.patch(path, json={"enabled": False}, headers={"If-Match": "*"})
    client.delete(path)
    with database.read() as session:
        events = audit.read(session, subject="schedule nightly")
        assert schedules.list_schedules(session) == []
    assert [event.action for event in events] == ["schedule_removed", "schedule_changed", "schedule_created"]
    assert events[1].facts == {"enabled": False}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"name": "a\\u0000"}'])
def test_a_body_that_is_no_schedule_is_refused(client, body):
    answer = client.post(URL, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
