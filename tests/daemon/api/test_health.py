from dataclasses import replace

from fastapi.testclient import TestClient

from daemon.app import create_app
from daemon.settings import Settings


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
