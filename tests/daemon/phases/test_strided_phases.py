"""An iteration whose world model imagines every so many steps: it is finetuned, believed, and acted in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemon.learning.world_model.model import WorldModel, with_stride
from daemon.phases import collect, finetune_world_model, update_policy
from daemon.phases.checkpoints import Made, keep
from storage import checkpoints
from tests.daemon.phases.conftest import SMALL, Lab

FROM_LAST: dict[str, Any] = {**SMALL, "world_model": {**SMALL["world_model"], "from_base": False}}


def with_strided_model(lab: Lab, stride: int) -> None:
    """Let the lab's newest world model imagine every so many steps."""
    lab.request(FROM_LAST)
    lab.do("collect", collect.run)
    context = lab.context("finetune_world_model")
    before = finetune_world_model.newest(context, "world_model")
    strided = with_stride(finetune_world_model.load_world_model(context, before), stride, max_frames=3)
    row = keep(context, strided, Made(kind="world_model", parent=before, card={}))
    lab.end(context, {"made": {"world_model": row.id}})


@pytest.fixture
def every_chunk(lab: Lab) -> Lab:
    with_strided_model(lab, 5)
    lab.request(FROM_LAST)
    lab.do("collect", collect.run)
    return lab


def test_an_iteration_finetunes_it_measures_it_and_imagines_a_fifth_of_the_frames(every_chunk: Lab) -> None:
    """Episodes have ten steps: two frames after the first."""
    outcome: dict[str, Any] = every_chunk.do("finetune_world_model", finetune_world_model.run)
    trust = outcome["trust"]
    assert list(trust["drift"]["latents"]) == ["5", "10"]
    assert set(outcome["held_out_error"]["by_horizon"]) == {"5", "10"}
    assert trust["horizon"] in (4, 9, 10)
    for along in outcome["judge_along"].values():
        assert len(along["imagined"]) == len(along["real"]) == 11
    (film, *_) = outcome["film_strips"].values()
    assert Path(every_chunk.blobs.path(film["imagined"])).stat().st_size > 0
    updated: dict[str, Any] = every_chunk.do("update_policy", update_policy.run)
    if trust["horizon"] >= 5:
        chunks = trust["horizon"] // 5
        assert updated["updates"] >= 1
        assert updated["frame_passes"] % chunks == 0


def test_a_finetuned_world_model_keeps_its_stride(every_chunk: Lab) -> None:
    context = every_chunk.context("finetune_world_model")
    before = finetune_world_model.newest(context, "world_model")
    finetune_world_model.run(context)
    with every_chunk.database.read() as session:
        rows, _ = checkpoints.list_checkpoints(session, kind="world_model")
    made = next(row for row in rows if row.parent_id == before.id)
    assert WorldModel.load(checkpoints.path(made, every_chunk.blobs)).transformer.config.stride == 5


def test_a_policy_that_decides_between_two_of_its_frames_is_not_updated_in_it(lab: Lab) -> None:
    with_strided_model(lab, 2)
    lab.request(FROM_LAST)
    lab.do("collect", collect.run)
    outcome: dict[str, Any] = lab.do("finetune_world_model", finetune_world_model.run)
    assert outcome["trust"]["closed_loop"]["tasks"] == {}
    updated = lab.do("update_policy", update_policy.run)
    assert (updated["made"], updated["updates"]) == ({}, 0)
    assert (
        updated["no_update"] == "the world model imagines every 2 steps, and the policy decides on 5 at once"
    )
