"""Every check: quiet where all is well, and what it says where something is not."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import sqlalchemy as sa

from daemon.operations import machine_checks
from daemon.operations.doctor import examine
from daemon.operations.findings import Finding, exit_status, fault, ok, warning
from daemon.operations.machine_checks import (
    check_accelerator,
    check_clock,
    check_data_directory,
    check_disk,
    check_packages,
    unmet,
)
from daemon.operations.network_checks import check_judge, check_station, check_stations
from daemon.operations.store_checks import (
    check_blobs,
    check_checkpoints,
    check_database,
    check_its_clock,
    check_leases,
    check_runs,
    newest_time,
)
from daemon.settings import Settings
from robot_bridge.client import StationClient
from robot_bridge.station.serve import running_station
from storage import checkpoints, leases, retention
from storage.db import Database
from tests.daemon.operations.conftest import Store
from tests.robot_bridge.toy_driver import ToyDriver

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def verdicts(findings: list[Finding]) -> list[str]:
    return [finding.verdict for finding in findings]


def of_checkpoints(store: Store, *, deep: bool = False) -> list[Finding]:
    with store.database.read() as session:
        return check_checkpoints(session, store.blobs, deep=deep)


def of_blobs(store: Store) -> list[Finding]:
    with store.database.read() as session:
        return check_blobs(session, store.blobs)


def test_a_database_that_is_whole_says_so(store: Store) -> None:
    assert verdicts(check_database(store.database)) == ["ok", "ok"]


def test_missing_migrations_are_a_fault(store: Store) -> None:
    store.database.downgrade("0004")
    try:
        (found,) = check_database(store.database)
    finally:
        store.database.upgrade()
    assert (found.verdict, "db upgrade" in found.remedy) == ("fault", True)
    assert "0004" in found.found


def test_a_database_that_does_not_answer_is_a_fault_without_its_password() -> None:
    database = Database("postgresql://ann:secret@127.0.0.1:1/gymnastd?connect_timeout=2")
    (found,) = check_database(database)
    assert (found.verdict, found.check) == ("fault", "database")
    assert "secret" not in found.found + found.remedy


@on_sqlite
def test_a_reference_to_nothing_is_a_fault(full: Store) -> None:
    with closing(sqlite3.connect(str(full.database.url.database))) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM stations")
    found = check_database(full.database)[-1]
    assert (found.check, found.verdict) == ("integrity", "fault")
    assert "stations" in found.found


@on_sqlite
def test_a_damaged_page_is_a_fault(full: Store) -> None:
    path = Path(str(full.database.url.database))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_labels_episode_id'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    full.database.dispose()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(bytes(content))
    found = check_database(full.database)[-1]
    assert (found.verdict, "restore" in found.remedy) == ("fault", True)


def test_whole_files_are_well(full: Store) -> None:
    assert verdicts(of_checkpoints(full, deep=True)) == ["ok"]
    assert verdicts(of_blobs(full)) == ["ok"]


@on_sqlite
def test_a_checkpoint_that_is_gone_cut_short_or_changed_is_named(full: Store) -> None:
    with full.database.read() as session:
        gone, short, changed = checkpoints.list_checkpoints(session)[0]
    full.blobs.path(gone.sha256).unlink()
    full.blobs.path(short.sha256).write_bytes(b"short")
    path = full.blobs.path(changed.sha256)
    path.write_bytes(path.read_bytes()[::-1])
    assert {each.found.split(")")[0].split("(")[1] for each in of_checkpoints(full)} == {gone.id, short.id}
    deep = of_checkpoints(full, deep=True)
    assert verdicts(deep) == ["fault"] * 3
    assert sorted(each.found.split(")")[1][:12] for each in deep) == sorted(
        (" has no file", " has a file ", " is not the ")
    )


@on_sqlite
def test_a_retired_checkpoint_is_not_missed(full: Store) -> None:
    with full.database.write() as session:
        later = full.now + timedelta(days=1)
        for row in retention.retire_checkpoints(session, set(), made_before=later, now=later):
            full.blobs.path(row.sha256).unlink(missing_ok=True)
    assert verdicts(of_checkpoints(full)) == ["ok"]


@on_sqlite
def test_an_episode_without_its_files_is_a_fault_and_a_file_without_a_row_a_warning(full: Store) -> None:
    full.blobs.put(b"nobody names me")
    (found,) = of_blobs(full)
    assert (found.verdict, f"({len(b'nobody names me')} bytes)" in found.found) == ("warning", True)
    with full.database.read() as session:
        episode = session.execute(sa.text("SELECT episode_id, sha256 FROM episode_blobs")).first()
    full.blobs.path(episode.sha256).unlink()
    assert episode.episode_id in of_blobs(full)[0].found


@on_sqlite
def test_a_lease_that_nobody_took_up_is_told(store: Store) -> None:
    with store.database.write() as session:
        leases.acquire(session, "phase:1", holder="worker-7", ttl_s=10, now=store.now)
    with store.database.read() as session:
        assert check_leases(session, now=store.now + timedelta(seconds=30)).verdict == "ok"
        late = check_leases(session, now=store.now + timedelta(minutes=10))
    assert (late.verdict, "worker-7" in late.found) == ("warning", True)


@on_sqlite
def test_runs_that_stand_still_are_told(store: Store) -> None:
    def told(after_s: float) -> list[Finding]:
        with store.database.read() as session:
            return check_runs(session, store.settings, now=store.now + timedelta(seconds=after_s))

    assert verdicts(told(0)) == ["ok"]
    store.iteration(finished=False)
    assert verdicts(told(30)) == ["ok"]
    (silent,) = told(90)
    assert (silent.verdict, "worker w is silent for 90 s" in silent.found) == ("warning", True)
    with store.database.write() as session:
        session.execute(
            sa.text("UPDATE phase_runs SET state = 'queued', progress_text = 'waiting for disk space'")
        )
    (queued,) = told(700)
    assert "is queued for 700 s: waiting for disk space" in queued.found


def test_the_newest_time_of_the_database_is_found(store: Store) -> None:
    with store.database.read() as session:
        assert newest_time(session) is None
    store.iteration()
    with store.database.read() as session:
        assert newest_time(session) == store.now


@pytest.mark.parametrize(("least_mb", "verdict"), [(0, "ok"), (10**12, "fault")])
def test_room_on_the_disk_is_measured(least_mb: int, verdict: str, tmp_path: Path) -> None:
    assert check_disk(Settings(data_dir=tmp_path, min_free_disk_mb=least_mb)).verdict == verdict


def test_a_disk_that_will_be_full_soon_is_a_warning(tmp_path: Path) -> None:
    free_mb = machine_checks.DiskGuard(folder=tmp_path, min_free_mb=0).measure(tmp_path) // 1_000_000
    assert check_disk(Settings(data_dir=tmp_path, min_free_disk_mb=free_mb // 2)).verdict == "warning"


def test_a_data_directory_takes_files_and_none_stays(tmp_path: Path) -> None:
    assert check_data_directory(tmp_path).verdict == "ok"
    assert list(tmp_path.iterdir()) == []
    assert check_data_directory(tmp_path / "none").verdict == "warning"


def test_a_data_directory_that_cannot_be_written_is_a_fault() -> None:
    found = check_data_directory(Path("/proc/self"))
    assert (found.verdict, "/proc/self" in found.found) == ("fault", True)


def test_a_clock_that_is_right_says_its_zone() -> None:
    found = check_clock(datetime.now(UTC) - timedelta(days=1), now=lambda: datetime.now(UTC))
    assert (found.verdict, "UTC+" in found.found or "UTC-" in found.found) == ("ok", True)


def test_a_clock_that_jumps_is_a_fault() -> None:
    times = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours) for hours in (0, 1))
    assert "jumped" in check_clock(None, now=lambda: next(times)).found


def test_a_clock_behind_the_database_is_a_fault() -> None:
    found = check_clock(datetime.now(UTC) + timedelta(hours=2), now=lambda: datetime.now(UTC))
    assert (found.verdict, "behind the newest row" in found.found) == ("fault", True)


def test_a_database_that_keeps_another_time_is_a_fault(store: Store) -> None:
    right = check_its_clock(store.database, store.settings, now=lambda: datetime.now(UTC))
    assert (right.check, right.verdict) == ("database_clock", "ok")
    hour = timedelta(hours=1)
    wrong = check_its_clock(store.database, store.settings, now=lambda: datetime.now(UTC) - hour)
    if store.database.is_sqlite:  # the same machine's clock
        assert wrong.verdict == "ok"
    else:
        assert (wrong.verdict, "3600.0 s behind the database's" in wrong.found) == ("fault", True)


def test_versions_are_held_against_the_supported_range() -> None:
    assert unmet("packaging>=1") is None
    assert unmet("packaging>=1000") is not None
    assert unmet("no-such-package-here>=1") == "no-such-package-here is missing, >=1 is supported"
    assert unmet("packaging>=1000; extra == 'sim'") is None, "an extra that may be absent"
    assert unmet("not a requirement!") == "not a requirement! cannot be read"
    assert verdicts(check_packages()) == ["ok"]


def test_torch_is_looked_at_in_a_process_of_its_own() -> None:
    before = "torch" in sys.modules
    found = check_accelerator()
    assert (found.verdict, found.found.startswith("torch 2")) == ("ok", True)
    assert ("torch" in sys.modules) is before
    assert "does not load within" in check_accelerator(timeout_s=0.01).found


def test_a_station_that_answers_is_well_and_one_that_is_stopped_is_not(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with running_station(ToyDriver(tmp_path / "log"), spool=tmp_path / "spool", station_id="cell-9") as url:
        assert check_station(settings, url).found.startswith(f"{url}: cell-9 is ")
        assert check_station(settings, url).verdict == "ok"
        client = StationClient(url)
        client.estop("somebody pressed it")
        client.close()
        found = check_station(settings, url)
    assert (found.verdict, "clear-estop" in found.remedy) == ("fault", True)


def test_a_station_that_is_away_is_a_fault(tmp_path: Path) -> None:
    (found,) = check_stations(Settings(data_dir=tmp_path, station_url="http://127.0.0.1:9"))
    assert (found.verdict, "GYMNASTD_STATION_URL" in found.remedy) == ("fault", True)
    token = Settings(data_dir=tmp_path, station_token_file=tmp_path / "none")
    assert "token file" in check_stations(token)[0].found


def test_with_autoeval_no_station_is_asked(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, collect_via="autoeval", autoeval_url="http://127.0.0.1:9")
    assert verdicts(check_stations(settings)) == ["ok"]


class Endpoint(BaseHTTPRequestHandler):
    """Lists its models to whoever has the key."""

    def do_GET(self) -> None:
        keys = {"Bearer right": 200, "Bearer broken": 500}
        self.send_response(keys.get(self.headers["Authorization"] or "", 401))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(("key", "verdict"), [("right", "ok"), ("wrong", "fault"), ("broken", "fault")])
def test_a_judges_endpoint_is_asked_with_its_key(key: str, verdict: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(key)
    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        found = check_judge(Settings(data_dir=tmp_path, judge_url=url, judge_key_file=tmp_path / "key"))
        thread.join()
    assert found.verdict == verdict
    assert key not in found.found


def test_a_judge_that_is_away_is_a_fault_and_none_is_well(tmp_path: Path) -> None:
    assert check_judge(Settings(data_dir=tmp_path)).verdict == "ok"
    assert check_judge(Settings(data_dir=tmp_path, judge_url="http://127.0.0.1:9")).verdict == "fault"


def test_only_faults_fail() -> None:
    assert exit_status([ok("a", "b"), warning("a", "b", "c")]) == 0
    assert exit_status([ok("a", "b"), fault("a", "b", "c")]) == 1


def test_looking_makes_no_database(tmp_path: Path) -> None:
    findings = list(examine(Settings(data_dir=tmp_path), deep=False, now=lambda: datetime.now(UTC)))
    by_name = {finding.check: finding.verdict for finding in findings}
    assert by_name["database"] == "warning"
    assert list(tmp_path.iterdir()) == []
    assert {"disk", "data_directory", "clock", "station", "judge", "packages", "accelerator"} <= set(by_name)


@on_sqlite
def test_a_whole_store_is_examined_in_one_go(full: Store) -> None:
    findings = list(examine(full.settings, deep=True, now=lambda: full.now + timedelta(seconds=1)))
    names = [finding.check for finding in findings]
    assert {"integrity", "checkpoints", "blobs", "leases", "phase_runs"} <= set(names)
