"""manifest.json: written last, names every file, and is believed only when every file is what it says."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from storage.interchange import seal as seal_module
from storage.interchange.errors import DatasetChanged, DatasetInvalid, DatasetUnsealed
from storage.interchange.seal import Seal, seal, unseal


@pytest.fixture
def sealed(tmp_path: Path, now: datetime) -> Path:
    folder = tmp_path / "out"
    (folder / "_gymnastd").mkdir(parents=True)
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


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("_gymnastd/e-1.json", "Export again into an empty folder"),
        ("_unfinished/lock", "Export again into an empty folder"),
        ("_unfinished/plan.json", "Give the same command"),
    ],
)
def test_an_export_that_was_broken_off_has_no_manifest_and_goes_on_only_with_a_plan(
    tmp_path: Path, name: str, advice: str
) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(DatasetUnsealed, match=advice):
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


def test_what_belongs_to_no_finished_export_is_not_named(sealed: Path, now: datetime) -> None:
    """The journal, and a manifest that was killed before it had its name."""
    (sealed / "manifest.json").unlink()
    (sealed / ".manifest.json.new").write_text("{")
    (sealed / "_unfinished").mkdir()
    (sealed / "_unfinished/plan.json").write_text("{}")
    seal(sealed, Seal(format="rlds", places={"0": "e-1"}), notes={}, now=now)
    files = json.loads((sealed / "manifest.json").read_text())["files"]
    assert sorted(files) == ["_gymnastd/e-1.json", "deep/rows.bin"]
    assert not (sealed / ".manifest.json.new").exists()


def test_every_folder_from_each_file_up_to_the_target_is_on_disk_before_the_manifest_deepest_first(
    sealed: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may take the name of a folder just as it may that of a file."""
    (sealed / "manifest.json").unlink()
    (sealed / "cell-1/sink/raw").mkdir(parents=True)
    (sealed / "cell-1/sink/raw/im_0.jpg").write_bytes(b"picture")
    (sealed / "empty").mkdir()
    synced: list[str] = []

    def sync(folder: Path) -> None:
        assert not (sealed / "manifest.json").exists()
        synced.append(folder.relative_to(sealed).as_posix())

    monkeypatch.setattr(seal_module, "sync_folder", sync)
    seal(sealed, Seal(format="rlds", places={"0": "e-1"}), notes={}, now=now)
    assert synced == ["cell-1/sink/raw", "cell-1/sink", "_gymnastd", "cell-1", "deep", "."]
