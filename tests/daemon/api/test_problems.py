import importlib
import importlib.util
import inspect
import pkgutil
import sqlite3

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

import daemon.api.errors
import daemon.errors
import daemon.events.errors
import daemon.hub.errors
import daemon.scheduling.errors
import daemon.worlds.errors
import robot_bridge.errors
import storage.access_token_errors
import storage.errors
from daemon.api.problems import STATUS, install_problems, problem
from daemon.errors import DaemonError, NotReady, PageNotFound, SpecInvalid
from storage.errors import StorageError

TORCH = {"daemon.worker", "daemon.offline", "daemon.demo"}  # too slow to import for this
OPTIONAL = {"daemon.trace_export": "opentelemetry.sdk", "daemon.wandb_runs": "wandb"}  # extras bring these
MODULES = (
    daemon.errors,
    daemon.api.errors,
    daemon.events.errors,
    daemon.hub.errors,
    daemon.scheduling.errors,
    daemon.worlds.errors,
    storage.errors,
    storage.access_token_errors,
    robot_bridge.errors,
)
CODES = {
    value.code
    for module in MODULES
    for _, value in inspect.getmembers(module, inspect.isclass)
    if hasattr(value, "code")
}


def test_every_listed_code_is_a_code_of_some_error():
    assert set(STATUS) <= CODES


BUG = "a row or a file that contradicts another: a fault of ours or of the disk, for the log"
ROOT = "the root of a branch: only its subclasses are raised"
PHASE = "raised in a worker and kept in the run's row; no route raises it"
COMMAND = "said by a command before or beside the API"
CLIENT = "raised on the client's side"
INTERNAL = {  # of daemon and storage; those of the robot side have a table of their own
    "storage_error": ROOT,
    "blob_error": ROOT,
    "daemon_error": ROOT,
    "refused": ROOT,
    "scheduling_error": ROOT,
    "world_error": ROOT,
    "hub_error": ROOT,
    "checkpoint_folder_invalid": COMMAND,
    "blob_missing": BUG,
    "blob_corrupt": BUG,
    "blob_name_invalid": BUG,
    "sweep_refused": "told in the log by the daemon's own sweep",
    "cache_name_invalid": BUG,
    "episode_corrupt": BUG,
    "checkpoint_corrupt": BUG,
    "naive_datetime": BUG,
    "not_json": BUG,
    "counts_invalid": BUG,
    "metric_not_finite": PHASE,
    "asset_missing": PHASE,
    "nothing_collected": PHASE,
    "policy_contract_mismatch": PHASE,
    "phase_overdue": PHASE,
    "human_awaited": PHASE,
    "what_if_overdue": PHASE,
    "phase_stalled": PHASE,
    "phase_unknown": PHASE,
    "clock_skewed": COMMAND,
    "database_url_invalid": COMMAND,
    "data_directory_busy": COMMAND,
    "data_directory_unfinished": COMMAND,
    "setting_invalid": COMMAND,
    "setting_unknown": COMMAND,
    "demo_failed": COMMAND,
    "proof_differs": COMMAND,
    "sink_refused": COMMAND,
    "daemon_refused": CLIENT,
    "daemon_unreachable": CLIENT,
    "iteration_failed": CLIENT,
    "wait_timed_out": CLIENT,
    "what_if_failed": CLIENT,
    "what_if_waits": CLIENT,
    "token_unusable": CLIENT,
}


def test_every_code_of_daemon_and_storage_has_a_status_or_a_reason_to_answer_500():
    own = {
        value.code
        for module in MODULES
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, DaemonError | StorageError)
    }
    assert own - set(STATUS) == set(INTERNAL)


def test_every_listed_status_is_an_error_status():
    assert all(400 <= status < 600 for status in STATUS.values())


def test_no_error_of_the_daemon_or_of_storage_is_declared_elsewhere():
    for package in ("daemon", "daemon.api", "daemon.scheduling", "storage"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            path = f"{package}.{module.name}"
            if module.ispkg or path in TORCH or path in {each.__name__ for each in MODULES}:
                continue
            if path in OPTIONAL and importlib.util.find_spec(OPTIONAL[path]) is None:
                continue
            found = inspect.getmembers(importlib.import_module(path), inspect.isclass)
            ours = [value for _, value in found if issubclass(value, DaemonError | StorageError)]
            assert {value.__module__ for value in ours} <= {each.__name__ for each in MODULES}, path


@pytest.fixture
def client():
    app = FastAPI()
    install_problems(app)

    @app.get("/lost")
    def lost():
        raise PageNotFound(what="thing", key=7)

    @app.get("/refused")
    def refused():
        raise SpecInvalid(faults={"seed": "too small"})

    @app.get("/starting")
    def starting():
        raise NotReady(checks={"database": "ok", "workers": "0 of 1 alive"})

    @app.get("/unlisted")
    def unlisted():
        raise DaemonError("something that has no row")

    @app.get("/locked")
    def locked():
        raise OperationalError("UPDATE secret", {}, sqlite3.OperationalError("database is locked"))

    @app.get("/bug")
    def bug():
        raise ZeroDivisionError("secret")

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_a_problem_names_its_code_its_status_and_the_sentence(client):
    answer = client.get("/lost")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:gymnastd:problem:page_not_found",
        "title": "Not Found",
        "status": 404,
        "code": "page_not_found",
        "detail": "there is no thing 7. List what there is and ask for one of those.",
        "retryable": False,
    }


def test_faults_are_told_by_field(client):
    answer = client.get("/refused")
    assert (answer.status_code, answer.json()["faults"]) == (422, {"seed": "too small"})


def test_what_may_pass_says_so(client):
    answer = client.get("/starting").json()
    assert (answer["status"], answer["retryable"]) == (503, True)
    assert answer["checks"] == {"database": "ok", "workers": "0 of 1 alive"}


def test_a_database_that_is_away_or_locked_is_no_bug_and_its_words_are_for_the_log(client, caplog):
    answer = client.get("/locked")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_away")
    assert answer.json()["retryable"] is True
    assert "database is locked" not in answer.text
    assert "path=/locked code=database_away reason=database is locked" in caplog.text


def test_a_code_without_a_row_is_a_fault_of_ours_and_is_logged(client, caplog):
    assert client.get("/unlisted").status_code == 500
    assert "code=daemon_error" in caplog.text


def test_a_bug_answers_without_its_insides(client):
    answer = client.get("/bug")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in answer.json()["detail"]


def test_a_path_that_does_not_exist_is_a_problem_too(client):
    answer = client.get("/nowhere")
    assert (answer.status_code, answer.json()["code"]) == (404, "page_not_found")


def test_a_wrong_method_says_which_are_right(client):
    answer = client.delete("/lost")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


def test_members_are_added_to_the_document():
    assert b'"colour":"red"' in problem("c", "d", status=422, colour="red").body
