"""Content-addressed files: whole or absent, found by content, swept when nobody names them."""

import errno
import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.blobs import BlobStore
from storage.errors import BlobCorrupt, BlobMissing, BlobNameInvalid, DiskFull

ABSENT = "0" * 64
FULL_DISK = """
import resource, sys
from pathlib import Path
from storage.blobs import BlobStore
from storage.errors import DiskFull

blobs = BlobStore(Path(sys.argv[1]))
kept = blobs.put(b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
source = Path(sys.argv[1]) / "source"
try:
    blobs.put(bytes(100_000))
except DiskFull as error:
    assert error.needed == 100_000 and error.retryable
    assert blobs.read(kept) == b"small"
    sys.exit(7)
"""


def files_of(blobs: BlobStore) -> list[str]:
    return sorted(path.name for path in blobs.root.rglob("*") if path.is_file())


def as_if_written(blobs: BlobStore, sha256: str, at: datetime) -> None:
    os.utime(blobs.path(sha256), (at.timestamp(), at.timestamp()))


def test_what_was_put_is_read_back_under_its_sha256(blobs: BlobStore) -> None:
    sha256 = blobs.put(b"pictures")
    assert sha256 == hashlib.sha256(b"pictures").hexdigest()
    assert blobs.read(sha256) == b"pictures"
    assert blobs.path(sha256).name == sha256


@settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
@given(content=st.binary(max_size=3000))
def test_any_bytes_survive(blobs: BlobStore, content: bytes) -> None:
    assert blobs.read(blobs.put(content)) == content


def test_the_same_bytes_twice_are_one_file(blobs: BlobStore) -> None:
    assert blobs.put(b"twice") == blobs.put(b"twice")
    assert len(files_of(blobs)) == 1


def test_a_second_store_on_the_same_folder_sees_the_blob(blobs: BlobStore) -> None:
    sha256 = blobs.put(b"shared")
    assert BlobStore(blobs.root).read(sha256) == b"shared"


def test_nothing_temporary_is_left_after_a_put(blobs: BlobStore) -> None:
    sha256 = blobs.put(b"clean")
    assert files_of(blobs) == [sha256]


def test_a_missing_blob_is_named_with_its_place(blobs: BlobStore) -> None:
    with pytest.raises(BlobMissing, match=f"{ABSENT} is missing: expected the file .*/00/{ABSENT}"):
        blobs.read(ABSENT)


@pytest.mark.parametrize("change", [b"", b"pictureS", b"pictures!"])
def test_a_changed_blob_is_never_handed_out(blobs: BlobStore, change: bytes) -> None:
    sha256 = blobs.put(b"pictures")
    blobs.path(sha256).write_bytes(change)
    found = hashlib.sha256(change).hexdigest()
    with pytest.raises(BlobCorrupt, match=f"its name says sha256 {sha256}, its bytes have {found}"):
        blobs.read(sha256)
    assert blobs.found_digest(sha256) == found


def test_putting_the_content_again_repairs_a_damaged_copy(blobs: BlobStore) -> None:
    sha256 = blobs.put(b"pictures")
    blobs.path(sha256).write_bytes(b"pict")
    assert blobs.put(b"pictures") == sha256
    assert blobs.read(sha256) == b"pictures"


@pytest.mark.parametrize(
    "name", ["", "abc", "A" * 64, "g" * 64, "0" * 63, "0" * 65, "../" + "0" * 61, "٣" * 64]
)
def test_a_name_that_is_no_digest_never_becomes_a_path(blobs: BlobStore, name: str) -> None:
    with pytest.raises(BlobNameInvalid):
        blobs.path(name)


def test_a_file_moves_in_under_its_sha256(blobs: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "checkpoint.safetensors"
    source.write_bytes(b"weights" * 1000)
    sha256 = blobs.put_file(source)
    assert blobs.read(sha256) == b"weights" * 1000
    assert not source.exists()


def test_a_file_whose_content_is_known_moves_in_too(blobs: BlobStore, tmp_path: Path) -> None:
    sha256 = blobs.put(b"weights")
    source = tmp_path / "checkpoint.safetensors"
    source.write_bytes(b"weights")
    assert blobs.put_file(source) == sha256
    assert not source.exists()
    assert files_of(blobs) == [sha256]


def test_a_disk_that_fills_up_while_writing_keeps_what_was_there_and_nothing_of_the_new(
    tmp_path: Path,
) -> None:
    """A real limit of the operating system, in a process of its own: no file may grow past 4 KiB."""
    root = tmp_path / "blobs"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr
    assert files_of(BlobStore(root)) == [hashlib.sha256(b"small").hexdigest()]


def test_a_put_that_cannot_fit_is_refused_before_it_writes(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(DiskFull, match="needed 11 bytes, 10 bytes are free") as caught:
        blobs.put(b"hello world")
    assert (caught.value.needed, caught.value.free) == (11, 10)
    assert files_of(blobs) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_an_out_of_room_error_while_flushing_leaves_no_file(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_room(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(DiskFull):
        blobs.put(b"flushed")
    assert files_of(blobs) == []


def test_a_file_that_does_not_fit_stays_with_its_owner(
    blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "weights"
    source.write_bytes(b"weights")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(DiskFull):
        blobs.put_file(source)
    assert source.read_bytes() == b"weights"


def test_another_error_of_the_disk_is_not_taken_for_a_full_one(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        blobs.put(b"flushed")
    assert files_of(blobs) == []


def test_the_content_is_on_disk_before_the_name_is(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that survives a power cut: flush the content, rename, flush the folder."""
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "content")  # noqa: PTH112
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    blobs.put(b"ordered")
    assert order == ["content", "rename", "folder", "folder"]


def test_a_sweep_removes_old_blobs_that_nobody_names(blobs: BlobStore, now: datetime) -> None:
    named, orphan = blobs.put(b"named"), blobs.put(b"orphan")
    for sha256 in (named, orphan):
        as_if_written(blobs, sha256, now - timedelta(hours=2))
    assert blobs.sweep({named}, older_than_s=3600, now=now) == [orphan]
    assert files_of(blobs) == [named]


def test_a_sweep_leaves_young_blobs_whose_row_may_be_on_its_way(blobs: BlobStore, now: datetime) -> None:
    young = blobs.put(b"young")
    as_if_written(blobs, young, now - timedelta(seconds=3599))
    assert blobs.sweep(set(), older_than_s=3600, now=now) == []
    assert blobs.read(young) == b"young"


def test_a_blob_that_is_put_again_is_young_again(blobs: BlobStore) -> None:
    """Otherwise a sweep could take it between the second put and its row."""
    sha256 = blobs.put(b"again")
    as_if_written(blobs, sha256, datetime.now(UTC) - timedelta(days=3))
    blobs.put(b"again")
    assert blobs.sweep(set(), older_than_s=3600, now=datetime.now(UTC)) == []


def test_a_sweep_removes_writes_that_were_never_finished(blobs: BlobStore, now: datetime) -> None:
    unfinished = blobs.root / "tmp" / "1234"
    unfinished.write_bytes(b"half")
    os.utime(unfinished, (0, 0))
    assert blobs.sweep(set(), older_than_s=3600, now=now) == []
    assert not unfinished.exists()


def test_sweeping_an_empty_store_removes_nothing(blobs: BlobStore, now: datetime) -> None:
    assert blobs.sweep(set(), older_than_s=0, now=now) == []


def test_sizes_are_those_of_finished_blobs(blobs: BlobStore) -> None:
    (blobs.root / "tmp" / "1234").write_bytes(b"half")
    kept = {blobs.put(b"four"): 4, blobs.put(b"seven77"): 7}
    assert blobs.sizes() == kept


def test_what_would_be_swept_can_be_looked_at_before(blobs: BlobStore, now: datetime) -> None:
    orphan = blobs.put(b"orphan")
    as_if_written(blobs, orphan, now - timedelta(hours=2))
    assert [path.name for path in blobs.stale(set(), older_than_s=3600, now=now)] == [orphan]
    assert blobs.stale({orphan}, older_than_s=3600, now=now) == []
    assert blobs.read(orphan) == b"orphan"
