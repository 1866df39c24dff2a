"""The operators' commands as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from daemon.cli import app
from daemon.data_directory import DataDirectoryLock
from daemon.errors import DataDirectoryBusy
from daemon.operations.errors import BackupMissing, RevisionUnknown
from daemon.operations.migrating import revisions
from daemon.settings import Settings
from storage.db import known_revisions
from tests.daemon.operations.conftest import Store

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def gymnastd(settings: Settings, *arguments: object) -> Result:
    environment = {"GYMNASTD_DATA_DIR": str(settings.data_dir), "COLUMNS": "200"}
    if settings.database_url:
        environment["GYMNASTD_DATABASE_URL"] = settings.database_url
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


@on_sqlite
def test_doctor_says_what_it_found_line_by_line_and_fails_for_a_fault(full: Store) -> None:
    done = gymnastd(full.settings, "doctor")
    assert "ok      database: sqlite, revision" in done.output
    assert "FAULT   station: http://127.0.0.1:8401" in done.output, "nobody serves one here"
    assert done.exit_code == 1


@on_sqlite
def test_doctor_in_json_is_one_document(full: Store) -> None:
    done = gymnastd(full.settings, "doctor", "--json", "--deep")
    document = json.loads(done.stdout)
    assert document["verdict"] == "fault"
    by_name = {finding["check"]: finding for finding in document["findings"]}
    assert by_name["checkpoints"]["found"].endswith("with the digests of their rows")
    assert set(by_name["station"]) == {"check", "verdict", "found", "remedy"}


@on_sqlite
def test_backup_restore_and_gc_from_the_command_line(
    full: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    made = gymnastd(full.settings, "backup", tmp_path / "b", "--keep", 3)
    assert made.exit_code == 0, made.output
    assert "bytes were new" in made.stdout
    put = gymnastd(elsewhere, "restore", tmp_path / "b")
    assert put.exit_code == 0, put.output
    assert f"is in {elsewhere.data_dir}" in put.stdout
    full.blobs.put(b"nobody names me")
    tried = gymnastd(elsewhere, "gc", "--dry-run", "--grace-hours", 0)
    assert "retired checkpoints would be let go: 0 of 0.0 MB" in tried.stdout
    done = gymnastd(elsewhere, "gc", "--json")
    assert json.loads(done.stdout)["blobs"] == {"count": 0, "size_bytes": 0}


@on_sqlite
def test_a_backup_of_a_damaged_store_is_made_and_fails_the_schedule(full: Store, tmp_path: Path) -> None:
    sha256 = next(iter(full.blobs.sizes()))
    full.blobs.path(sha256).write_bytes(b"rotten")
    done = gymnastd(full.settings, "backup", tmp_path / "b")
    assert done.exit_code == 1
    assert "damaged in the store itself" in done.stderr
    assert sha256 in done.stderr


@on_sqlite
def test_a_folder_without_backups_is_refused(elsewhere: Settings, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    done = gymnastd(elsewhere, "restore", tmp_path / "b")
    assert isinstance(done.exception, BackupMissing)


def test_the_database_goes_up_and_down_and_says_where_it_is(elsewhere: Settings) -> None:
    newest = known_revisions()[-1]
    assert gymnastd(elsewhere, "db", "current").exit_code == 1
    assert gymnastd(elsewhere, "db", "upgrade").exit_code == 0
    assert f"at revision {newest}, this release has {newest}" in gymnastd(elsewhere, "db", "current").output
    assert revisions(elsewhere) == (newest, newest)
    assert gymnastd(elsewhere, "db", "downgrade", "0004", "--yes").stdout.endswith("at revision 0004\n")
    assert gymnastd(elsewhere, "db", "current").exit_code == 1
    assert gymnastd(elsewhere, "db", "upgrade").exit_code == 0


@on_sqlite
def test_going_down_asks_first_refuses_what_is_not_there_and_a_daemon_that_runs(elsewhere: Settings) -> None:
    gymnastd(elsewhere, "db", "upgrade")
    assert gymnastd(elsewhere, "db", "downgrade", "0004").exit_code == 1, "nobody answered yes"
    unknown = gymnastd(elsewhere, "db", "downgrade", "0815", "--yes").exception
    assert isinstance(unknown, RevisionUnknown)
    assert "0004" in str(unknown)
    with DataDirectoryLock(elsewhere.data_dir):
        busy = gymnastd(elsewhere, "db", "downgrade", "0004", "--yes").exception
    assert isinstance(busy, DataDirectoryBusy)
    assert revisions(elsewhere)[0] == known_revisions()[-1]
