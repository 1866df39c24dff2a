"""kill -9 of `gymnastd export`, again and again: the same command ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from storage.interchange.errors import TargetNotEmpty
from tests.storage.interchange.laboratory import filled

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
COUNT = 6

# where it dies: touch, pattern, number of that touch, and how many episodes are down for good then
BEFORE_THE_PLAN = ("rename", "*/_unfinished/plan.json", 1, 0)
AN_EPISODE_NOT_NOTED = ("write", "*/_unfinished/done.jsonl", 3, 2)
IN_THE_NOTES = ("write", "*/_gymnastd/*.npz", 2, 3)  # of episodes 3 and 4
SEALED_NOT_NAMED = ("rename", "*/out/manifest.json", 1, COUNT)
NOT_TIDIED = ("remove", "*/_unfinished/done.jsonl", 1, COUNT)
EVERY = (BEFORE_THE_PLAN, AN_EPISODE_NOT_NOTED, IN_THE_NOTES)
KILLS = {
    "lerobot": [*EVERY, ("write", "*/out/meta/info.json", 1, COUNT), SEALED_NOT_NAMED],
    "bridge-raw": [*EVERY, ("write", "*/images0/im_1.jpg", 1, 3), SEALED_NOT_NAMED],
    "worldgym-clips": [*EVERY, ("write", "*/out/*/00000000?.npz", 1, 3), SEALED_NOT_NAMED],
    "rlds": [
        *EVERY,
        ("write", "*/gymnastd-train-00000.unfinished", 1, 3),
        ("rename", "*/gymnastd-*.tfrecord-00000-of-00001", 2, COUNT),
        SEALED_NOT_NAMED,
    ],
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    filled(folder, COUNT, now=NOON).database.dispose()
    return folder


def inside(name: str, folder: Path, *, lab: Path) -> Any:
    environment = {"COLUMNS": "200", "GYMNASTD_DATA_DIR": str(lab)}
    return CliRunner().invoke(app, ["export", name, str(folder), "--json"], env=environment)


def killed(name: str, folder: Path, *, lab: Path, at: tuple[str, str, int, int]) -> None:
    touch, pattern, number, _ = at
    command = [sys.executable, "-m", "tests.faults.killed_command", touch, pattern, str(number)]
    environment = {**os.environ, "GYMNASTD_DATA_DIR": str(lab)}
    done = subprocess.run(
        [*command, "export", name, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, f"it was to die at {at}: {done.stdout}{done.stderr}"


def whole_lines(folder: Path) -> list[dict[str, Any]]:
    """The episodes that are noted, read past our own code."""
    path = folder / "_unfinished" / "done.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.is_file() else []


def stamps_of_done(folder: Path) -> dict[Path, tuple[int, int]]:
    """When the files of noted episodes were written, and which they are on disk; not shards, which grow."""
    files = [
        file
        for line in whole_lines(folder)
        for part in line["parts"]
        if part["end"] is None
        for file in (folder / part["name"], *(folder / part["name"]).rglob("*"))
    ]
    found = {file: file.stat() for file in files if file.is_file()}
    return {file: (status.st_mtime_ns, status.st_ino) for file, status in found.items()}


def assert_untouched(before: dict[Path, tuple[int, int]]) -> None:
    for file, stamp in before.items():
        if file.parent.name != "_unfinished" or file.exists():  # videos of one episode go in the end
            assert (file.stat().st_mtime_ns, file.stat().st_ino) == stamp, f"{file} was written twice"


def content_of(folder: Path) -> dict[str, Any]:
    """Every file byte for byte; of the manifest all but the time, when either export began."""
    files: dict[str, Any] = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    files["manifest.json"] = {**json.loads(files["manifest.json"]), "exported_at": "then"}
    return files


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(KILLS))
def test_an_export_that_is_killed_at_every_stage_ends_as_one_that_never_was(
    name: str, lab: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    for at in KILLS[name]:
        before = stamps_of_done(folder)
        killed(name, folder, lab=lab, at=at)
        assert not (folder / "manifest.json").exists()
        assert len(whole_lines(folder)) == at[3], f"episodes that are down after {at}"
        assert_untouched(before)
    before = stamps_of_done(folder)
    assert before, "there is something that could be written twice"
    document = json.loads(inside(name, folder, lab=lab).stdout)
    assert (document["episodes"], document["before"], document["later"]) == (COUNT, COUNT, 0)
    assert_untouched(before)
    assert inside(name, tmp_path / "calm" / "out", lab=lab).exit_code == 0
    assert content_of(folder) == content_of(tmp_path / "calm" / "out")
    assert isinstance(inside(name, folder, lab=lab).exception, TargetNotEmpty)


@pytest.mark.timeout(900)
def test_an_export_that_is_killed_once_goes_on_and_says_what_was_there(lab: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    killed("bridge-raw", folder, lab=lab, at=AN_EPISODE_NOT_NOTED)
    before = stamps_of_done(folder)
    document = json.loads(inside("bridge-raw", folder, lab=lab).stdout)
    assert (document["episodes"], document["before"]) == (COUNT, 2)
    assert_untouched(before)
    assert not (folder / "_unfinished").exists()


@pytest.mark.timeout(900)
def test_a_kill_after_the_seal_leaves_only_the_tidying(lab: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    killed("worldgym-clips", folder, lab=lab, at=NOT_TIDIED)
    sealed = content_of(folder)
    document = json.loads(inside("worldgym-clips", folder, lab=lab).stdout)
    assert (document["episodes"], document["before"]) == (COUNT, COUNT)
    left = {name: file for name, file in sealed.items() if not name.startswith("_unfinished/")}
    assert content_of(folder) == left
