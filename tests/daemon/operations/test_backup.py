"""A backup is whole or not there; a restore gives back what was there, or touches nothing."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from daemon.data_directory import RESTORING_NAME, DataDirectoryLock
from daemon.errors import DataDirectoryBusy, DataDirectoryUnfinished
from daemon.operations.backup import back_up
from daemon.operations.errors import BackupDamaged, BackupMissing, BackupUnreadable, PlaceTaken
from daemon.operations.manifest import Manifest, backups, find
from daemon.operations.restore import restore
from daemon.operations.turn import Turn
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database
from storage import checkpoints, episodes, retention
from storage.db import Database
from storage.errors import DatabaseNewer, DatabaseOutdated, LeaseHeld
from tests.daemon.conftest import build_episode
from tests.daemon.operations.conftest import Store
from tests.storage.test_snapshot import everything

NEVER = timedelta(0)
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # the same on both


def saved(store: Store, folder: Path, *, after: timedelta = NEVER, keep: int = 9, verify: bool = False):
    said: list[float] = []
    done = back_up(
        store.settings,
        folder,
        keep=keep,
        verify=verify,
        report=lambda share, text: said.append(share),
        now=lambda: store.now + after,
    )
    assert said == sorted(said)
    assert said[-1] == 1.0
    return done


def put_back(settings: Settings, folder: Path, now: datetime, *, name: str | None = None) -> Manifest:
    said: list[float] = []
    done = restore(
        settings, folder, name=name, report=lambda share, text: said.append(share), now=lambda: now
    )
    assert said[-1] == 1.0
    return done


def without_leases(database: Database) -> dict[str, list[dict[str, object]]]:
    return {name: rows for name, rows in everything(database).items() if name != "leases"}


def files_of(data_dir: Path) -> set[str]:
    return {path.relative_to(data_dir).as_posix() for path in data_dir.rglob("*") if path.is_file()}


def an_object(folder: Path, sha256: str) -> Path:
    return folder / "objects" / sha256[:2] / sha256


def test_what_was_there_is_there_again(full: Store, elsewhere: Settings, tmp_path: Path) -> None:
    before, folder = without_leases(full.database), tmp_path / "backups"
    done = saved(full, folder)
    restored = put_back(elsewhere, folder, full.now)
    assert (restored.name, restored.rows) == (done.name, done.rows)
    database = open_database(elsewhere)
    try:
        assert without_leases(database) == before
        with database.read() as session:
            for row in checkpoints.list_checkpoints(session)[0]:
                assert checkpoints.path(row, open_blobs(elsewhere)).is_file()
            (row,) = episodes.list_episodes(session)[0]
            found = episodes.load(session, open_blobs(elsewhere), row.id)
            assert found.digest == build_episode().digest
            assert retention.named_blobs(session) == set(open_blobs(elsewhere).sizes())
    finally:
        database.dispose()
    found = {name for name in files_of(elsewhere.data_dir) if not name.startswith(("gymnastd", "blobs"))}
    kept = {name.split("/")[0] for name in found}
    assert kept == {"runs", "resume", "judge"}, "caches and work files are made again"
    name = "runs/r-1/metrics.jsonl"
    assert (elsewhere.data_dir / name).read_text() == (full.settings.data_dir / name).read_text()


@on_sqlite
def test_what_is_there_already_is_not_copied_again(full: Store, tmp_path: Path) -> None:
    first = saved(full, tmp_path / "b")
    assert first.copied_bytes == first.total_bytes > 0
    full.checkpoint("policy", b"a newer policy")
    second = saved(full, tmp_path / "b", after=timedelta(hours=1))
    assert second.files == first.files + 1
    assert len(b"a newer policy") <= second.copied_bytes < first.copied_bytes


@on_sqlite
def test_each_backup_of_a_folder_can_be_restored(full: Store, elsewhere: Settings, tmp_path: Path) -> None:
    first = saved(full, tmp_path / "b")
    full.checkpoint("policy", b"a newer policy")
    second = saved(full, tmp_path / "b", after=timedelta(hours=1))
    assert find(tmp_path / "b", None).name == second.name
    assert put_back(elsewhere, tmp_path / "b", full.now, name=first.name).rows == first.rows


@on_sqlite
def test_old_backups_go_with_what_only_they_name(full: Store, elsewhere: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    side = full.settings.data_dir / "judge" / "i.json"
    for hour in range(3):
        side.write_text(f"ledger of hour {hour}")
        saved(full, folder, after=timedelta(hours=hour), keep=2)
    assert len(backups(folder)) == 2
    contents = [path.read_bytes() for path in (folder / "objects").rglob("*") if path.is_file()]
    assert b"ledger of hour 0" not in contents
    assert {b"ledger of hour 1", b"ledger of hour 2"} <= set(contents)
    put_back(elsewhere, folder, full.now)


@pytest.mark.parametrize("harm", ["missing", "truncated", "changed"])
@on_sqlite
def test_a_damaged_file_of_a_backup_is_named_and_nothing_is_restored(
    harm: str, full: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "b"
    saved(full, folder)
    manifest = find(folder, None)
    victims = manifest.blobs[0], manifest.tables[0], manifest.files[0]
    for part in victims:
        victim = an_object(folder, part.sha256)
        content = victim.read_bytes()
        victim.write_bytes(content[:-1] if harm == "truncated" else b"x" + content[1:])
        if harm == "missing":
            victim.unlink()
    with pytest.raises(BackupDamaged) as refused:
        put_back(elsewhere, folder, full.now)
    assert len(refused.value.faults) == 3
    for part in victims:
        assert part.name in str(refused.value)
        assert part.sha256 in str(refused.value)
    assert not elsewhere.data_dir.exists()


@on_sqlite
def test_verify_finds_damage_in_earlier_backups_and_replaces_it(
    full: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "b"
    saved(full, folder)
    victim = an_object(folder, find(folder, None).blobs[0].sha256)
    victim.write_bytes(b"x" + victim.read_bytes()[1:])
    saved(full, folder, after=timedelta(hours=1), verify=True)
    put_back(elsewhere, folder, full.now)


@on_sqlite
def test_damage_in_the_store_itself_is_named_and_the_rest_is_kept(
    full: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    with full.database.read() as session:
        lost, rotten = checkpoints.list_checkpoints(session)[0][:2]
    full.blobs.path(lost.sha256).unlink()
    full.blobs.path(rotten.sha256).write_bytes(b"rotten")
    done = saved(full, tmp_path / "b")
    assert len(done.damaged) == 2
    for row in (lost, rotten):
        assert any(row.sha256 in sentence for sentence in done.damaged)
    restored = put_back(elsewhere, tmp_path / "b", full.now)
    assert restored.damaged == done.damaged
    assert not {lost.sha256, rotten.sha256} & set(open_blobs(elsewhere).sizes())


@on_sqlite
def test_a_retired_checkpoint_is_not_missed(full: Store, tmp_path: Path) -> None:
    with full.database.write() as session:
        later = full.now + timedelta(hours=1)
        retired = retention.retire_checkpoints(session, set(), made_before=later, now=later)
    for row in retired:
        full.blobs.path(row.sha256).unlink(missing_ok=True)
    assert saved(full, tmp_path / "b").damaged == ()


@on_sqlite
def test_a_manifest_that_was_changed_or_cut_short_is_refused(
    full: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    saved(full, tmp_path / "b")
    (path,) = backups(tmp_path / "b")
    whole = path.read_text()
    document = json.loads(whole)
    document["backup"]["rows"] += 1
    for text in (whole[:-9], json.dumps(document), json.dumps({**document, "format": "other/9"}), "{}"):
        path.write_text(text)
        with pytest.raises(BackupUnreadable, match=str(path)):
            put_back(elsewhere, tmp_path / "b", full.now)
    assert not elsewhere.data_dir.exists()


@on_sqlite
def test_without_its_manifest_a_backup_is_none(full: Store, elsewhere: Settings, tmp_path: Path) -> None:
    name = saved(full, tmp_path / "b").name
    with pytest.raises(BackupMissing, match=f"no backup other.*{name}"):
        put_back(elsewhere, tmp_path / "b", full.now, name="other")
    backups(tmp_path / "b")[0].unlink()
    with pytest.raises(BackupMissing, match="no backup that is complete"):
        put_back(elsewhere, tmp_path / "b", full.now)


@on_sqlite
def test_a_later_releases_backup_is_refused(full: Store, elsewhere: Settings, tmp_path: Path) -> None:
    saved(full, tmp_path / "b")
    manifest = find(tmp_path / "b", None)
    later = {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
    Manifest(**{**later, "revision": "9999"}).write(tmp_path / "b")
    with pytest.raises(DatabaseNewer, match="9999"):
        put_back(elsewhere, tmp_path / "b", full.now)


@on_sqlite
def test_only_an_empty_data_directory_is_restored_into(
    full: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    saved(full, tmp_path / "b")
    elsewhere.data_dir.mkdir()
    (elsewhere.data_dir / "notes.txt").write_text("mine")
    with pytest.raises(PlaceTaken, match=r"notes\.txt"):
        put_back(elsewhere, tmp_path / "b", full.now)
    assert files_of(elsewhere.data_dir) <= {"notes.txt", "gymnastd.lock"}


@on_sqlite
def test_a_data_directory_in_use_is_not_restored_into(
    full: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    saved(full, tmp_path / "b")
    with DataDirectoryLock(elsewhere.data_dir), pytest.raises(DataDirectoryBusy):
        put_back(elsewhere, tmp_path / "b", full.now)


def test_a_database_with_rows_is_not_restored_into(full: Store, tmp_path: Path) -> None:
    saved(full, tmp_path / "b")
    before = everything(full.database)
    target = Settings(data_dir=tmp_path / "new", database_url=full.settings.database_url)
    with pytest.raises(PlaceTaken, match="checkpoints"):
        put_back(target, tmp_path / "b", full.now)
    assert everything(full.database) == before
    assert files_of(target.data_dir) == {"gymnastd.lock"}


def test_a_database_that_was_only_migrated_is_empty_enough(
    full: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    """As docker-compose leaves it."""
    saved(full, tmp_path / "b")
    url = elsewhere.database_url or f"sqlite:///{tmp_path / 'apart.sqlite3'}"
    settings = Settings(data_dir=elsewhere.data_dir, database_url=url)
    database = open_database(settings)
    database.upgrade()
    put_back(settings, tmp_path / "b", full.now)
    assert without_leases(database) == without_leases(full.database)
    database.dispose()


def test_a_restore_that_fails_leaves_an_empty_place(full: Store, elsewhere: Settings, tmp_path: Path) -> None:
    """The rows break a rule of the tables: found out last, when all files are in place."""
    saved(full, tmp_path / "b")
    manifest = find(tmp_path / "b", None)
    parts = {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
    Manifest(**{**parts, "rows": manifest.rows + 1}).write(tmp_path / "b")
    with pytest.raises(BackupDamaged, match="rows"):
        put_back(elsewhere, tmp_path / "b", full.now)
    assert files_of(elsewhere.data_dir) == {"gymnastd.lock"}
    manifest.write(tmp_path / "b")
    assert put_back(elsewhere, tmp_path / "b", full.now).rows == manifest.rows


@on_sqlite
def test_a_restore_that_was_killed_keeps_the_daemon_out_and_begins_anew(
    full: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    saved(full, tmp_path / "b")
    half = elsewhere.data_dir / "blobs" / "ab" / "half"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    (elsewhere.data_dir / RESTORING_NAME).write_text("a backup")
    with pytest.raises(DataDirectoryUnfinished), DataDirectoryLock(elsewhere.data_dir):
        pass
    put_back(elsewhere, tmp_path / "b", full.now)
    assert not half.exists()
    with DataDirectoryLock(elsewhere.data_dir):
        pass


@on_sqlite
def test_a_folder_inside_the_data_directory_does_not_swallow_itself(full: Store) -> None:
    folder = full.settings.data_dir / "backups" / "nightly"
    first = saved(full, folder)
    second = saved(full, folder, after=timedelta(hours=1))
    assert second.files == first.files


@on_sqlite
def test_backups_take_turns(full: Store, tmp_path: Path) -> None:
    with Turn(full.database, "gc", now=lambda: full.now), pytest.raises(LeaseHeld, match="gc pid"):
        saved(full, tmp_path / "b")
    assert backups(tmp_path / "b") == []
    saved(full, tmp_path / "b")


@on_sqlite
def test_the_restored_store_can_be_backed_up_at_once(
    full: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    """The rows of a backup say that one is being made; that one is over."""
    saved(full, tmp_path / "b")
    put_back(elsewhere, tmp_path / "b", full.now)
    database = open_database(elsewhere)
    with Turn(database, "backup", now=lambda: full.now):
        pass
    database.dispose()


@on_sqlite
def test_an_outdated_database_is_not_backed_up(full: Store, tmp_path: Path) -> None:
    full.database.downgrade("0004")
    try:
        with pytest.raises(DatabaseOutdated):
            saved(full, tmp_path / "b")
    finally:
        full.database.upgrade()


def test_a_backup_of_an_earlier_release_is_brought_up_to_date(
    full: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    """As such a release would have written it: no counts, which are counted anew, and no later tables."""
    saved(full, tmp_path / "b")
    manifest = find(tmp_path / "b", None)
    parts = {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
    later = {"success_counts", "success_count_marks", "what_ifs", "start_images"}
    later |= {"episode_health", "episode_notes"}
    tables = tuple(part for part in manifest.tables if part.name not in later)
    rows = manifest.rows - sum(len(without_leases(full.database).get(name, ())) for name in later)
    Manifest(**{**parts, "revision": "0010", "tables": tables, "rows": rows}).write(tmp_path / "b")
    put_back(elsewhere, tmp_path / "b", full.now)
    database = open_database(elsewhere)
    database.require_current()
    before, after = without_leases(full.database), without_leases(database)
    counted = [
        [{name: value for name, value in row.items() if name != "id"} for row in rows.pop("success_counts")]
        for rows in (before, after)
    ]
    assert before.pop("episode_health"), "or there was nothing to leave unmeasured"
    assert after.pop("episode_health") == []
    assert before.pop("episode_notes"), "or there was nothing that such a release could not know"
    assert after.pop("episode_notes") == []
    assert before.pop("success_count_marks"), "or nothing had been counted"
    assert after.pop("success_count_marks") == []
    assert after == before
    assert sorted(counted[0], key=str) == sorted(counted[1], key=str)
    assert counted[0], "or there was nothing to count"
    database.dispose()


@on_sqlite
def test_a_backup_moves_from_sqlite_to_postgres(full: Store, empty_postgres_url: str, tmp_path: Path) -> None:
    saved(full, tmp_path / "b")
    settings = Settings(data_dir=tmp_path / "new", database_url=empty_postgres_url)
    put_back(settings, tmp_path / "b", full.now)
    database = open_database(settings)
    assert without_leases(database) == without_leases(full.database)
    database.dispose()


@on_sqlite
def test_a_database_file_of_another_name_is_not_copied_beside_its_rows(full: Store, tmp_path: Path) -> None:
    inside = full.settings.data_dir / "mine.db"
    settings = Settings(data_dir=full.settings.data_dir, database_url=f"sqlite:///{inside}")
    database = open_database(settings)
    database.upgrade()
    database.dispose()
    back_up(
        settings, tmp_path / "b", keep=1, verify=False, report=lambda share, text: None, now=lambda: full.now
    )
    assert [part.name for part in find(tmp_path / "b", None).files if "mine.db" in part.name] == []
