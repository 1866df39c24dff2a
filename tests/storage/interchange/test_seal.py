"""manifest.json: written last, names every file, and is believed only when every file is what it says."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from storage.interchange.errors import DatasetChanged, DatasetInvalid, DatasetUnsealed, TargetNotEmpty
from storage.interchange.seal import Seal, prepare, seal, unseal


@pytest.fixture
def sealed(tmp_path: Path, now: datetime) -> Path:
    folder = tmp_path / "out"
    prepare(folder)
    (folder / "deep").mkdir()
    (folder / "deep/rows.bin").write_bytes(b"rows")
    (folder / "_gymnastd/e-1.json").write_text("{}")
    seal(folder, Seal(format="rlds", places={"0": "e-1"}), notes={"frames": "as they were"}, now=now)
    return folder


def test_what_was_sealed_is_read_back_and_every_file_is_counted(sealed: Path) -> None:
    told: list[tuple[int, int]] = []
    found = unseal(sealed, expected="rlds", advance=lambda done, of: told.append((done, of)))
    assert found == Seal(format="rlds", places={"0": "e-1"})
    assert told == [(1, 2), (2, 2)]


def test_a_folder_that_was_never_ours_has_no_seal(tmp_path: Path) -> None:
    (tmp_path / "rows.bin").write_bytes(b"rows")
    assert unseal(tmp_path, expected="rlds") is None


def test_an_export_that_was_broken_off_has_notes_and_no_manifest(tmp_path: Path) -> None:
    prepare(tmp_path / "out")
    with pytest.raises(DatasetUnsealed, match="export again"):
        unseal(tmp_path / "out", expected="rlds")


def test_an_unfinished_manifest_is_none(sealed: Path) -> None:
    """It is written under another name first."""
    (sealed / "manifest.json").rename(sealed / "manifest.json.new")
    with pytest.raises(DatasetUnsealed):
        unseal(sealed, expected="rlds")


def test_a_missing_file_is_named(sealed: Path) -> None:
    (sealed / "deep/rows.bin").unlink()
    with pytest.raises(DatasetChanged, match=r"deep/rows\.bin .* no such file"):
        unseal(sealed, expected="rlds")


def test_a_changed_file_is_named_with_both_digests(sealed: Path) -> None:
    (sealed / "deep/rows.bin").write_bytes(b"r0ws")
    with pytest.raises(DatasetChanged, match=r"deep/rows\.bin .*sha256 [0-9a-f]{64}, found sha256"):
        unseal(sealed, expected="rlds")


def test_a_manifest_that_reaches_out_of_its_folder_is_refused(sealed: Path) -> None:
    path = sealed / "manifest.json"
    tree = json.loads(path.read_text())
    tree["files"]["../elsewhere"] = {"sha256": "ab" * 32, "bytes": 1}
    path.write_text(json.dumps(tree))
    with pytest.raises(DatasetChanged, match="files in the folder"):
        unseal(sealed, expected="rlds")


def test_an_export_of_another_format_is_refused(sealed: Path) -> None:
    with pytest.raises(DatasetInvalid, match="format lerobot, found rlds"):
        unseal(sealed, expected="lerobot")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "gymnastd-export/2", "format": "rlds", "places": {}, "files": {}}',
        '{"schema": "gymnastd-export/1", "format": "rlds", "places": [], "files": {}}',
        '{"schema": "gymnastd-export/1", "format": "rlds", "places": {}, "files": {"a": {"sha256": 1}}}',
    ],
)
def test_a_manifest_that_is_none_is_refused(sealed: Path, text: str) -> None:
    (sealed / "manifest.json").write_text(text)
    with pytest.raises(DatasetInvalid, match="gymnastd-export/1"):
        unseal(sealed, expected="rlds")


@pytest.mark.parametrize("name", ["anything", "_gymnastd"])
def test_only_an_empty_folder_takes_an_export(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    prepare_into_empty = tmp_path / "out"
    prepare(prepare_into_empty)
    other = tmp_path / "other"
    other.mkdir()
    (other / name).write_text("x")
    with pytest.raises(TargetNotEmpty, match="other"):
        prepare(other)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(TargetNotEmpty):
        prepare(tmp_path / "out")
