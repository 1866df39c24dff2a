"""Episodes: committed once, whole or not at all, read back bit for bit."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from robot_bridge.episode import Episode, EpisodeHeader, assemble
from robot_bridge.errors import EpisodeInvalid, FramesCorrupt
from robot_bridge.frames import FrameBlob
from storage import episodes, labels, stations, tasks
from storage.blobs import BlobStore
from storage.db import Database
from storage.episodes import Provenance
from storage.errors import (
    BlobCorrupt,
    BlobMissing,
    CursorInvalid,
    DiskFull,
    EpisodeConflict,
    EpisodeCorrupt,
    EpisodeOriginInvalid,
    NotJson,
    RowMissing,
    UnknownTask,
)
from storage.tables import EpisodeBlobRow, EpisodeRow, LabelRow

COLLECTED = Provenance(origin="collect")


def commit(
    database: Database, blobs: BlobStore, episode: Episode, now: datetime, provenance: Provenance = COLLECTED
) -> tuple[EpisodeRow, bool]:
    with database.write() as session:
        return episodes.commit(session, blobs, episode, provenance=provenance, now=now)


def load(database: Database, blobs: BlobStore, episode_id: str) -> Episode:
    with database.read() as session:
        return episodes.load(session, blobs, episode_id)


def count(database: Database, table: type) -> int:
    with database.read() as session:
        return session.scalars(sa.select(sa.func.count()).select_from(table)).one()


def files_of(blobs: BlobStore) -> list[str]:
    return sorted(path.name for path in blobs.root.rglob("*") if path.is_file())


def changed(episode: Episode, **changes: object) -> Episode:
    """The same arrays and pictures under a header that differs."""
    header = {name: getattr(episode.manifest, name) for name in EpisodeHeader.model_fields}
    return assemble(EpisodeHeader(**(header | changes)), steps=episode.steps, frames=episode.frames)


def test_an_episode_is_read_back_bit_for_bit(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    episode = an_episode(steps=5)
    row, created = commit(database, blobs, episode, now)
    found = load(database, blobs, row.id)
    assert created
    assert found.manifest == episode.manifest
    assert found.digest == episode.digest == row.manifest_sha256
    assert found.frames.data == episode.frames.data
    assert found.steps.present == episode.steps.present
    for name in episode.steps.present:
        wanted, got = getattr(episode.steps, name), getattr(found.steps, name)
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


def test_t_actions_and_t_plus_one_observations_come_back(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    row, _ = commit(database, blobs, an_episode(steps=4), now)
    found = load(database, blobs, row.id)
    assert row.steps == 4
    assert len(found.steps.executed_action) == 4
    assert len(found.frames) == len(found.steps.state) == 5


def test_the_row_says_what_the_manifest_says(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    episode = an_episode(policy_eval=False)
    row, _ = commit(database, blobs, episode, now)
    manifest = episode.manifest
    assert (row.id, row.station_id, row.task_id) == (manifest.episode_id, "cell-1", "open_drawer")
    assert (row.instruction, row.outcome) == ("open drawer", "completed")
    assert (row.valid_for_policy_eval, row.valid_for_world_model) == (False, True)
    assert (row.started_at, row.ended_at, row.committed_at) == (manifest.started_at, manifest.ended_at, now)
    assert json.loads(row.manifest)["schema"] == "episode/1"


def test_where_an_episode_comes_from_is_kept(
    database: Database, blobs: BlobStore, an_episode: Callable, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    kept = Provenance(origin="collect", iteration_id=iteration.id, held_out=True)
    row, _ = commit(database, blobs, an_episode(), now, kept)
    assert (row.origin, row.iteration_id, row.held_out, row.checkpoint_id) == (
        "collect",
        iteration.id,
        True,
        None,
    )


def test_an_unknown_origin_is_refused_before_anything_is_kept(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    with pytest.raises(EpisodeOriginInvalid, match="expected one of collect, imported, base"):
        commit(database, blobs, an_episode(), now, Provenance(origin="dream"))
    assert files_of(blobs) == []


@pytest.mark.parametrize("unknown", [{"iteration_id": "nobody"}, {"checkpoint_id": "nobody"}])
def test_an_episode_of_no_iteration_or_checkpoint_leaves_no_row(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime, unknown: dict[str, str]
) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        commit(database, blobs, an_episode(), now, Provenance(origin="collect", **unknown))
    assert count(database, EpisodeRow) == count(database, LabelRow) == 0


def test_the_same_episode_twice_is_one_episode(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    commit(database, blobs, an_episode(), now)
    row, created = commit(database, blobs, an_episode(), now + timedelta(hours=1))
    assert (created, row.committed_at) == (False, now)
    assert count(database, EpisodeRow) == count(database, LabelRow) == 1
    assert count(database, EpisodeBlobRow) == len(files_of(blobs)) == 2


def test_another_recording_under_the_same_id_is_refused_and_the_first_stays(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    first = an_episode(1)
    commit(database, blobs, first, now)
    second = changed(an_episode(2), episode_id=first.manifest.episode_id)
    with pytest.raises(EpisodeConflict, match=f"{first.digest}, this one has {second.digest}"):
        commit(database, blobs, second, now)
    assert load(database, blobs, first.manifest.episode_id).digest == first.digest


def test_the_same_recording_with_another_verdict_is_another_recording(
    database: Database, blobs: BlobStore, an_episode: Callable, a_label: Callable, now: datetime
) -> None:
    commit(database, blobs, an_episode(labels=(a_label(True),)), now)
    with pytest.raises(EpisodeConflict):
        commit(database, blobs, an_episode(labels=(a_label(False),)), now)


def test_one_episode_from_many_threads_is_one_episode(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda _: commit(database, blobs, an_episode(), now)[1], range(4)))
    assert sum(got) == 1
    assert count(database, EpisodeRow) == 1


def test_committing_different_episodes_at_once_loses_none(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    made = [an_episode(number) for number in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda episode: commit(database, blobs, episode, now), made))
    assert all(created for _, created in got)
    for episode in made:
        assert load(database, blobs, episode.manifest.episode_id).digest == episode.digest


def test_the_verdicts_of_the_manifest_become_labels(
    database: Database, blobs: BlobStore, an_episode: Callable, a_label: Callable, now: datetime
) -> None:
    verdicts = (a_label(False, "classifier"), a_label(True, "sim_predicate"))
    row, _ = commit(database, blobs, an_episode(labels=verdicts), now)
    with database.read() as session:
        kept = labels.history(session, row.id)
        label = episodes.effective_label(session, row.id)
    assert [(each.success, each.source, each.judge) for each in kept] == [
        (False, "classifier", "predicate/1"),
        (True, "sim_predicate", "predicate/1"),
    ]
    assert label is not None
    assert label.success is True


def test_station_and_task_are_noted_at_the_first_episode(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    commit(database, blobs, an_episode(1), now)
    commit(database, blobs, an_episode(2), now + timedelta(minutes=1))
    with database.read() as session:
        (station,) = stations.list_stations(session)
        (task,) = tasks.list_tasks(session)
    assert (station.first_seen_at, station.last_seen_at) == (now, now + timedelta(minutes=1))
    assert (task.id, task.instruction) == ("open_drawer", "open drawer")


def test_an_unregistered_task_is_refused_when_asked_to(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    strict = Provenance(origin="collect", register_task=False)
    with pytest.raises(UnknownTask, match="task 'open_drawer', which is not registered"):
        commit(database, blobs, an_episode(), now, strict)
    assert count(database, EpisodeRow) == 0
    with database.write() as session:
        tasks.ensure(session, "open_drawer", instruction="open the drawer", now=now)
    assert commit(database, blobs, an_episode(), now, strict)[1]


def test_pictures_that_do_not_fit_the_manifest_are_refused_and_nothing_is_kept(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    mixed = dataclasses.replace(an_episode(1), frames=an_episode(2, steps=7).frames)
    with pytest.raises(EpisodeInvalid):
        commit(database, blobs, mixed, now)
    assert count(database, EpisodeRow) == 0
    assert files_of(blobs) == []


@pytest.mark.parametrize("kept", [0, 10, -1])
def test_a_truncated_frames_blob_never_becomes_an_episode(an_episode: Callable, kept: int) -> None:
    whole = an_episode().frames.data
    with pytest.raises(FramesCorrupt):
        FrameBlob(whole[:kept])


def test_text_that_postgres_cannot_keep_is_refused_on_both(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    odd = changed(an_episode(), instruction="open\x00the drawer")
    with pytest.raises(NotJson, match="NUL"):
        commit(database, blobs, odd, now)
    assert files_of(blobs) == []


def test_text_of_any_language_is_kept(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    row, _ = commit(database, blobs, changed(an_episode(), instruction='öffne 抽屉 "jetzt" 🦾'), now)
    assert load(database, blobs, row.id).manifest.instruction == 'öffne 抽屉 "jetzt" 🦾'


def test_files_are_on_disk_before_the_row_is(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    """A crash between the two leaves files without a row, which a sweep removes, never the reverse."""
    with pytest.raises(ZeroDivisionError), database.write() as session:
        row, _ = episodes.commit(session, blobs, an_episode(), provenance=COLLECTED, now=now)
        named = episodes.blob_digests(session, row.id)
        assert sorted(named.values()) == files_of(blobs)
        _ = 1 / 0
    assert count(database, EpisodeRow) == count(database, EpisodeBlobRow) == 0
    assert len(files_of(blobs)) == 2
    swept = blobs.sweep(set(), older_than_s=0, now=datetime.now(UTC) + timedelta(minutes=1))
    assert sorted(named.values()) == swept


def test_a_full_disk_leaves_no_row(
    database: Database,
    blobs: BlobStore,
    an_episode: Callable,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit(database, blobs, an_episode(1), now)
    with monkeypatch.context() as full:
        full.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
        with pytest.raises(DiskFull):
            commit(database, blobs, an_episode(2), now)
    assert count(database, EpisodeRow) == 1
    assert commit(database, blobs, an_episode(2), now)[1]


def test_an_episode_whose_file_is_gone_is_missed_by_that_file(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    row, _ = commit(database, blobs, an_episode(), now)
    with database.read() as session:
        frames = episodes.blob_digests(session, row.id)["frames.bin"]
    blobs.path(frames).unlink()
    with pytest.raises(BlobMissing, match=frames):
        load(database, blobs, row.id)


@pytest.mark.parametrize("name", ["frames.bin", "steps.npz"])
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_file_is_never_read_as_an_episode(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime, name: str, damage: str
) -> None:
    row, _ = commit(database, blobs, an_episode(), now)
    with database.read() as session:
        path = blobs.path(episodes.blob_digests(session, row.id)[name])
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    else:
        content[-40] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(BlobCorrupt):
        load(database, blobs, row.id)


def test_a_manifest_that_was_edited_in_the_database_is_noticed(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    row, _ = commit(database, blobs, an_episode(), now)
    with database.write() as session:
        forged = row.manifest.replace('"success":true', '"success":false')
        session.execute(sa.update(EpisodeRow).values(manifest=forged))
    found = hashlib.sha256(forged.encode()).hexdigest()
    with pytest.raises(EpisodeCorrupt, match=f"the manifest has {found}"):
        load(database, blobs, row.id)


def test_one_picture_is_read_without_the_arrays(
    database: Database, blobs: BlobStore, an_episode: Callable, now: datetime
) -> None:
    episode = an_episode()
    row, _ = commit(database, blobs, episode, now)
    with database.read() as session:
        blobs.path(episodes.blob_digests(session, row.id)["steps.npz"]).unlink()
        frames = episodes.frames(session, blobs, row.id)
    assert frames.jpeg(2) == episode.frames.jpeg(2)


@pytest.mark.parametrize("read", [episodes.get, None])
def test_an_episode_that_is_not_there_is_missed_by_its_id(
    database: Database, blobs: BlobStore, read: Callable | None
) -> None:
    with database.read() as session, pytest.raises(RowMissing, match="no episode 'nobody'"):
        if read is None:
            episodes.load(session, blobs, "nobody")
        else:
            read(session, "nobody")


def pages_of(database: Database, limit: int, **which: object) -> list[list[int]]:
    pages, cursor = [], None
    while True:
        with database.read() as session:
            rows, cursor = episodes.list_episodes(session, cursor=cursor, limit=limit, **which)
        pages.append([int(row.id[-2:], 16) for row in rows])
        if cursor is None:
            return pages


def test_pages_go_from_the_newest_to_the_oldest_without_a_gap(
    database: Database, committed: Callable, an_episode: Callable
) -> None:
    for number, after_s in ((1, 0), (2, 0), (3, 0), (4, 0.000001), (5, 60)):
        committed(an_episode(number), after_s=after_s)
    assert pages_of(database, 2) == [[5, 4], [3, 2], [1]]
    assert pages_of(database, 5) == [[5, 4, 3, 2, 1]]


def test_pages_of_one_iteration_hold_its_episodes_alone(
    database: Database, committed: Callable, an_episode: Callable, an_iteration: Callable
) -> None:
    iteration = an_iteration()
    committed(an_episode(1))
    for number in (2, 3, 4):
        committed(an_episode(number), iteration_id=iteration.id, after_s=number)
    assert pages_of(database, 2, iteration_id=iteration.id) == [[4, 3], [2]]
    assert pages_of(database, 2, iteration_id="nobody") == [[]]


@pytest.mark.parametrize("cursor", ["", "~", "5", "yesterday~id", "2026-01-01T00:00:00~naive"])
def test_a_cursor_from_elsewhere_is_refused(database: Database, cursor: str) -> None:
    with database.read() as session, pytest.raises(CursorInvalid):
        episodes.list_episodes(session, cursor=cursor)
