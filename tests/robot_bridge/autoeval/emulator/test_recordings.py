"""What a job leaves behind for the dataset: folders, metadata, one file an episode."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from robot_bridge.autoeval.emulator.arm import Seen
from robot_bridge.autoeval.emulator.recordings import Rollout, RunRecord, Verdict, histogram
from robot_bridge.autoeval.unpickle_child import answer_of
from tests.robot_bridge.autoeval.emulator.records import actions, metadata, plain, trajectory

NOW = datetime(2026, 1, 2, 3, 4, 5, 678)  # noqa: DTZ001 - naive, as there
VERDICT = Verdict(
    instruction="open the drawer",
    success=True,
    retries=2,
    motor_failure=True,
    human_needed=False,
    seconds=12.5,
)


def seen(number: int) -> Seen:
    return Seen(
        image=np.full((256, 256, 3), number, dtype=np.uint8),
        proprio=np.arange(8, dtype=np.float32) + number,
        effort_mA=np.array([100.0, 200.0 + number, -900.0, 0.0, 0.0, 0.0, 50.0], dtype=np.float32),
    )


ROLLOUT = Rollout(
    actions=tuple(np.arange(7) + 10.0 * step for step in range(3)),
    seen=tuple(seen(step + 1) for step in range(3)),
    truncated=False,
    pre_check_failed=False,
    post_check_failed=False,
)


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(tmp_path, "dyna:42", now=NOW, numpy_module="numpy.core")


def saved(record: RunRecord, rollout: Rollout = ROLLOUT, verdict: Verdict = VERDICT) -> dict:
    record.save(0, rollout, verdict=verdict, effort_limit_mA=700.0)
    return trajectory(record.folder / "traj_0.pkl")


def test_a_runs_metadata_say_what_the_real_ones_say(record):
    assert metadata(record.folder) == {
        "eval_id": record.eval_id,
        "location": "berkeley",
        "robot_name": "widowx_drawer",
        "robot_type": "widowx",
        "time": "2026-01-02T03:04:05.000678",
        "evaluator_name": "bridge_autoeval",
        "eval_name": "dyna:42",
    }


def test_a_runs_name_is_a_number_that_nobody_can_foretell(tmp_path):
    names = {RunRecord(tmp_path, "same", now=NOW, numpy_module="numpy.core").folder.name for _ in range(20)}
    assert len(names) == 20
    assert all(name.isdecimal() for name in names)


def test_an_episode_has_the_attributes_of_the_real_class(record):
    kept = saved(record)
    assert kept.pop("class") == "robot_eval_logger.typing.traj_data TrajData"
    assert set(kept) == {
        *("language_command", "obs", "success", "action", "proprio"),
        *("eval_rollout_steps", "eval_rollout_time", "max_joint_efforts", "exceeded_joint_efforts"),
        *("experienced_motor_failure", "pre_rollout_checks_failed", "post_rollout_checks_failed"),
        *("need_human_intervention", "num_eval_retries"),
    }
    assert kept["language_command"] == "open the drawer"
    assert kept["success"] is True
    assert (kept["num_eval_retries"], kept["experienced_motor_failure"]) == (2, 1)
    assert kept["eval_rollout_time"] == 12.5


def test_frames_and_proprio_are_those_after_each_step_and_actions_those_before(record):
    kept = saved(record)
    assert [int(image[0, 0, 0]) for image in kept["obs"]["image_primary"]] == [1, 2, 3]
    assert [float(proprio[0]) for proprio in kept["proprio"]] == [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(actions(kept), np.stack(ROLLOUT.actions))
    assert kept["eval_rollout_steps"] == 2  # the last index, not the number of steps


def test_efforts_come_as_an_object_of_wandb(record):
    efforts = saved(record)["max_joint_efforts"]
    assert efforts["class"] == "wandb.sdk.data_types.histogram Histogram"
    assert (len(efforts["histogram"]), len(efforts["bins"])) == (64, 65)
    assert sum(efforts["histogram"]) == 7
    assert (efforts["bins"][0], efforts["bins"][-1]) == (-900.0, 203.0)


@pytest.mark.parametrize(("pull", "exceeded"), [(699.0, 0), (701.0, 1)])
def test_whether_a_joint_pulled_too_hard_is_a_number(record, pull, exceeded):
    strong = replace(seen(9), effort_mA=np.full(7, pull, dtype=np.float32))
    rollout = replace(ROLLOUT, seen=(*ROLLOUT.seen[:2], strong))
    assert saved(record, rollout)["exceeded_joint_efforts"] == exceeded


@pytest.mark.parametrize(
    ("pre", "post", "scene", "needed"),
    [(False, False, False, 0), (True, False, False, 1), (False, True, False, 1), (False, False, True, 1)],
)
def test_a_human_was_needed_for_any_of_three_reasons(record, pre, post, scene, needed):
    rollout = replace(ROLLOUT, pre_check_failed=pre, post_check_failed=post)
    kept = saved(record, rollout, replace(VERDICT, human_needed=scene))
    assert kept["need_human_intervention"] == needed
    assert (kept["pre_rollout_checks_failed"], kept["post_rollout_checks_failed"]) == (int(pre), int(post))


def test_the_adapters_child_process_would_read_it(record):
    record.save(3, ROLLOUT, verdict=VERDICT, effort_limit_mA=700.0)
    head, arrays = answer_of((record.folder / "traj_3.pkl").read_bytes())
    assert (head["steps"], head["success"], head["instruction"]) == (3, True, "open the drawer")
    assert head["facts"]["num_eval_retries"] == 2
    np.testing.assert_array_equal(arrays[3], np.stack(ROLLOUT.actions).astype(np.float32))


def test_no_half_written_file_is_left(record):
    saved(record)
    assert sorted(path.name for path in record.folder.iterdir()) == ["metadata.json", "traj_0.pkl"]


def test_a_histogram_of_equal_numbers_is_one_too():
    made = plain({"counts": histogram([5.0] * 7).attributes["histogram"]})["counts"]
    assert sum(made) == 7
