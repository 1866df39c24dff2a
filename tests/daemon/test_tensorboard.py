"""Curves as event files: every number once, at its step and time, readable by their wire format alone."""

import json
import struct
from datetime import datetime

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.curve_export import export_curves
from daemon.curves import append_moment, curves_path
from daemon.settings import Settings
from daemon.stores import open_database
from daemon.tensorboard import EventFiles
from storage import iterations, phase_runs
from storage.interchange import tf_example
from storage.interchange.tfrecord import read_records


def event(content: bytes) -> dict:
    """An Event, decoded field by field."""
    fields = dict(tf_example._fields(content))
    (at,) = struct.unpack("<d", fields[1])
    read = {"at": at, "step": fields[2]}
    if 3 in fields:
        return read | {"version": fields[3]}
    value = dict(tf_example._fields(dict(tf_example._fields(fields[5]))[1]))
    return read | {"tag": value[1].decode(), "value": struct.unpack("<f", value[2])[0]}


@pytest.fixture
def settings(tmp_path, now) -> Settings:
    """One iteration with two runs, of which one has recorded something."""
    made = Settings(data_dir=tmp_path / "data")
    made.data_dir.mkdir()
    database = open_database(made)
    database.upgrade()
    with database.write() as session:
        row, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        phase_runs.queue(session, row, phase="collect", now=now)
        run = phase_runs.queue(session, row, phase="update_policy", now=now)
    database.dispose()
    path = curves_path(made.data_dir, run.id)
    append_moment(path, {"update": 1, "loss": 0.5, "entropy": 2.0}, now=now)
    append_moment(path, {"update": 20, "loss": 0.25}, now=now)
    with path.open("a") as torn:
        torn.write('{"at": "2026')
    return made


def test_every_number_is_there_once_at_its_step_and_time(settings, tmp_path, now):
    told = []
    count = export_curves(
        settings, EventFiles(tmp_path / "out"), advance=lambda done, of: told.append((done, of))
    )
    assert (count, told) == (1, [(1, 2), (2, 2)])
    (file,) = (tmp_path / "out").rglob("events.out.tfevents.*")
    assert file.parent == tmp_path / "out" / "iteration-0001" / "update_policy" / "attempt-1"
    first, *others = map(event, read_records(file))
    assert first == {"at": now.timestamp(), "step": 0, "version": b"brain.Event:2"}
    assert [(one["tag"], one["step"], one["value"]) for one in others] == [
        ("loss", 1, 0.5),
        ("entropy", 1, 2.0),
        ("loss", 20, 0.25),
    ]
    assert {datetime.fromtimestamp(one["at"], tz=now.tzinfo) for one in others} == {now}


def test_again_brings_the_same_files_up_to_date(settings, tmp_path, now):
    def quietly(done, of):
        return None

    export_curves(settings, EventFiles(tmp_path / "out"), advance=quietly)
    (file,) = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    before = file.read_bytes()
    export_curves(settings, EventFiles(tmp_path / "out"), advance=quietly)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [file]
    assert file.read_bytes() == before


def test_it_is_a_command(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(settings.data_dir))
    done = CliRunner().invoke(app, ["export", "tensorboard", str(tmp_path / "out")])
    assert f"curves of 1 phase runs in {tmp_path / 'out'}" in done.output
    told = CliRunner().invoke(app, ["export", "tensorboard", str(tmp_path / "out"), "--json"])
    assert json.loads(told.stdout) == {"phase_runs": 1, "folder": str(tmp_path / "out")}
    assert told.stderr == ""
