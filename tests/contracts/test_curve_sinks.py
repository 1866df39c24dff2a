"""Every sink of curves against the same demands: each number once, at its step and time, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.curve_export import Sink, export_curves
from daemon.curves import append_moment, curves_path
from daemon.errors import SinkRefused
from daemon.settings import Settings
from daemon.stores import open_database
from daemon.tensorboard import EventFiles
from storage import iterations, phase_runs
from storage.interchange import tf_example
from storage.interchange.tfrecord import read_records

KEY = "0123456789abcdef0123456789abcdef01234567"
BLOCK = 32768  # bytes; W&B's files are logs of LevelDB's kind: checksum, length and kind before each part

Point = tuple[str, int, float, float]  # tag, step, value, seconds since 1970
needs_wandb = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="the extra wandb is not installed"
)


def points_of_event_files(folder: Path) -> list[Point]:
    files = sorted(folder.rglob("events.out.*"))
    return [point for file in files for point in map(point_of, read_records(file)) if point]


def point_of(content: bytes) -> Point | None:
    fields: dict[int, Any] = dict(tf_example._fields(content))
    if 5 not in fields:
        return None
    value: dict[int, Any] = dict(tf_example._fields(dict(tf_example._fields(fields[5]))[1]))  # type: ignore[arg-type]
    (number,), (at,) = struct.unpack("<f", value[2]), struct.unpack("<d", fields[1])
    return value[1].decode(), fields[2], number, at


def points_of_wandb(folder: Path) -> list[Point]:
    found = []
    for file in sorted(path for path in folder.glob("wandb/offline-run-*/*.wandb")):
        for record in wandb_records(file.read_bytes()):
            if record.WhichOneof("record_type") == "history":
                row = {
                    item.nested_key[0] or item.key: json.loads(item.value_json)
                    for item in record.history.item
                }
                tags = [name for name in row if name != "step" and not name.startswith("_")]
                found += [(tag, row["step"], row[tag], row["_timestamp"]) for tag in tags]
    return found


def wandb_records(content: bytes) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    at, parts = 7, b""
    while at < len(content):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def wandb_runs(folder: Path) -> Sink:
    from daemon.wandb_runs import WandbRuns

    return WandbRuns(folder=folder, project="lab")


@dataclass(frozen=True)
class Kind:
    """A sink in a folder, and how what it took is read back."""

    make: Callable[[Path], Sink]
    points: Callable[[Path], list[Point]]


KINDS = [
    pytest.param(Kind(EventFiles, points_of_event_files), id="tensorboard"),
    pytest.param(Kind(wandb_runs, points_of_wandb), id="wandb", marks=needs_wandb),
]


class Store:
    """An iteration with three runs: of one nothing was recorded, one is over, one goes on."""

    def __init__(self, data_dir: Path, now: datetime) -> None:
        self.settings, self.now = Settings(data_dir=data_dir), now
        data_dir.mkdir()
        self.database = open_database(self.settings)
        self.database.upgrade()
        with self.database.write() as session:
            row, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
            for phase in ("collect", "finetune_world_model"):
                phase_runs.queue(session, row, phase=phase, now=now)
                claimed = phase_runs.claim(session, "w", ttl_s=60, now=now)
                assert claimed is not None
                phase_runs.finish(session, claimed, outcome={}, now=now)
            self.over = claimed.phase_run_id
        self.record(self.over, {"update": 1, "loss": 0.5, "entropy": 2.0}, {"update": 20, "loss": 0.25})

    def record(self, run_id: str, *moments: dict[str, float]) -> None:
        for place, moment in enumerate(moments):
            at = self.now + timedelta(seconds=place)
            append_moment(curves_path(self.settings.data_dir, run_id), moment, now=at)

    def go_on(self) -> str:
        """Begin another run, which records something."""
        with self.database.write() as session:
            (row,) = iterations.unfinished(session)
            run = phase_runs.queue(session, row, phase="update_policy", now=self.now)
            claimed = phase_runs.claim(session, "w", ttl_s=60, now=self.now)
            assert claimed is not None
        self.record(run.id, {"update": 1, "loss": 9.0})
        self.claimed = claimed
        return run.id

    def end(self) -> None:
        with self.database.write() as session:
            phase_runs.finish(session, self.claimed, outcome={}, now=self.now)

    def export(self, sink: Sink) -> int:
        return export_curves(self.settings, sink, advance=lambda done, of: None)


@pytest.fixture
def store(tmp_path, now, monkeypatch) -> Iterator[Store]:
    monkeypatch.setenv("WANDB_MODE", "offline")
    made = Store(tmp_path / "data", now)
    yield made
    made.database.dispose()


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_there_once_at_its_step_and_time(kind: Kind, store: Store, tmp_path: Path) -> None:
    assert store.export(kind.make(tmp_path / "out")) == 1
    at = store.now.timestamp()
    assert sorted(kind.points(tmp_path / "out")) == [
        ("entropy", 1, 2.0, at),
        ("loss", 1, 0.5, at),
        ("loss", 20, 0.25, at + 1),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_again_and_again_adds_what_is_new_and_nothing_twice(kind: Kind, store: Store, tmp_path: Path) -> None:
    for _ in range(2):
        store.export(kind.make(tmp_path / "out"))
    assert len(kind.points(tmp_path / "out")) == 3
    run_id = store.go_on()
    store.export(kind.make(tmp_path / "out"))
    store.record(run_id, {"update": 2, "loss": 8.0})
    store.end()
    assert store.export(kind.make(tmp_path / "out")) == 2
    losses = sorted((step, value) for tag, step, value, _ in kind.points(tmp_path / "out") if tag == "loss")
    assert losses == [(1, 0.5), (1, 9.0), (2, 8.0), (20, 0.25)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_and_nothing_of_the_environment_is_in_what_is_left(
    kind: Kind, store: Store, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("LAB_PASSWORD", "correct-horse-battery")
    store.export(kind.make(tmp_path / "out"))
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert left
    for path in left:
        content = path.read_bytes()
        assert KEY.encode() not in content, path
        assert b"correct-horse-battery" not in content, path
        assert os.environ["PATH"].encode() not in content, path


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_store_gives_nothing(kind: Kind, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = Settings(data_dir=tmp_path / "data")
    settings.data_dir.mkdir()
    database = open_database(settings)
    database.upgrade()
    database.dispose()
    sink = kind.make(tmp_path / "out")
    assert export_curves(settings, sink, advance=lambda done, of: None) == 0
    assert kind.points(tmp_path / "out") == []


@needs_wandb
def test_a_network_that_is_dead_is_told_and_the_export_can_be_repeated(
    store: Store, tmp_path: Path, monkeypatch
) -> None:
    from daemon.redaction import Redactor
    from daemon.wandb_runs import WandbRuns

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    sink = WandbRuns(folder=tmp_path / "out", project="lab", redactor=Redactor([KEY]), wait_s=3.0)
    with pytest.raises(SinkRefused, match="Weights & Biases does not take the curves") as refused:
        store.export(sink)
    assert KEY not in str(refused.value)
    monkeypatch.setenv("WANDB_MODE", "offline")
    store.export(wandb_runs(tmp_path / "out"))
    assert len(points_of_wandb(tmp_path / "out")) == 3


@needs_wandb
def test_it_is_a_command(store: Store, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(store.settings.data_dir))
    done = CliRunner().invoke(app, ["export", "wandb", str(tmp_path / "out"), "--project", "lab", "--json"])
    assert json.loads(done.stdout) == {"phase_runs": 1, "folder": str(tmp_path / "out")}
    assert len(points_of_wandb(tmp_path / "out")) == 3
