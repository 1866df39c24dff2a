"""A full disk: nothing is begun, nothing is lost, and it goes on when there is room."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from daemon.disk import MB, DiskGuard, free_bytes, is_disk_full
from robot_bridge.errors import SpoolDiskFull
from storage.errors import DiskFull

# Runs in a user namespace of its own, so that it may mount: puts blobs and rows on 3 MB until they are full.
ON_A_SMALL_DISK = """
import sqlite3, subprocess, sys
from pathlib import Path
import sqlalchemy as sa
from daemon.disk import is_disk_full
from storage.blobs import BlobStore
from storage.db import Database, default_url
from storage.errors import DiskFull

disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], check=True)
database = Database(default_url(disk))
database.upgrade()
blobs, kept = BlobStore(disk / "blobs"), []
try:
    for number in range(1000):
        content = bytes([number % 256]) * 200_000 + str(number).encode()
        kept.append(blobs.put(content))
    raise SystemExit("the disk was never full")
except DiskFull as error:
    assert is_disk_full(error)
assert kept and all(blobs.found_digest(sha256) == sha256 for sha256 in kept)
assert [path for path in (disk / "blobs").rglob("*") if path.is_file() and path.name not in kept] == []
(disk / "filler").write_bytes(bytes(10_000))
try:
    for number in range(1000):
        with database.write() as session:
            row = {"id": f"t{number}", "instruction": "x" * 4000}
            session.execute(sa.text(
                "INSERT INTO tasks (id, instruction, registered_at) VALUES (:id, :instruction, '2026-01-01')"
            ), row)
    raise SystemExit("the database was never full")
except sa.exc.OperationalError as error:
    assert is_disk_full(error), error
with database.read() as session:
    assert session.execute(sa.text("PRAGMA quick_check")).scalar() == "ok"
    assert session.execute(sa.text("SELECT count(*) FROM tasks")).scalar() == number
blobs.path(kept.pop()).unlink()
blobs.path(kept.pop()).unlink()
assert blobs.read(blobs.put(b"there is room again")) == b"there is room again"
with database.write() as session:
    row["id"] = "one more"
    session.execute(sa.text(
        "INSERT INTO tasks (id, instruction, registered_at) VALUES (:id, :instruction, '2026-01-01')"
    ), row)
sys.stdout.write("whole")
"""


def test_room_is_measured_also_where_nothing_is_yet(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "there") > 0


@pytest.mark.parametrize(("free", "waits"), [(5 * MB, False), (5 * MB - 1, True)])
def test_a_guard_lets_pass_exactly_what_is_wanted(free: int, waits: bool, tmp_path: Path) -> None:
    guard = DiskGuard(folder=tmp_path, min_free_mb=5, measure=lambda folder: free)
    said = guard.shortage()
    assert (said is not None) is waits
    if said:
        assert "less than 5 MB are free" in said
        assert str(tmp_path) in said
        assert "gymnastd gc" in said


def caused(error: Exception) -> Exception:
    outer = RuntimeError("saving failed")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (DiskFull(needed=1, free=0, path=Path("x")), True),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), True),
        (caused(OSError(errno.ENOSPC, "no")), True),
        (OperationalError("INSERT", {}, Exception("database or disk is full")), True),
        (RuntimeError('IoError(Os { code: 28, message: "No space left on device" })'), True),
        (OSError(errno.EIO, os.strerror(errno.EIO)), False),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), False),
        (ValueError("the cup is full"), False),
        (SpoolDiskFull(path="/spool", reason="No space left on device"), False),  # the station's
    ],
)
def test_a_full_disk_is_known_by_whatever_tells_it(error: Exception, full: bool) -> None:
    assert is_disk_full(error) is full


def test_on_a_disk_that_fills_up_nothing_is_corrupt_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    probe = subprocess.run(
        [*command, "mount", "-t", "tmpfs", "none", str(tmp_path)], capture_output=True, check=False
    )
    if probe.returncode != 0:
        pytest.skip(f"nobody may mount here: {probe.stderr.decode().strip()}")
    done = subprocess.run(
        [*command, sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.stdout, done.returncode) == ("whole", 0), done.stderr
