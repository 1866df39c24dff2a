"""What one episode keeps: facts in its manifest, pictures of one size, answers to be given again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import StepOutcome
from robot_bridge.errors import DriverError
from robot_bridge.safety import CLIPPED_XYZ
from tests.robot_bridge.builders import forward
from tests.robot_bridge.station.conftest import Bench, Scripted


class Another(Scripted):
    """The toy robot, whose third picture is another one."""

    def __init__(self, image: np.ndarray) -> None:
        super().__init__()
        self._image = image

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        outcome = super().step(target, gripper)
        if self.moves != 2:
            return outcome
        return replace(outcome, sample=replace(outcome.sample, image=self._image))


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


@pytest.mark.parametrize(
    "image",
    [noise(16, 16, 3), noise(32, 33, 3), noise(32, 32), noise(32, 32, 3, dtype=np.float32)],
    ids=["smaller", "wider", "grey", "floats"],
)
def test_a_picture_that_is_none_ends_the_episode_and_keeps_what_came_before(tmp_path, image):
    bench = Bench(tmp_path / "spool", driver=Another(image))
    bench.start()
    bench.lease()
    bench.create()
    with pytest.raises(DriverError, match="camera"):
        bench.step(0, forward(4))
    episode = bench.kept()
    assert (episode.manifest.outcome, episode.manifest.T, bench.driver.moves) == ("aborted_hw", 1, 2)
    assert episode.frames.decode_all().shape == (2, 32, 32, 3)
    bench.die()


def test_the_manifest_says_under_which_limits_on_which_driver_and_for_which_lease(bench):
    bench.lease()
    bench.create(metadata={"limits": "mine", "fence": "99", "iteration": "7"})
    bench.step(0)
    facts = bench.session.finish("e1", "completed", bench.fence).metadata
    assert json.loads(facts["limits"])["step_xyz_max"] == 0.05
    assert facts["driver"] == "toy@" + "0" * 16
    assert (facts["fence"], facts["holds"], facts["seed"]) == (str(bench.fence), "0", "3")
    assert (facts["renderer"], facts["robot_model"], facts["iteration"]) == ("numpy", "toy", "7")
    assert "unknown_step" not in facts


def test_raw_executed_and_achieved_actions_are_kept_apart(bench):
    bench.lease()
    bench.create()
    bench.step(0, forward(1, 0.5))
    bench.session.finish("e1", "completed", bench.fence)
    steps = bench.kept().steps
    assert steps.raw_action[0, 0] == np.float32(0.5)
    assert steps.executed_action[0, 0] == pytest.approx(0.05)
    assert steps.achieved_action[0, 0] == pytest.approx(0.05, abs=1e-6)
    assert steps.flags[0] == CLIPPED_XYZ


def test_an_answer_is_given_again_to_the_same_actions_only(bench):
    bench.lease()
    bench.create()
    recording = bench.session.recording
    answer = bench.step(0, forward(2))
    assert bench.step(0, forward(2)) is answer
    assert recording.progress == "running"
    assert recording.observation() == answer.steps[-1].observation
    assert recording.newest.seq == 3
