"""A toy station over real HTTP, tiny models in the store, and a phase context that holds a real lease."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from daemon.learning.policy.policy import new_policy
from daemon.learning.reward.classifier import ClassifierJudge, new_judge
from daemon.learning.world_model.model import nano_world_model
from daemon.phases import checkpoints as phase_checkpoints
from daemon.phases import gating
from daemon.phases.arms import champion
from daemon.phases.checkpoints import Made, keep
from daemon.phases.context import PhaseContext
from daemon.settings import Settings
from daemon.spec import parse_spec
from robot_bridge.station.serve import running_station
from storage import checkpoints, iterations, phase_runs
from storage.blobs import BlobStore
from storage.db import Database
from storage.tables import CheckpointRow
from tests.robot_bridge.toy_driver import TASKS, ToyDriver

SMALL = {
    "seed": 3,
    "steps": 10,
    "tasks": ["open_drawer", "close_drawer"],
    "collect": {"episodes_per_task": 2, "held_out_every": 2, "temperature": 1.0},
    "world_model": {"updates": 2, "batch": 2},
    "judge": {"updates": 2},
    "policy": {"updates": 1, "groups": 4, "group_size": 4, "epochs": 1},
}


@dataclass(slots=True)
class Lab:
    """A store, a toy station's address and one iteration whose phases can be run one by one."""

    database: Database
    blobs: BlobStore
    station_url: str
    folder: Path
    iteration_id: str = ""
    told: list[tuple[float, str]] = field(default_factory=list)
    moments: list[dict[str, float]] = field(default_factory=list)

    def request(self, spec: dict[str, Any]) -> None:
        with self.database.write() as session:
            row, _ = iterations.request_iteration(
                session, spec=parse_spec(spec).document(), idempotency_key=None, now=wall_clock()
            )
            self.iteration_id = row.id

    def context(self, phase: str) -> PhaseContext:
        """Queue and claim a run of the phase; the context carries its fence."""
        with self.database.write() as session:
            row = iterations.get(session, self.iteration_id)
            phase_runs.queue(session, row, phase=phase, now=wall_clock())
            claimed = phase_runs.claim(session, "worker-1", ttl_s=600.0, now=wall_clock())
        assert claimed is not None
        work_dir = self.folder / claimed.phase_run_id
        work_dir.mkdir()
        return PhaseContext(
            database=self.database,
            blobs=self.blobs,
            settings=Settings(data_dir=self.folder, station_url=self.station_url),
            spec=parse_spec(claimed.spec),
            iteration_id=claimed.iteration_id,
            iteration_number=claimed.iteration_number,
            phase_run_id=claimed.phase_run_id,
            fence=claimed.fence,
            work_dir=work_dir,
            report=lambda share, text: self.told.append((share, text)),
            record=lambda values: self.moments.append(dict(values)),
            now=wall_clock,
        )

    def do(self, phase: str, run: Callable[[PhaseContext], dict[str, object]]) -> dict[str, object]:
        """Run a phase to its end and record its outcome, as the worker does."""
        context = self.context(phase)
        outcome = run(context)
        self.end(context, outcome)
        return outcome

    def end(self, context: PhaseContext, outcome: dict[str, object]) -> None:
        with self.database.write() as session:
            row = phase_runs.require_held(session, context.phase_run_id, fence=context.fence)
            row.state, row.outcome, row.finished_at = "finished", outcome, wall_clock()


def wall_clock() -> datetime:
    return datetime.now(UTC)


def let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate accepts whatever it compares."""
    decide = gating.decide
    monkeypatch.setattr(gating, "decide", lambda *a, **k: replace(decide(*a, **k), accepted=True))


def keep_checkpoint(database: Database, blobs: BlobStore, kind: str, file: Path) -> CheckpointRow:
    """A checkpoint that was brought in from outside."""
    new = checkpoints.NewCheckpoint(kind=kind, spec_digest="0" * 64, card={})
    with database.write() as session:
        return checkpoints.save(session, blobs, new, file=file, now=wall_clock())


def a_coin(sentences: tuple[str, ...]) -> ClassifierJudge:
    """A judge that says yes as often as no of noise, never declines, and so gives groups spread."""
    judge = new_judge(sentences, seed=0, width=8)
    judge.abstain_within = 0.0
    noise = torch.randint(256, (64, 3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
    with torch.no_grad():
        judge.model.decide[-1].bias -= judge.logits(noise, [sentences[0]] * 64).median()
    return judge


def tiny_models(folder: Path) -> dict[str, Path]:
    """Untrained models of a few thousand weights, one file each."""
    sentences = tuple(TASKS.values())
    files = {kind: folder / f"{kind}.safetensors" for kind in ("policy", "world_model", "judge")}
    new_policy(sentences, seed=0, width=16, layers=1).save(files["policy"], {})
    shape = {"in_channels": 4, "dim": 16, "layers": 1, "heads": 2, "max_frames": 6}
    nano_world_model(seed=0, **shape).save(files["world_model"], {})
    a_coin(sentences).save(files["judge"], {})
    return files


def make_policy(lab: Lab) -> str:
    """What an update made: a policy of a finished phase, unlike any other."""
    context = lab.context("update_policy")
    number = len(lab.told)
    lab.told.append((0.0, "one more policy"))
    policy = new_policy(tuple(TASKS.values()), seed=100 + number, width=16, layers=1)
    row = keep(context, policy, Made(kind="policy", parent=champion(context), card={}))
    lab.end(context, {"made": {"policy": row.id}})
    return row.id


def tiny_installation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A fresh data directory, with tiny models in the place of the committed base."""
    preset = folder / "assets" / "nano"
    preset.mkdir(parents=True)
    tiny_models(preset)
    (preset / "card.json").write_text("{}")
    monkeypatch.setattr(phase_checkpoints, "ASSETS", folder / "assets")
    return Settings(data_dir=folder / "data")


class Crash(Exception):
    """Stands for a worker that dies."""


def crashing(context: PhaseContext, *, at: str) -> PhaseContext:
    """The same context, whose worker dies when a progress phrase begins so; time passes at every look."""
    clock = iter(context.now() + timedelta(minutes=i) for i in range(10_000))

    def report(share: float, text: str) -> None:
        context.report(share, text)
        if text.startswith(at):
            raise Crash

    def now() -> datetime:
        return next(clock)

    return replace(context, report=report, now=now)


@pytest.fixture(scope="session")
def toy_station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    spool = tmp_path_factory.mktemp("spool")
    with running_station(ToyDriver(), spool=spool, station_id="toy-1") as url:
        yield url


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same untrained models for every lab, made once; a store takes the file away that it is given."""
    return tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def lab(
    sqlite_database: Database,
    blobs: BlobStore,
    toy_station: str,
    model_files: dict[str, Path],
    tmp_path: Path,
) -> Lab:
    """A lab with tiny models and a small iteration requested."""
    for kind, file in model_files.items():
        keep_checkpoint(sqlite_database, blobs, kind, Path(shutil.copy(file, tmp_path)))
    found = Lab(database=sqlite_database, blobs=blobs, station_url=toy_station, folder=tmp_path / "runs")
    found.folder.mkdir()
    found.request(SMALL)
    return found
