"""What is let go, when, and above all what is not."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from daemon.operations.gc import Collected, Retention, collect_garbage
from daemon.operations.turn import Turn
from storage import checkpoints, phase_runs, trials
from storage.blobs import BlobStore
from storage.errors import LeaseHeld, Retired, SweepRefused
from storage.sweep import FEW
from storage.tables import CheckpointRow
from tests.daemon.conftest import build_episode
from tests.daemon.operations.conftest import Store

HOUR = 3600.0
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # the same on both


def collected(store: Store, *, days: float, dry_run: bool = False, **keep: object) -> Collected:
    return collect_garbage(
        store.settings,
        Retention(**{"iterations": 1, "grace_s": HOUR, **keep}),
        dry_run=dry_run,
        report=lambda share, text: None,
        now=lambda: store.now + timedelta(days=days),
    )


def aged(store: Store) -> None:
    """All files as old as the rows are."""
    for path in store.settings.data_dir.rglob("*"):
        if path.is_file():
            os.utime(path, (store.now.timestamp(),) * 2)


def retired(store: Store) -> set[str]:
    with store.database.read() as session:
        query = sa.select(CheckpointRow.id).where(CheckpointRow.retired_at.is_not(None))
        return set(session.scalars(query))


def crown(store: Store, champion: CheckpointRow, candidate: CheckpointRow, *, iteration_id: str) -> None:
    with store.database.write() as session:
        decision = trials.NewTrial(
            iteration_id=iteration_id,
            champion_id=champion.id,
            candidate_id=candidate.id,
            decision=trials.PROMOTED,
            evidence={},
        )
        trials.save(session, decision, now=store.now)


@pytest.fixture
def history(store: Store) -> dict[str, CheckpointRow]:
    """Three iterations: in the first a policy won and another was cut off, the last one kept to it."""
    rows: dict[str, CheckpointRow] = {}
    rows["base"] = store.checkpoint("policy", b"base")
    first = store.iteration()
    rows["second"] = store.checkpoint("policy", b"second", parent_id=rows["base"].id, iteration_id=first)
    rows["killed"] = store.checkpoint("policy", b"killed", parent_id=rows["base"].id, iteration_id=first)
    rows["model"] = store.checkpoint("world_model", b"model", iteration_id=first)
    rows["judge"] = store.checkpoint("judge", b"judge", iteration_id=first)
    crown(store, rows["base"], rows["second"], iteration_id=first)
    store.iteration(made={"judge": rows["judge"].id})
    last = store.iteration(read={"world_model": rows["model"].id})
    rows["newest"] = store.checkpoint("policy", b"newest", parent_id=rows["second"].id, iteration_id=last)
    aged(store)
    return rows


def test_what_nobody_goes_on_from_is_marked_first_and_deleted_after_the_grace(
    store: Store, history: dict[str, CheckpointRow]
) -> None:
    size = len(b"killed")
    first = collected(store, days=1)
    assert retired(store) == {history["killed"].id}
    assert (first.retired_checkpoints.count, first.retired_checkpoints.size_bytes) == (1, size)
    assert store.blobs.path(history["killed"].sha256).is_file(), "whoever reads it may finish"
    with store.database.read() as session, pytest.raises(Retired):
        checkpoints.path(checkpoints.get(session, history["killed"].id), store.blobs)
    assert collected(store, days=1 + 0.5 / 24).blobs.count == 0, "the grace is not over"
    second = collected(store, days=2)
    assert (second.blobs.count, second.blobs.size_bytes) == (1, size)
    assert history["killed"].sha256 not in store.blobs.sizes()
    for name in set(history) - {"killed"}:
        with store.database.read() as session:
            row = checkpoints.get(session, history[name].id)
            assert checkpoints.path(row, store.blobs).is_file(), name
    assert collected(store, days=3) == Collected(), "there is nothing left to do"


@on_sqlite
def test_the_newest_of_each_kind_stays_however_many_iterations_failed_since(
    store: Store, history: dict[str, CheckpointRow]
) -> None:
    for _ in range(4):
        store.iteration()
    collected(store, days=1)
    assert retired(store) == {history[name].id for name in ("killed", "model", "newest")}
    assert history["judge"].id not in retired(store), "a finished phase made it"


@on_sqlite
def test_checkpoints_of_an_iteration_that_is_not_over_stay(
    store: Store, history: dict[str, CheckpointRow]
) -> None:
    running = store.iteration(finished=False)
    half = store.checkpoint("world_model", b"half", iteration_id=running)
    for _ in range(3):
        store.iteration()
    aged(store)
    collected(store, days=1)
    assert half.id not in retired(store)


@on_sqlite
def test_what_was_brought_in_from_outside_stays(store: Store, history: dict[str, CheckpointRow]) -> None:
    imported = store.checkpoint("world_model", b"imported", card={"candidate": True})
    collected(store, days=1)
    assert imported.id not in retired(store)


@on_sqlite
def test_more_iterations_keep_more(store: Store, history: dict[str, CheckpointRow]) -> None:
    collected(store, days=1, iterations=3)
    assert retired(store) == set()


@on_sqlite
def test_a_dry_run_says_the_same_and_changes_nothing(store: Store, history: dict[str, CheckpointRow]) -> None:
    orphan = store.blobs.put(b"nobody names me")
    aged(store)
    before = store.blobs.sizes()
    said = collected(store, days=1, dry_run=True)
    assert (retired(store), store.blobs.sizes()) == (set(), before)
    done = collected(store, days=1)
    assert said == done
    assert orphan not in store.blobs.sizes()
    assert done.blobs.size_bytes == len(b"nobody names me")


@on_sqlite
def test_a_young_file_without_a_row_is_left_alone(store: Store) -> None:
    """A phase writes the file first and the row last."""
    young = store.blobs.put(b"its row is on its way")
    at = (store.now + timedelta(days=1)).timestamp()
    os.utime(store.blobs.path(young), (at, at))
    collected(store, days=1)
    assert young in store.blobs.sizes()


@on_sqlite
def test_film_strips_stay(store: Store) -> None:
    strip = store.blobs.put(b"a film strip")
    store.iteration(film_strips={"open_drawer": {"real": strip}})
    aged(store)
    collected(store, days=30)
    assert strip in store.blobs.sizes()


def test_episodes_go_only_when_that_is_asked_for(store: Store) -> None:
    ids = [store.episode(build_episode(number)) for number in (1, 2)]
    store.episode(build_episode(3), held_out=True)
    aged(store)
    collected(store, days=100)
    assert len(store.blobs.sizes()) == 4, "episodes of the same pictures share a file"
    done = collected(store, days=100, episode_days=30.0)
    assert done.retired_episodes.count == len(ids)
    collected(store, days=101, episode_days=30.0)
    assert len(store.blobs.sizes()) == 2, "what is held out is whole"
    with store.database.read() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM episodes")) == 3


def written(folder: Path, *names: str, at: datetime) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
        os.utime(path, (at.timestamp(), at.timestamp()))


@on_sqlite
def test_caches_and_scratch_files_go_once_nobody_uses_them(store: Store) -> None:
    over, running = store.iteration(), store.iteration(finished=False)
    with store.database.read() as session:
        (run,) = phase_runs.of_iteration(session, running)
    data_dir = store.settings.data_dir
    old = f"resume/{over}-judge.safetensors", "work/dead/policy.safetensors", "cache/latents/old.npy"
    used = f"resume/{running}-judge.safetensors", f"work/{run.id}/policy.safetensors"
    written(data_dir, *old, *used, at=store.now)
    written(data_dir, "cache/latents/new.npy", at=store.now + timedelta(days=9))
    done = collected(store, days=10)
    assert (done.caches.count, done.work.count, done.work.size_bytes) == (1, 2, 10)
    assert [name for name in old if (data_dir / name).exists()] == []
    assert not (data_dir / "work" / "dead").exists()
    assert all((data_dir / name).is_file() for name in (*used, "cache/latents/new.npy"))


@on_sqlite
def test_logs_and_curves_go_with_their_iteration_and_never_those_of_a_run(store: Store) -> None:
    running, over, newest = store.iteration(finished=False), store.iteration(), store.iteration()
    ids = {}
    with store.database.read() as session:
        for iteration in (running, over, newest):
            (run,) = phase_runs.of_iteration(session, iteration)
            ids[iteration] = run.id
    names = [f"runs/{ids[over]}/log.txt", f"runs/{ids[over]}/metrics.jsonl", "runs/nobody/log.txt"]
    stay = [f"runs/{ids[running]}/log.txt", f"runs/{ids[newest]}/metrics.jsonl"]
    written(store.settings.data_dir, *names, *stay, at=store.now)
    assert collected(store, days=0.5 / 24).runs.count == 0, "the grace is not over"
    tried = collected(store, days=10, dry_run=True)
    assert (tried.runs.count, tried.runs.size_bytes) == (3, 15)
    assert collected(store, days=10).runs == tried.runs
    left = {path.relative_to(store.settings.data_dir).as_posix() for path in written_under(store, "runs")}
    assert left == set(stay)
    assert not (store.settings.data_dir / "runs" / ids[over]).exists()


def written_under(store: Store, name: str) -> list[Path]:
    return [path for path in (store.settings.data_dir / name).rglob("*") if path.is_file()]


@on_sqlite
def test_the_blobs_are_looked_through_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    stale = BlobStore.stale
    monkeypatch.setattr(
        BlobStore, "stale", lambda self, *a, **k: looks.append(k["older_than_s"]) or stale(self, *a, **k)
    )
    collected(store, days=1)
    collected(store, days=1, grace_s=0.0)
    assert looks == [HOUR, 0.0]


@on_sqlite
def test_it_does_not_run_beside_a_backup(store: Store) -> None:
    with Turn(store.database, "backup", now=lambda: store.now), pytest.raises(LeaseHeld, match="backup pid"):
        collected(store, days=0)


@on_sqlite
def test_killed_between_mark_and_deletion_it_goes_on_the_next_time(
    store: Store, history: dict[str, CheckpointRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    collected(store, days=1)
    unlink = Path.unlink

    def killed(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        collected(store, days=2)
    monkeypatch.setattr(Path, "unlink", unlink)
    assert collected(store, days=2).blobs.count == 1


@on_sqlite
def test_a_store_that_belongs_to_another_database_is_left_alone(store: Store) -> None:
    strangers = [store.blobs.put(f"blob {number}".encode()) for number in range(FEW + 1)]
    aged(store)
    with pytest.raises(SweepRefused):
        collected(store, days=10)
    assert set(strangers) <= set(store.blobs.sizes())


@on_sqlite
def test_without_any_grace_a_file_whose_row_is_on_its_way_is_left_alone_all_the_same(store: Store) -> None:
    young = store.blobs.put(b"its row is on its way")
    at = (store.now + timedelta(days=1)).timestamp() - 60
    os.utime(store.blobs.path(young), (at, at))
    collected(store, days=1, grace_s=0.0)
    assert young in store.blobs.sizes()


def test_the_candidate_of_an_undecided_trial_stays_for_the_iteration_that_may_carry_it_on(
    store: Store, history: dict[str, CheckpointRow]
) -> None:
    new = trials.NewTrial(
        iteration_id=store.iteration(),
        champion_id=history["second"].id,
        candidate_id=history["killed"].id,
        decision=trials.UNDECIDED,
        evidence={},
    )
    with store.database.write() as session:
        trials.save(session, new, now=store.now)
    store.iteration()
    collected(store, days=1)
    assert history["killed"].id not in retired(store)
