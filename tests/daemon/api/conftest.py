"""An API over a database of the test's own, without workers: nothing moves unless the test moves it.

Whatever it answers in any test has to be told in its OpenAPI document.
"""

import functools
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from daemon import station_cameras, station_watch
from daemon.app import create_app
from daemon.iteration import advance
from daemon.settings import Settings
from storage import phase_runs
from storage.db import Database


@pytest.fixture
def settings(tmp_path, sqlite_url) -> Settings:
    return Settings(data_dir=tmp_path, database_url=sqlite_url, worker_count=0)


@pytest.fixture
def slow_machine(monkeypatch):
    """Stations and cameras may be slow, and pictures count as live, for as long as a loaded machine takes."""
    for module in (station_cameras, station_watch):
        monkeypatch.setattr(module, "PATIENCE_S", 20.0)
        monkeypatch.setattr(module, "ANSWER_S", 20.0)
    monkeypatch.setattr(station_cameras, "LIVE_S", 60.0)


@functools.cache
def openapi():
    """The document of every application, which takes longer to make than most tests."""
    return create_app(Settings()).openapi()


@pytest.fixture
def client(settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        client.event_hooks = {"response": [lambda answer: require_told(openapi(), answer)]}
        yield client


def require_told(document, answer):
    """Fail where the answer's status is not told of its call; 500 is a fault, and told of none."""
    method, path = answer.request.method.lower(), answer.request.url.path
    for template, operations in document["paths"].items():
        form = re.sub(r"\{\w+\}", "[^/]+", template)
        if re.fullmatch(form, path) and method in operations:
            statuses = {*operations[method]["responses"], "500"}
            assert str(answer.status_code) in statuses, f"{method} {template} {answer.status_code}"


@pytest.fixture
def database(client) -> Database:
    return client.app.state.services.database


@pytest.fixture
def blobs(client):
    return client.app.state.services.blobs


@pytest.fixture
def claim_phase(database):
    """Claim the next phase of the running iteration, as a worker does."""

    def claim() -> phase_runs.ClaimedRun:
        at = datetime.now(UTC)  # the application's own clockwork runs beside the test, on the wall clock
        claimed = None
        while claimed is None:
            with database.write() as session:
                advance(session, now=at)
                claimed = phase_runs.claim(session, "w", ttl_s=3600, now=at)
        return claimed

    return claim


@pytest.fixture
def finish_phase(database, claim_phase):
    """Bring the next phase of the running iteration to its end with an outcome."""

    def finish(**outcome) -> phase_runs.ClaimedRun:
        claimed = claim_phase()
        with database.write() as session:
            phase_runs.finish(session, claimed, outcome=outcome, now=datetime.now(UTC))
        return claimed

    return finish


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    """Look again and again until the application's own clockwork has brought something about."""

    def wait(look: Callable[[], Any], attempts: int = 2000) -> Any:
        pause = threading.Event()
        for _ in range(attempts):
            found = look()
            if found:
                return found
            pause.wait(0.01)
        raise AssertionError("it never came about")

    return wait
