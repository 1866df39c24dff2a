from dataclasses import replace
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from daemon.api.callers import REMEMBERED_S, Callers
from daemon.api.doors import FAILURES_BURST
from daemon.app import create_app
from daemon.settings import Settings
from storage import access_tokens


def test_a_process_that_answers_is_alive(client):
    assert client.get("/healthz").json() == {"status": "ok"}


def test_a_daemon_with_all_its_parts_is_ready(client):
    checks = {"database": "ok", "scheduler": "ok", "workers": "ok", "disk": "ok"}
    assert client.get("/readyz").json() == {"status": "ok", "checks": checks}


def test_a_daemon_whose_workers_do_not_stay_alive_is_not_ready_and_says_so(tmp_path):
    settings = Settings(data_dir=tmp_path, worker_count=2)
    with TestClient(create_app(settings, worker_command=("false",))) as client:
        supervisor = client.app.state.services.supervisor
        supervisor.stop(grace_s=0.0)
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["code"] == "not_ready"
        assert answer.json()["checks"]["workers"] == "0 of 2 alive"
        assert client.get("/healthz").status_code == 200, "a restart would not help"


def test_a_database_that_lost_its_tables_is_not_ready(client, database):
    database.downgrade("base")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "DatabaseOutdated" in answer.json()["checks"]["database"]


def test_a_state_machine_that_stands_still_is_not_ready(client):
    client.app.state.services = replace(client.app.state.services, scheduling=lambda: False)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["scheduler"]) == (503, "not running")


@pytest.fixture
def stuck(client, database):
    """A daemon whose state machine stands still, and whose tokens are looked up by the test's clock."""
    services, client.seconds = client.app.state.services, 0.0
    callers = Callers(database, now=services.now, clock=lambda: client.seconds)
    client.app.state.services = replace(services, callers=callers, scheduling=lambda: False)
    yield client
    callers.close()


@pytest.fixture
def shown(stuck, database):
    """A header with a new token of a scope; from then on everybody is asked for one."""

    def one(scope):
        now = datetime.now(UTC)
        with database.write() as session:
            made = access_tokens.create(session, scope, scopes=[scope], expires_at=None, now=now)
        stuck.seconds += REMEMBERED_S
        return {"Authorization": f"Bearer {made[1]}"}

    return one


@pytest.mark.parametrize("scope", ["read", "operate", "label", "admin"])
def test_once_tokens_are_asked_for_what_was_found_is_told_to_those_who_may_read(stuck, shown, scope):
    headers, wrong = shown(scope), {"Authorization": "Bearer gmd_0123456789abcdef_" + "s" * 43}
    for stranger in ({}, wrong):
        bare = stuck.get("/readyz", headers=stranger)
        assert (bare.status_code, bare.json()["code"]) == (503, "not_ready")
        assert "checks" not in bare.json()
        assert "scheduler" not in bare.text
    assert stuck.get("/readyz", headers=headers).json()["checks"]["scheduler"] == "not running"


def test_a_ready_daemon_tells_strangers_that_and_no_more(stuck, shown, caplog):
    shown("read")
    stuck.get("/readyz")
    assert "daemon not ready checks={'scheduler': 'not running'}" in caplog.text, "the log says why"
    stuck.app.state.services = replace(stuck.app.state.services, scheduling=lambda: True)
    assert stuck.get("/readyz").json() == {"status": "ok"}


def test_a_probe_is_no_guess_however_often_it_asks(stuck, shown):
    headers = shown("read")
    assert {stuck.get("/readyz").status_code for _ in range(FAILURES_BURST + 5)} == {503}
    assert stuck.get("/v1/iterations", headers=headers).status_code == 200


def test_a_wrong_token_at_the_probe_is_a_guess_all_the_same(stuck, shown):
    headers, wrong = shown("read"), {"Authorization": "Bearer guess"}
    assert {stuck.get("/readyz", headers=wrong).status_code for _ in range(FAILURES_BURST + 5)} == {503}
    assert stuck.get("/v1/iterations", headers=headers).status_code == 429
