"""A store with something of everything in it, and a second place to put a backup into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from daemon.settings import Settings
from daemon.spec import parse_spec
from daemon.stores import open_blobs
from robot_bridge.episode import Episode
from storage import (
    audit,
    checkpoints,
    episodes,
    iterations,
    labels,
    leases,
    metrics,
    notes,
    phase_runs,
    trials,
)
from storage.blobs import BlobStore
from storage.db import Database
from storage.tables import CheckpointRow
from tests.daemon.conftest import build_episode


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One installation without its processes."""

    settings: Settings
    database: Database
    blobs: BlobStore
    now: datetime

    def episode(self, episode: Episode, *, at: datetime | None = None, **provenance: object) -> str:
        provenance.setdefault("origin", "collect")
        with self.database.write() as session:
            given = episodes.Provenance(**provenance)
            row, _ = episodes.commit(session, self.blobs, episode, provenance=given, now=at or self.now)
            return row.id

    def checkpoint(self, kind: str, content: bytes, **fields: object) -> CheckpointRow:
        file = self.settings.data_dir / "new"
        file.write_bytes(content)
        new = checkpoints.NewCheckpoint(kind=kind, spec_digest="x", **fields)
        with self.database.write() as session:
            return checkpoints.save(session, self.blobs, new, file=file, now=self.now)

    def iteration(self, *, finished: bool = True, **outcome: object) -> str:
        """One more iteration, whose one phase ended with this outcome."""
        with self.database.write() as session:
            spec = parse_spec({}).document()
            row, _ = iterations.request_iteration(session, spec=spec, idempotency_key=None, now=self.now)
            phase_runs.queue(session, row, phase="update_policy", now=self.now)
            claimed = phase_runs.claim(session, "w", ttl_s=9, now=self.now)
            if finished:
                phase_runs.finish(session, claimed, outcome=outcome, now=self.now)
                row.state = "finished"
            return row.id


@pytest.fixture
def store(database: Database, tmp_path: Path, now: datetime) -> Store:
    settings = Settings(
        data_dir=tmp_path / "data", database_url=database.url.render_as_string(hide_password=False)
    )
    settings.data_dir.mkdir()
    return Store(settings=settings, database=database, blobs=open_blobs(settings), now=now)


@pytest.fixture
def full(store: Store) -> Store:
    """At least one row in most tables, blobs of every kind, and files beside them."""
    strip = store.blobs.put(b"a film strip")
    iteration_id = store.iteration(film_strips={"open_drawer": {"real": strip}})
    base = store.checkpoint("policy", b"base policy")
    child = store.checkpoint("policy", b"better policy", parent_id=base.id, iteration_id=iteration_id)
    store.checkpoint("world_model", b"world model", card={"loss": 0.25})
    episode_id = store.episode(build_episode(), iteration_id=iteration_id, checkpoint_id=child.id)
    with store.database.write() as session:
        verdict = labels.Verdict(success=False, source="human", at=store.now, judge="ann")
        labels.append(session, episode_id, verdict, now=store.now)
        notes.append(session, episode_id, "the cable snagged 🦾", author="ann", now=store.now)
        audit.write(session, "ann", action="label", subject=episode_id, facts={"a": None}, now=store.now)
        leases.acquire(session, "robot", holder="w", ttl_s=9, now=store.now)
        decision = trials.NewTrial(
            iteration_id=iteration_id,
            champion_id=base.id,
            candidate_id=child.id,
            decision=trials.PROMOTED,
            evidence={"probability_better": 0.995},
        )
        trials.save(session, decision, now=store.now)
        (run,) = phase_runs.of_iteration(session, iteration_id)
        metrics.record(session, run.id, {"loss": 0.5}, now=store.now)
    for name in ("runs/r-1/metrics.jsonl", f"resume/{iteration_id}-world.safetensors", "judge/i.json"):
        path = store.settings.data_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n")
    for name in ("cache/latents/a.npy", "work/w-1/half"):
        path = store.settings.data_dir / name
        path.parent.mkdir(parents=True)
        path.write_text("can be made again")
    return store


@pytest.fixture
def elsewhere(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Where nothing is yet: a data directory and a database of the same kind."""
    url = None if database.is_sqlite else request.getfixturevalue("empty_postgres_url")
    yield Settings(data_dir=tmp_path / "elsewhere", database_url=url)
