"""`gymnastd export` and `gymnastd import` as commands, over a store on disk."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from daemon.cli import app
from daemon.cli_exchange import FORMATS, exported, needs
from storage.interchange.errors import (
    DatasetUndeclared,
    DatasetUnsealed,
    ExportDiffers,
    ExtraMissing,
    NothingToExport,
    QueryInvalid,
    TargetNotEmpty,
)
from storage.interchange.writer import Counted
from tests.robot_bridge.autoeval.records import a_record, pickled_record, put_run
from tests.storage.interchange.laboratory import a_store, an_episode, filled, ids_of, keep, records_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
every_format = pytest.mark.parametrize("name", FORMATS)


def inside(*arguments: object, lab: Path) -> Result:
    """The command line in this process: faster, and its errors keep their class."""
    environment = {"COLUMNS": "200", "GYMNASTD_DATA_DIR": str(lab)}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A data directory with four episodes."""
    folder = tmp_path / "lab"
    folder.mkdir()
    filled(folder, 4, now=NOON).database.dispose()
    return folder


@every_format
def test_what_one_lab_exports_another_one_imports_once(name: str, lab: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    exported = inside("export", name, out, lab=lab)
    assert exported.exit_code == 0, exported.output
    assert f"4 episodes in {out}" in exported.stdout
    for new in (4, 0):
        imported = inside("import", name, out, lab=other)
        assert imported.exit_code == 0, imported.output
        assert f"4 episodes, 18 frames; {new} were new" in imported.stdout


@every_format
def test_progress_is_shown_beside_the_answer_and_not_in_it(name: str, lab: Path, tmp_path: Path) -> None:
    done = inside("export", name, tmp_path / "out", lab=lab)
    assert f"export {name}" in done.stderr
    assert "4/4" in done.stderr
    assert "4/4" not in done.stdout


def begin(name: str, folder: Path, *, lab: Path) -> None:
    """Export until the last of four episodes has a sound broken file, as a full disk would have it."""
    (folder.parent / "blobs").mkdir(exist_ok=True)
    hidden = last_picture_of(lab)
    hidden.rename(folder.parent / "blobs" / hidden.name)
    assert inside("export", name, folder, lab=lab).exit_code == 1
    (folder.parent / "blobs" / hidden.name).rename(hidden)


def last_picture_of(lab: Path) -> Path:
    """A blob that only the last episode needs."""
    with closing(sqlite3.connect(lab / "gymnastd.sqlite3")) as connection:
        query = "SELECT sha256 FROM episode_blobs WHERE episode_id = ? LIMIT 1"
        ((sha256,),) = connection.execute(query, ["00000000-0000-0000-0000-000000000004"])
    return lab / "blobs" / sha256[:2] / sha256


@every_format
def test_the_same_command_goes_on_and_the_bar_begins_at_what_is_there(
    name: str, lab: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    begin(name, out, lab=lab)
    done = inside("export", name, out, lab=lab)
    assert done.stdout.endswith(
        f"4 episodes in {out}, sealed by {out}/manifest.json; 3 of them were there already\n"
    )
    assert "check what is there: 3/3" in done.stderr
    assert f"export {name}: 4/4" in done.stderr
    assert "0/4" not in done.stderr
    assert isinstance(inside("export", name, out, lab=lab).exception, TargetNotEmpty)


def test_the_answer_as_json_counts_what_was_there_and_what_came_too_late(lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    begin("rlds", out, lab=lab)
    store = a_store(lab)
    keep(store, an_episode(8), number=8, now=NOON)
    store.database.dispose()
    document = json.loads(inside("export", "rlds", out, "--json", lab=lab).stdout)
    assert document == {
        "episodes": 4,
        "before": 3,
        "later": 1,
        "folder": str(out),
        "manifest": str(out / "manifest.json"),
    }


def test_what_came_too_late_is_told_in_words() -> None:
    said = exported(Counted(episodes=4, before=0, later=2), Path("out"))
    assert said.endswith("manifest.json; 2 that came since it was begun are not among them")


def test_another_query_is_no_way_to_go_on(lab: Path, tmp_path: Path) -> None:
    begin("rlds", tmp_path / "out", lab=lab)
    refused = inside("export", "rlds", tmp_path / "out", "--query", "task=open_drawer", lab=lab)
    assert isinstance(refused.exception, ExportDiffers)
    assert "the query was (all), is task=open_drawer" in str(refused.exception)


def test_a_query_narrows_what_leaves(lab: Path, tmp_path: Path) -> None:
    terms = ("--query", "task=open_drawer", "--query", "held_out=no")
    done = inside("export", "rlds", tmp_path / "out", *terms, lab=lab)
    assert "1 episodes" in done.stdout
    places = json.loads((tmp_path / "out/manifest.json").read_text())["places"]
    assert list(places) == ["00000000-0000-0000-0000-000000000004"]


@pytest.mark.parametrize(
    ("terms", "error"),
    [(["task=fly"], NothingToExport), (["colour=red"], QueryInvalid), (["since=soon"], QueryInvalid)],
)
def test_a_query_that_nothing_answers_writes_nothing(
    lab: Path, tmp_path: Path, terms: list[str], error: type[Exception]
) -> None:
    done = inside("export", "rlds", tmp_path / "out", "--query", *terms, lab=lab)
    assert isinstance(done.exception, error)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years")
    assert isinstance(inside("export", "rlds", tmp_path / "out", lab=lab).exception, TargetNotEmpty)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@every_format
def test_an_export_that_was_broken_off_is_not_imported(name: str, lab: Path, tmp_path: Path) -> None:
    inside("export", name, tmp_path / "out", lab=lab)
    (tmp_path / "out/manifest.json").unlink()
    done = inside("import", name, tmp_path / "out", lab=tmp_path / "other")
    assert isinstance(done.exception, DatasetUnsealed)


@pytest.mark.parametrize("name", ["lerobot", "rlds"])
def test_a_dataset_of_others_needs_its_convention(name: str, lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inside("export", name, out, lab=lab)
    (out / "manifest.json").unlink()
    for file in (out / "_gymnastd").iterdir():
        file.unlink()
    (out / "_gymnastd").rmdir()
    refused = inside("import", name, out, lab=tmp_path / "other")
    assert isinstance(refused.exception, DatasetUndeclared)
    done = inside("import", name, out, "--convention", "bridge_v2", lab=tmp_path / "other")
    assert "4 were new" in done.stdout


def test_flags_and_verdicts_arrive_in_the_other_lab(lab: Path, tmp_path: Path) -> None:
    inside("export", "bridge-raw", tmp_path / "out", lab=lab)
    inside("import", "bridge-raw", tmp_path / "out", lab=tmp_path / "other")
    before, after = records_of(a_store(lab)), records_of(a_store(tmp_path / "other"))
    assert {each: record.held_out for each, record in before.items()} == {
        each: record.held_out for each, record in after.items()
    }
    assert [set(record.verdicts) for record in before.values()] == [
        set(after[each].verdicts) for each in before
    ]


def test_a_refusal_is_one_sentence_with_its_code(tmp_path: Path) -> None:
    environment = {**os.environ, "GYMNASTD_DATA_DIR": str(tmp_path / "lab"), "COLUMNS": "200"}
    command = [sys.executable, "-m", "daemon.cli", "import", "rlds", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 1
    assert "[dataset_undeclared]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_extra_is_told_with_its_name() -> None:
    with (
        pytest.raises(ExtraMissing, match=r"pyarrow is not installed.*gymnast-daemon\[interchange\]"),
        needs("pyarrow"),
    ):
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow.parquet")
    with pytest.raises(ModuleNotFoundError), needs("pyarrow"):
        raise ModuleNotFoundError("No module named 'av'", name="av")


def test_serve_loads_no_format_of_others() -> None:
    script = "import daemon.app, daemon.cli, sys; sys.stdout.write(','.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split(","))
    assert "daemon.cli_exchange" in loaded
    assert not [name for name in loaded if name.startswith(("pyarrow", "storage.interchange."))]


def test_two_labs_are_two_stores(lab: Path, tmp_path: Path) -> None:
    assert len(ids_of(a_store(lab))) == 4
    assert ids_of(a_store(tmp_path / "fresh")) == []


def test_published_runs_of_autoeval_are_a_command_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(tmp_path / "data"))
    folder = put_run(tmp_path / "published", "41", "somebody's policy")
    (folder / "traj_0.pkl").write_bytes(pickled_record(a_record(steps=3)))
    for new in (1, 0):
        done = CliRunner().invoke(app, ["import", "autoeval", str(tmp_path / "published")])
        assert f"1 episodes, 3 frames; {new} were new" in done.output
