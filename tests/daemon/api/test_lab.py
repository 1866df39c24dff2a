"""Judges, stations and tasks over REST, and the audit log for those who may read it."""

from datetime import UTC, datetime

import pytest

from storage import access_tokens, checkpoints, stations, tasks


@pytest.fixture
def judge(client, database, blobs, now, tmp_path):
    def save_one(**known):
        file = tmp_path / "new.safetensors"
        file.write_bytes(repr(known).encode())
        new = checkpoints.NewCheckpoint(kind="judge", spec_digest="d" * 64, **known)
        with database.write() as session:
            return checkpoints.save(session, blobs, new, file=file, now=now).id

    return save_one


@pytest.fixture
def bearer(database):
    def make(scope):
        with database.write() as session:
            made = access_tokens.create(
                session, scope, scopes=[scope], expires_at=None, now=datetime.now(UTC)
            )
        return {"Authorization": f"Bearer {made[1]}"}

    return make


def test_judges_are_told_with_the_lineages_that_ask_each(client, judge):
    first, second = judge(), judge(card={"n": 2})
    newest, oldest = client.get("/v1/judges").json()["items"]
    assert (newest["id"], newest["current_of"]) == (second, ["main"])
    assert (oldest["id"], oldest["current_of"]) == (first, [])
    assert client.get(f"/v1/judges/{second}").json() == newest


def test_stations_are_told_as_they_described_themselves(client, database, now):
    assert client.get("/v1/stations").json() == {"items": []}
    with database.write() as session:
        for name in ("cell-2", "cell-1"):
            stations.ensure(session, name, description={"robot_model": "widowx"}, now=now)
    first, second = client.get("/v1/stations").json()["items"]
    assert (first["id"], second["id"], first["description"]) == (
        "cell-1",
        "cell-2",
        {"robot_model": "widowx"},
    )
    assert client.get("/v1/stations/cell-2").json() == second
    assert datetime.fromisoformat(second["last_seen_at"]) == now


def test_tasks_are_told_with_their_instructions(client, database, now):
    assert client.get("/v1/tasks").json() == {"items": []}
    with database.write() as session:
        tasks.ensure(session, "open_drawer", instruction="open the drawer", now=now)
    (task,) = client.get("/v1/tasks").json()["items"]
    assert (task["id"], task["instruction"]) == ("open_drawer", "open the drawer")
    assert client.get("/v1/tasks/open_drawer").json() == task


@pytest.mark.parametrize("path", ["judges", "stations", "tasks", "episodes", "checkpoints", "policies"])
def test_what_is_not_there_is_not_found_by_its_name(client, path):
    answer = client.get(f"/v1/{path}/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "page_not_found")
    assert "nobody" in answer.json()["detail"]


def test_the_audit_log_is_told_newest_first_and_in_pages(client):
    for _ in range(3):
        client.post("/v1/iterations", json={})
    client.post("/v1/iterations/2/cancel")
    first = client.get("/v1/audit", params={"limit": 3}).json()
    second = client.get("/v1/audit", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    acts = [
        (act["actor"], act["action"], act["subject"]) for page in (first, second) for act in page["items"]
    ]
    assert acts == [
        ("rest", "iteration_cancelled", "iteration 2"),
        *(("rest", "iteration_requested", f"iteration {number}") for number in (3, 2, 1)),
    ]
    assert second["next_cursor"] is None
    on_two = client.get("/v1/audit", params={"subject": "iteration 2"}).json()["items"]
    assert [act["action"] for act in on_two] == ["iteration_cancelled", "iteration_requested"]
    assert client.get("/v1/audit", params={"actor": "nobody"}).json()["items"] == []
    wrong = client.get("/v1/audit", params={"cursor": "x"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "cursor_invalid")


@pytest.mark.parametrize(
    ("scope", "status"), [("read", 403), ("operate", 403), ("label", 403), ("admin", 200)]
)
def test_only_an_admin_reads_who_did_what(client, bearer, scope, status):
    assert client.get("/v1/audit", headers=bearer(scope)).status_code == status


@pytest.mark.parametrize(("scope", "status"), [("read", 403), ("label", 403), ("operate", 404)])
@pytest.mark.parametrize("act", ["promote", "rollback"])
def test_who_may_operate_may_change_the_champion(client, bearer, scope, status, act):
    answer = client.post(f"/v1/policies/nobody/{act}", json={}, headers=bearer(scope))
    assert answer.status_code == status
