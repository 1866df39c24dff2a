"""A sweep takes what no row names, leaves what one names, and distrusts a database that names too little."""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from robot_bridge.episode import Episode
from storage import checkpoints, phase_runs, retention, start_images, sweep, what_ifs
from storage.blobs import BlobStore
from storage.checkpoints import NewCheckpoint
from storage.db import Database
from storage.errors import SweepRefused
from storage.sweep import sweep_blobs
from storage.tables import EpisodeBlobRow, EpisodeRow, IterationRow

DAY_S = 86_400.0


def all_old(blobs: BlobStore, now: datetime) -> None:
    long_ago = (now - timedelta(days=3)).timestamp()
    for path in blobs.root.glob("??/*"):
        os.utime(path, (long_ago, long_ago))


def swept(database: Database, blobs: BlobStore, now: datetime) -> tuple[str, ...]:
    with database.read() as session:
        return sweep_blobs(session, blobs, older_than_s=DAY_S, now=now).removed


def left(blobs: BlobStore) -> set[str]:
    return {path.name for path in blobs.root.glob("??/*")}


def test_what_checkpoints_episodes_and_outcomes_name_stays_and_the_rest_goes(
    database: Database,
    blobs: BlobStore,
    now: datetime,
    tmp_path: Path,
    committed: Callable[..., EpisodeRow],
    an_episode: Callable[..., Episode],
    an_iteration: Callable[..., IterationRow],
) -> None:
    committed(an_episode(1))
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")
    strip, orphan = blobs.put(b"a film strip"), blobs.put(b"nobody's")
    iteration = an_iteration()
    with database.write() as session:
        new = NewCheckpoint(kind="policy", spec_digest="5" * 64, card={})
        saved = checkpoints.save(session, blobs, new, file=weights, now=now)
        phase_runs.queue(session, iteration, phase="collect", now=now)
        claimed = phase_runs.claim(session, "w", ttl_s=60, now=now)
        assert claimed is not None
        outcome = {"film_strips": {"open_drawer": {"real": strip}}}
        phase_runs.finish(session, claimed, outcome=outcome, now=now)
    with database.read() as session:
        parts = set(session.scalars(sa.select(EpisodeBlobRow.sha256)))
    all_old(blobs, now)
    assert swept(database, blobs, now) == (orphan,)
    assert left(blobs) == {strip, saved.sha256, *parts}
    assert swept(database, blobs, now) == ()


def test_a_young_blob_stays_because_its_row_may_be_on_its_way(
    database: Database, blobs: BlobStore, now: datetime
) -> None:
    young = blobs.put(b"young")
    assert swept(database, blobs, now) == ()
    assert left(blobs) == {young}


def test_an_unfinished_write_goes_once_it_is_old(database: Database, blobs: BlobStore, now: datetime) -> None:
    unfinished = blobs.root / "tmp" / "1234"
    unfinished.write_bytes(b"half")
    os.utime(unfinished, (0, 0))
    assert swept(database, blobs, now) == ()
    assert not unfinished.exists()


def test_the_database_of_another_store_makes_it_remove_nothing(
    database: Database, blobs: BlobStore, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "FEW", 2)
    kept = {blobs.put(f"episode {number}".encode()) for number in range(3)}
    all_old(blobs, now)
    with pytest.raises(SweepRefused, match="3 of 3 blobs"):
        swept(database, blobs, now)
    assert left(blobs) == kept
    monkeypatch.setattr(sweep, "FEW", 3)
    assert set(swept(database, blobs, now)) == kept, "a few may go whatever their share"


def test_pictures_of_what_ifs_and_of_people_stay_for_sweep_and_gc_until_their_rows_let_go(
    database: Database, blobs: BlobStore, now: datetime
) -> None:
    start, strip, brought = (blobs.put(content) for content in (b"a start", b"a strip", b"brought"))
    new = start_images.NewStartImage(task_id="t", instruction="do", sha256=brought, width=1, height=1)
    with database.write() as session:
        picture = start_images.add(session, new, who="ann", now=now)
        what_ifs.ask(session, {"start": {"sha256": start}}, who="ann", now=now)
        claimed = what_ifs.claim(session, "w", ttl_s=60, now=now)
        assert claimed is not None
        what_ifs.finish(session, claimed, result={"rollouts": [{"strip": strip}]}, now=now)
    all_old(blobs, now)
    assert swept(database, blobs, now) == ()
    with database.read() as session:
        assert {start, strip, brought} <= retention.named_blobs(session)
    with database.write() as session:
        start_images.remove(session, start_images.get(session, picture.id), now=now)
        assert what_ifs.forget_old(session, kept=0) == 1
    with database.read() as session:
        assert retention.named_blobs(session) == set()
    assert set(swept(database, blobs, now)) == {start, strip, brought}
