"""An iteration of the real phases, done again from its manifest: the same bits, or it says what is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import torch

from daemon.cli_manifest import DIFFERENT
from daemon.judges.errors import JudgeBudgetSpent
from daemon.phases import collect, finetune_world_model, update_policy
from daemon.phases.judges import vlm_judge
from daemon.phases.manifest import Inputs, write_manifest
from daemon.progress_bar import Bars
from daemon.rerun.errors import FolderTaken, ManifestMissing
from daemon.rerun.run import REPORT, Compared, remember_answers, rerun
from daemon.settings import Settings
from daemon.spec import parse_spec
from daemon.stores import utc_now
from storage import episodes, labels, manifests
from storage.tables import IterationRow
from tests.daemon.phases.conftest import SMALL, Lab, let_through

LEARNED = {
    ("finetune_world_model", "judge"),
    ("finetune_world_model", "world_model"),
    ("update_policy", "policy"),
}


def settings_of(lab: Lab) -> Settings:
    """Of the lab as a daemon's data directory would have it: blobs beside the runs' folder."""
    return Settings(
        data_dir=lab.blobs.root.parent, database_url=lab.database.url.render_as_string(hide_password=False)
    )


def iterate(lab: Lab) -> None:
    lab.do("collect", collect.run)
    lab.do("finetune_world_model", finetune_world_model.run)
    lab.do("update_policy", update_policy.run)


@pytest.fixture
def iterated(lab: Lab) -> Lab:
    iterate(lab)
    return lab


def everything(lab: Lab) -> dict[str, list[Any]]:
    """All rows of the store, to see that nothing changed."""
    with lab.database.read() as session:
        tables = sa.inspect(lab.database.engine).get_table_names()
        queries = {name: sa.select(sa.text("*")).select_from(sa.table(name)) for name in tables}
        return {name: sorted(session.execute(query).all(), key=str) for name, query in queries.items()}


def command(lab: Lab, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`gymnastd rerun` as a process of its own: another order of sets, torch loaded anew."""
    settings = settings_of(lab)
    environment = {
        **os.environ,
        "GYMNASTD_DATA_DIR": str(settings.data_dir),
        "GYMNASTD_DATABASE_URL": str(settings.database_url),
        **variables,
    }
    line = [sys.executable, "-m", "daemon.cli", "rerun", *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=240, check=False)


@pytest.mark.slow
def test_an_iteration_done_again_in_another_process_has_the_same_bits(iterated: Lab, tmp_path: Path) -> None:
    before, blobs = everything(iterated), sorted(iterated.blobs.root.rglob("*"))
    out = tmp_path / "again"
    done = command(iterated, "1", "--out", str(out), "--json", PYTHONHASHSEED="7", OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stdout + done.stderr
    for phase, kind in LEARNED:
        assert f"{phase}, {kind}: equal" in done.stderr
    found = json.loads((out / REPORT).read_text())
    assert json.loads(done.stdout) == {"folder": str(out), **found}
    assert {(each["phase"], each["kind"]) for each in found["checkpoints"]} == LEARNED
    assert everything(iterated) == before, "the store is only read"
    assert sorted(iterated.blobs.root.rglob("*")) == blobs


@pytest.mark.slow
def test_what_came_after_does_not_change_what_is_done_again(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next iteration brings episodes, checkpoints, a trial and reports; a person corrects a label.

    Its world model is taught from the base again, beside the first's, which is the current one.
    """
    let_through(monkeypatch)
    iterate(lab)
    lab.request({**SMALL, "seed": 4})
    iterate(lab)
    assert set(read_by(lab, "finetune_world_model")) == {"world_model", "world_model_base", "judge", "policy"}
    with lab.database.write() as session:
        first = episodes.list_episodes(session, iteration_id=iteration_id(lab, 1))[0]
        for row in first:
            said = labels.effective_label(session, row.id)
            other = labels.Verdict(success=not (said and said.success), source="human", at=utc_now())
            labels.append(session, row.id, other, now=utc_now())
    for number in (1, 2):
        told: list[str] = []
        bars = Bars(say=told.append, shown=False)
        compared = rerun(settings_of(lab), number, out=tmp_path / str(number), bars=bars)
        assert {(each.phase, each.kind) for each in compared} == LEARNED
        assert all(each.equal for each in compared)
        assert "code, packages and machine are as they were" in told


def iteration_id(lab: Lab, number: int) -> str:
    with lab.database.read() as session:
        return session.scalars(sa.select(IterationRow.id).where(IterationRow.number == number)).one()


def read_by(lab: Lab, phase: str) -> dict[str, Any]:
    """Checkpoints by kind that the newest iteration's manifest names."""
    with lab.database.read() as session:
        content = manifests.of_iteration(session, lab.iteration_id)[phase].manifest.content
    return dict(json.loads(content)["checkpoints"])


def altered(lab: Lab, phase: str, change: dict[str, Any]) -> None:
    """Make the manifest of a phase say something else, as if it had been so."""
    with lab.database.write() as session:
        kept = manifests.of_iteration(session, lab.iteration_id)[phase]
        content = json.loads(kept.manifest.content)
        for name, value in change.items():
            content[name] = {**content[name], **value} if isinstance(value, dict) else value
        manifests.save(session, kept.run.id, content, now=kept.manifest.written_at)


@pytest.mark.slow
def test_another_seed_gives_other_bits_and_another_machine_is_told_before(lab: Lab, tmp_path: Path) -> None:
    """The comparison is not empty: what should come out different does."""
    lab.do("collect", collect.run)
    lab.do("finetune_world_model", finetune_world_model.run)
    other = parse_spec({**SMALL, "seed": 9})
    with lab.database.write() as session:
        session.get_one(IterationRow, lab.iteration_id).spec = other.document()
    change = {"spec_digest": other.digest(), "environment": {"capability": "ABACUS", "precision": "float32"}}
    altered(lab, "finetune_world_model", change)
    out = tmp_path / "again"
    done = command(lab, "1", "--out", str(out))
    assert done.returncode == DIFFERENT, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    warned = next(place for place, line in enumerate(lines) if "capability was ABACUS" in line)
    begun = next(place for place, line in enumerate(lines) if line.startswith("finetune_world_model: "))
    assert warned < begun
    assert "finetune_world_model, judge: different" in lines
    found = json.loads((out / REPORT).read_text())
    assert [each["equal"] for each in found["checkpoints"]] == [False, False]
    assert any("capability was ABACUS" in sentence for sentence in found["differences"])


def test_a_folder_that_holds_something_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    with pytest.raises(FolderTaken):
        rerun(settings_of(lab), 1, out=tmp_path / "taken", bars=Bars(shown=False))
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["notes.txt"]


def test_an_iteration_that_did_not_learn_cannot_be_done_again(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(ManifestMissing, match="iteration 1 has no finished learning phase"):
        rerun(settings_of(lab), 1, out=tmp_path / "again", bars=Bars(shown=False))
    assert not (tmp_path / "again").exists()


def test_the_command_says_in_one_sentence_why_not(lab: Lab, tmp_path: Path) -> None:
    done = command(lab, "1", "--out", str(tmp_path / "again"))
    assert done.returncode == 1
    assert "[manifest_missing]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("then", "now", "equal"), [("a", "a", True), ("a", "b", False), (None, None, False), (None, "a", False)]
)
def test_two_checkpoints_are_equal_only_if_both_are_there(
    then: str | None, now: str | None, equal: bool
) -> None:
    assert Compared(phase="update_policy", kind="policy", then=then, now=now).equal is equal


def test_a_judge_at_an_endpoint_is_not_asked_again(lab: Lab, tmp_path: Path) -> None:
    """Its answers are there, and the budget of the copy is spent."""
    lab.request({**SMALL, "judge": {"kind": "vlm_http"}})
    context = lab.context("finetune_world_model")
    write_manifest(context, Inputs(checkpoints={}))
    settings = settings_of(lab).model_copy(update={"judge_url": "http://127.0.0.1:1/v1"})
    answers = settings.data_dir / "judge" / "answers"
    answers.mkdir(parents=True)
    (answers / "key.json").write_text('{"texts": ["1"]}')
    with lab.database.read() as session:
        kept = manifests.of_iteration(session, lab.iteration_id)["finetune_world_model"]
    folder = tmp_path / "again"
    folder.mkdir()
    remember_answers(settings, kept, folder=folder)
    assert (folder / "judge" / "answers" / "key.json").read_text() == '{"texts": ["1"]}'
    again = replace(context, settings=settings.model_copy(update={"data_dir": folder}))
    judge = vlm_judge(again, say=str)
    with pytest.raises(JudgeBudgetSpent):
        judge.judge(torch.zeros(1, judge.frames, 3, 64, 64, dtype=torch.uint8), ["open the drawer"])


def test_a_classifier_needs_no_answers(lab: Lab, tmp_path: Path) -> None:
    write_manifest(lab.context("collect"), Inputs(checkpoints={}))
    with lab.database.read() as session:
        kept = manifests.of_iteration(session, lab.iteration_id)["collect"]
    remember_answers(settings_of(lab), kept, folder=tmp_path)
    assert not (tmp_path / "judge").exists()
