"""A backup taken in the middle of an iteration: what is restored goes on with it and finishes."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.settings import Settings
from daemon.stores import open_blobs, open_database
from storage import checkpoints, episodes
from storage.phase_runs import PHASES
from tests.daemon.conftest import build_episode
from tests.daemon.test_app import served, until, walked

HELD = "finetune_world_model"


def gymnastd(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "daemon.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def filled(settings: Settings) -> tuple[str, str]:
    """An episode and a checkpoint in the store of a daemon that runs; their ids."""
    database, blobs = open_database(settings), open_blobs(settings)
    file = settings.data_dir / "weights"
    file.write_bytes(b"weights")
    with database.write() as session:
        now = datetime.now(UTC)
        provenance = episodes.Provenance(origin="collect")
        row, _ = episodes.commit(session, blobs, build_episode(), provenance=provenance, now=now)
        new = checkpoints.NewCheckpoint(kind="policy", spec_digest="x")
        saved = checkpoints.save(session, blobs, new, file=file, now=now)
    database.dispose()
    return row.id, saved.id


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_iteration_in_the_middle_of_a_phase_is_restored_and_finishes(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (first / f"hold-{HELD}").touch()
    here, there = {}, {}
    if kind == "postgres":
        here = {"GYMNASTD_DATABASE_URL": request.getfixturevalue("postgres_url")}
        there = {"GYMNASTD_DATABASE_URL": request.getfixturevalue("empty_postgres_url")}
    with served(first, **here) as (client, process):
        number = client.request_iteration({"seed": 5})["number"]
        until((first / f"in-{HELD}").exists)
        settings = Settings(data_dir=first, database_url=here.get("GYMNASTD_DATABASE_URL"))
        episode_id, checkpoint_id = filled(settings)
        made = gymnastd("backup", tmp_path / "b", GYMNASTD_DATA_DIR=str(first), **here)
        assert (made.returncode, made.stderr.count("Traceback")) == (0, 0), made.stderr
        assert client.iteration(number)["state"] == "running", "nobody was disturbed"
        process.kill()
        process.wait()
    put = gymnastd("restore", tmp_path / "b", GYMNASTD_DATA_DIR=str(second), **there)
    assert put.returncode == 0, put.stderr
    assert (second / f"hold-{HELD}").exists(), "files beside the blobs come along"
    (second / f"hold-{HELD}").unlink()
    with served(second, **there) as (client, _):
        record = client.wait(number, poll_s=0.05, timeout_s=60)
    assert record["state"] == "finished"
    states = [(run["phase"], run["state"]) for run in record["phases"]]
    assert states == [
        ("collect", "finished"),
        (HELD, "abandoned"),
        (HELD, "finished"),
        ("update_policy", "finished"),
    ]
    assert walked(second).count("collect") == 1, "a finished phase is not repeated"
    assert set(walked(second)) == set(PHASES)
    settings = Settings(data_dir=second, database_url=there.get("GYMNASTD_DATABASE_URL"))
    database = open_database(settings)
    with database.read() as session:
        found = episodes.load(session, open_blobs(settings), episode_id)
        kept = checkpoints.path(checkpoints.get(session, checkpoint_id), open_blobs(settings))
    assert found.digest == build_episode().digest
    assert kept.read_bytes() == b"weights"
    database.dispose()
