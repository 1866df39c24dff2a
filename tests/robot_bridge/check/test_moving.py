"""The items that move, each against an arm or a camera that is wrong in just that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot_bridge.check import moving
from robot_bridge.check.still import NotHere
from robot_bridge.check.trial import CheckFailed, Trial
from robot_bridge.conventions import Pose, state_of
from robot_bridge.drivers.driver import Sample
from tests.robot_bridge.builders import Clock
from tests.robot_bridge.check.drivers import Changed, euler_adding
from tests.robot_bridge.toy_driver import ToyDriver


def at_home(driver: ToyDriver, *, clock: Clock | None = None) -> Trial:
    trial = Trial(driver, task=driver.description.tasks[0], seed=0, clock=clock or Clock())
    trial.home()
    return trial


def shifted(sample: Sample, by: float) -> Sample:
    proprio = sample.proprio.copy()
    proprio[0] += by
    return replace(sample, proprio=proprio)


def turned(trial: Trial) -> None:
    for axis in (3, 4, 5):
        moving.motion(axis)(trial)


@pytest.mark.parametrize("axis", range(6))
def test_an_arm_that_follows_passes_with_its_numbers_and_comes_back(axis):
    trial = at_home(ToyDriver())
    home = trial.measured
    _, numbers = moving.motion(axis)(trial)
    assert numbers["measured"] == pytest.approx(numbers["commanded"], rel=0.01)
    np.testing.assert_allclose(trial.measured.position, home.position, atol=1e-6)
    np.testing.assert_allclose(trial.measured.rotation, home.rotation, atol=1e-6)


@pytest.mark.parametrize("axis", range(3))
def test_an_arm_that_does_not_move_is_told_with_its_numbers(axis):
    stuck = Changed(target=lambda held, _: held)
    with pytest.raises(CheckFailed, match=r"commanded 0\.0100 m, measured 0\.0000 m") as caught:
        moving.motion(axis)(at_home(stuck))
    assert caught.value.numbers["missed"] == pytest.approx(0.01, rel=0.01)


def test_an_arm_that_goes_the_other_way_is_told():
    def mirrored(held: Pose, target: Pose) -> Pose:
        return Pose(2 * held.position - target.position, target.rotation)

    with pytest.raises(CheckFailed, match=r"missed by 0\.0200 m"):
        moving.motion(0)(at_home(Changed(target=mirrored)))


@pytest.mark.parametrize("axis", range(3, 6))
def test_an_arm_that_turns_too_little_is_told(axis):
    with pytest.raises(CheckFailed, match=r"commanded 0\.087. rad, measured 0\.0000 rad"):
        moving.motion(axis)(at_home(Changed(target=lambda held, new: Pose(new.position, held.rotation))))


def test_a_box_without_room_around_home_is_told():
    class Cramped(ToyDriver):
        @property
        def description(self):
            said = super().description
            low = tuple(float(x) - 0.002 for x in self.target.position)
            high = tuple(float(x) + 0.002 for x in self.target.position)
            return replace(said, tasks=tuple(replace(t, box_low=low, box_high=high) for t in said.tasks))

    driver = Cramped()
    driver.reset("open_drawer", seed=0)
    with pytest.raises(CheckFailed, match="no room"):
        moving.motion(2)(at_home(driver))


def test_turns_about_world_axes_pass_the_rotation_test():
    trial = at_home(ToyDriver())
    turned(trial)
    _, numbers = moving.rotation_convention(trial)
    for name in ("roll", "pitch", "yaw"):
        assert numbers[f"{name}_along"] == pytest.approx(1.0, abs=0.02)
        assert numbers[f"{name}_aside"] < 0.05


def test_an_arm_that_adds_euler_angles_fails_the_rotation_test_by_name():
    """SimplerEnv#78: with the gripper straight down a roll comes out as a yaw, the other way round."""
    trial = at_home(Changed(target=euler_adding))
    for axis in (3, 4, 5):
        trial.turns[moving.AXES[axis]] = trial.there_and_back(axis, moving.MOVE_ROT)
    with pytest.raises(CheckFailed, match="a roll came out mostly as yaw"):
        moving.rotation_convention(trial)


def test_the_rotation_test_needs_all_three_turns():
    trial = at_home(ToyDriver())
    moving.motion(3)(trial)
    with pytest.raises(CheckFailed, match="not all three"):
        moving.rotation_convention(trial)


def test_home_that_is_not_reached_is_told():
    with pytest.raises(CheckFailed, match=r"20\.0 cm from where it was sent"):
        moving.home(
            Trial(
                far := Changed(sample=lambda sample: shifted(sample, 0.2)),
                task=far.description.tasks[0],
                seed=0,
                clock=Clock(),
            )
        )


def test_home_outside_the_box_is_told():
    driver = ToyDriver()
    task = replace(driver.description.tasks[0], box_low=(0.3, -0.2, 0.05))
    with pytest.raises(CheckFailed, match="outside the task's box"):
        moving.home(Trial(driver, task=task, seed=0, clock=Clock()))


def test_without_home_there_is_nothing_to_measure():
    driver = ToyDriver()
    trial = Trial(driver, task=driver.description.tasks[0], seed=0, clock=Clock())
    with pytest.raises(CheckFailed, match="no observation yet"):
        moving.hold(trial)


def test_a_slow_step_is_told_and_quick_ones_give_percentiles():
    clock = Clock()

    class Slow(ToyDriver):
        def step(self, target, gripper):
            clock.advance(0.25 if self.moves != 5 else self.late)
            return super().step(target, gripper)

    driver = Slow()
    driver.late = 0.25
    _, numbers = moving.latency(at_home(driver, clock=clock))
    assert numbers["step_p50_s"] == pytest.approx(0.25)
    slow = Slow()
    slow.late = 0.9
    with pytest.raises(CheckFailed, match=r"0\.90 s, at most 0\.60 s"):
        moving.latency(at_home(slow, clock=clock))


@pytest.mark.parametrize(("reads", "words"), [(0.9, "closed reads 0.90"), (0.1, "open 0.10")])
def test_a_gripper_that_does_not_move_is_told(reads, words):
    def stuck(sample: Sample) -> Sample:
        return replace(sample, proprio=np.append(sample.proprio[:6], np.float32(reads)))

    with pytest.raises(CheckFailed, match=words):
        moving.gripper(at_home(Changed(sample=stuck)))


def test_a_gripper_that_works_passes():
    assert moving.gripper(at_home(ToyDriver()))[1]["open"] == pytest.approx(1.0, abs=0.01)


def test_an_arm_that_drifts_while_it_is_held_is_told():
    class Sinking(ToyDriver):
        def hold(self):
            self._target = Pose(self._target.position - np.array([0, 0, 0.02]), self._target.rotation)

    with pytest.raises(CheckFailed, match=r"20\.0 mm while it was held"):
        moving.hold(at_home(Sinking()))
    assert moving.hold(at_home(ToyDriver()))[1]["drift_m"] == pytest.approx(0.0, abs=1e-6)


def test_the_emergency_stop_lets_two_steps_out_and_not_a_third():
    driver = ToyDriver()
    trial = at_home(driver)
    _, numbers = moving.emergency_stop(trial)
    assert numbers["steps_sent"] == 2
    assert driver.calls == ["hold"]


def test_an_arm_that_goes_on_after_the_stop_is_told():
    class Coasting(ToyDriver):
        stopped = False

        def hold(self):
            self.stopped = True

        def step(self, target, gripper):
            outcome = super().step(target, gripper)
            if not self.stopped:
                return outcome
            low = Pose(self.target.position - np.array([0, 0, 0.003 * self.moves]), target.rotation)
            return replace(outcome, sample=replace(outcome.sample, proprio=state_of(low, 0.035)))

    with pytest.raises(CheckFailed, match="mm after the stop"):
        moving.emergency_stop(at_home(Coasting()))


def walked(driver: ToyDriver) -> Trial:
    trial = at_home(driver)
    trial.there_and_back(0, 0.01)
    trial.there_and_back(1, 0.01)
    return trial


def test_a_good_camera_passes_its_four_items():
    trial = walked(ToyDriver())
    for item in (moving.camera_fresh, moving.camera_picture, moving.camera_live, moving.camera_rate):
        item(trial)
    assert moving.camera_rate(trial)[1]["hz"] == pytest.approx(5.0)


def test_pictures_that_are_not_new_or_not_young_are_told():
    with pytest.raises(CheckFailed, match="were not new: the camera is dead"):
        moving.camera_fresh(walked(Changed(sample=lambda sample: replace(sample, seq=3))))
    with pytest.raises(CheckFailed, match=r"0\.90 s old, at most 0\.40 s"):
        moving.camera_fresh(walked(Changed(sample=lambda sample: replace(sample, age_s=0.9))))
    with pytest.raises(CheckFailed, match="nan s old"):
        moving.camera_fresh(walked(Changed(sample=lambda sample: replace(sample, age_s=float("nan")))))


def test_a_picture_that_never_changes_is_told():
    first: list[np.ndarray] = []

    def frozen(sample: Sample) -> Sample:
        first.append(sample.image)
        return replace(sample, image=first[0])

    with pytest.raises(CheckFailed, match="never changed while the arm moved"):
        moving.camera_live(walked(Changed(sample=frozen)))


def test_a_camera_without_noise_is_not_judged_by_pictures_of_an_arm_that_stood_still():
    trial = at_home(ToyDriver())
    trial.rest()
    with pytest.raises(NotHere, match="did not move enough"):
        moving.camera_live(trial)


def test_equal_pictures_of_a_noisy_camera_mean_that_it_is_frozen():
    trial = walked(ToyDriver())
    camera = replace(trial.description.camera, noisy=True)
    trial.description = replace(trial.description, camera=camera)
    with pytest.raises(CheckFailed, match="in a row of a noisy camera"):
        moving.camera_live(trial)


def test_observations_at_another_rate_or_backwards_are_told():
    with pytest.raises(CheckFailed, match=r"at 2\.00 Hz"):
        moving.camera_rate(
            walked(Changed(sample=lambda sample: replace(sample, captured_at=sample.captured_at * 2.5)))
        )
    with pytest.raises(CheckFailed, match="backwards"):
        moving.camera_rate(
            walked(Changed(sample=lambda sample: replace(sample, captured_at=-sample.captured_at)))
        )


def test_currents_are_judged_by_their_size_not_their_sign():
    def drawing(current: float) -> Changed:
        effort = np.zeros(7, dtype=np.float32)
        effort[1] = current
        return Changed(sample=lambda sample: replace(sample, effort_mA=effort))

    assert moving.currents(walked(drawing(-400.0)))[1]["largest_mA"] == 400.0
    trial = at_home(drawing(-1200.0))
    with pytest.raises(CheckFailed, match="1200 mA, at most 1000 mA"):
        moving.currents(trial)
    with pytest.raises(NotHere):
        moving.currents(walked(ToyDriver()))


def test_a_robot_that_cannot_judge_is_skipped():
    class Unsure(ToyDriver):
        def success(self):
            return None

    with pytest.raises(NotHere, match="labels must come from a judge"):
        moving.verdict(at_home(Unsure()))
    assert moving.verdict(at_home(ToyDriver()))[1] == {"now": False}
