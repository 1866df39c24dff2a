"""What a judge said of rollouts is kept, over crashes too, and can be read by anybody."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from daemon.learning.policy_update import Judged
from daemon.learning.reward.judge import Verdicts
from daemon.phases import collect, update_policy
from daemon.phases.verdict_log import VerdictLog
from storage.blobs import BlobStore
from tests.daemon.phases.conftest import SMALL, Crash, Lab, crashing


def judged(update: int, batch: int = 0, *, success: bool = True, votes: list[int] | None = None) -> Judged:
    """Two groups of two rollouts; of the second group the last is unknown."""
    return Judged(
        update=update,
        batch=batch,
        group_size=2,
        starts=(7, 3),
        instructions=("open", "close"),
        verdicts=Verdicts(
            success=torch.tensor([success, True, False, False]),
            known=torch.tensor([True, True, True, False]),
            probability=torch.tensor([0.91234567, 1.0, 0.0, float("nan")]),
            votes=None if votes is None else torch.tensor(votes),
        ),
    )


def lines_of(blobs: BlobStore, sha256: str | None) -> list[dict[str, Any]]:
    assert sha256 is not None
    return [json.loads(line) for line in gzip.decompress(blobs.read(sha256)).decode().splitlines()]


def test_a_line_tells_who_began_where_and_what_was_said(tmp_path: Path) -> None:
    blobs, log = BlobStore(tmp_path / "blobs"), VerdictLog(tmp_path / "log")
    log.add(judged(1, votes=[5, 5, 4, 0]))
    (line,) = lines_of(blobs, log.keep(blobs))
    assert line == {
        "update": 1,
        "batch": 0,
        "group_size": 2,
        "starts": [7, 3],
        "instructions": ["open", "close"],
        "known": [True, True, True, False],
        "success": [True, True, False, False],
        "probability": [0.9123, 1.0, 0.0, None],
        "votes": [5, 5, 4, 0],
    }


def test_a_line_tells_what_each_judge_of_an_ensemble_said(tmp_path: Path) -> None:
    blobs, log = BlobStore(tmp_path / "blobs"), VerdictLog(tmp_path / "log")
    one, other = judged(1, votes=[5, 5, 4, 0]).verdicts, judged(1, success=False).verdicts
    log.add(replace(judged(1), verdicts=replace(one, members=(one, other))))
    (line,) = lines_of(blobs, log.keep(blobs))
    assert [member["success"][0] for member in line["members"]] == [True, False]
    assert [member["votes"] for member in line["members"]] == [[5, 5, 4, 0], None]


def test_of_an_update_that_was_made_again_the_last_word_counts(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    before = VerdictLog(tmp_path / "log")
    before.add(judged(1))
    before.add(judged(2, batch=0, success=False))
    with (tmp_path / "log.verdicts").open("a") as file:
        file.write('{"update": 2, "bat')  # killed while it wrote
    after = VerdictLog(tmp_path / "log")
    after.add(judged(2, batch=1))
    after.add(judged(2, batch=0))
    found = lines_of(blobs, after.keep(blobs))
    assert [(line["update"], line["batch"]) for line in found] == [(1, 0), (2, 0), (2, 1)]
    assert found[1]["success"][0] is True
    after.drop()
    assert not list(tmp_path.glob("log*"))
    assert VerdictLog(tmp_path / "log").keep(blobs) is None


def test_a_line_that_was_cut_short_does_not_spoil_the_one_after_it(tmp_path: Path) -> None:
    blobs, log = BlobStore(tmp_path / "blobs"), VerdictLog(tmp_path / "log")
    (tmp_path / "log.verdicts").write_text('{"update": 1, "bat')
    log.add(judged(1))
    assert len(lines_of(blobs, log.keep(blobs))) == 1


@pytest.mark.parametrize("crashes", [False, True])
def test_an_update_keeps_every_verdict(lab: Lab, crashes: bool) -> None:
    lab.request({**SMALL, "policy": {**SMALL["policy"], "updates": 3}})
    lab.do("collect", collect.run)
    context = lab.context("update_policy")
    if crashes:
        with pytest.raises(Crash):
            update_policy.run(crashing(context, at="update 2 of 3"))
    outcome = update_policy.run(context)
    found = lines_of(lab.blobs, str(outcome["verdicts"]))
    assert [line["update"] for line in found] == [1, 2, 3]
    assert all(len(line["known"]) == 16 and len(line["starts"]) == 4 for line in found)
    counted = sum(own["rollouts"] for own in outcome["imagined_success"].values())  # type: ignore[attr-defined]
    assert sum(sum(line["known"]) for line in found) == counted
    assert outcome["frame_passes"] > 0  # type: ignore[operator]
    assert not list((lab.folder / "resume").iterdir())


def test_updates_that_begin_anew_forget_what_was_said_before(lab: Lab) -> None:
    lab.request({**SMALL, "policy": {**SMALL["policy"], "updates": 3}})
    lab.do("collect", collect.run)
    context = lab.context("update_policy")
    with pytest.raises(Crash):
        update_policy.run(crashing(context, at="update 2 of 3"))
    state = next(file for file in (lab.folder / "resume").iterdir() if file.suffix == ".safetensors")
    stale = VerdictLog(state)
    stale.add(judged(99))
    state.unlink()
    outcome = update_policy.run(context)
    found = lines_of(lab.blobs, str(outcome["verdicts"]))
    assert [line["update"] for line in found] == [1, 2, 3]
