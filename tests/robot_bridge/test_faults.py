"""What each injected fault looks like from above, and that the plan is one and the same every time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robot_bridge.conventions import compose_target
from robot_bridge.drivers.cell import nominal_cell
from robot_bridge.drivers.driver import StepOutcome
from robot_bridge.drivers.faults import (
    FAULT_KINDS,
    OVERLOADED_MOTOR,
    FaultKind,
    FaultPlan,
    FaultPlanInvalid,
    FaultyDriver,
    every_fault,
)
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.errors import CameraStale, DriverDisconnected, DriverError, MotorFault, NeedsHuman
from tests.robot_bridge.toy_driver import ToyDriver

ROOT = Path(__file__).parents[2]
TASK = "open_drawer"


class Deaths:
    """Counts the deaths it was asked for, and survives them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def toy() -> ToyDriver:
    return ToyDriver()


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def deaths() -> Deaths:
    return Deaths()


@pytest.fixture
def faulty(toy: ToyDriver, slept: list[float], deaths: Deaths) -> FaultyDriver:
    driver = FaultyDriver(toy, plan=FaultPlan(), sleep=slept.append, die=deaths)
    driver.reset(TASK, seed=0)
    return driver


def step(driver: FaultyDriver, dx: float = 0.01) -> StepOutcome:
    return driver.step(compose_target(driver.target, [dx, 0, 0, 0, 0, 0, 1]), 1.0)


def lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_without_a_plan_nothing_differs_from_the_driver_inside(faulty, toy):
    plain = ToyDriver()
    assert (plain.reset(TASK, seed=3).image == faulty.reset(TASK, seed=3).image).all()
    for _ in range(5):
        target = compose_target(plain.target, [0.01, 0, 0, 0, 0, 0, 1])
        expected, found = plain.step(target, 1.0), faulty.step(target, 1.0)
        np.testing.assert_array_equal(expected.sample.image, found.sample.image)
        assert expected.sample.seq + 1 == found.sample.seq  # one reset more
        assert expected.ik_ok is found.ik_ok is True
    assert faulty.description == toy.description
    assert faulty.success() is toy.success()
    assert faulty.motors() == toy.motors()
    assert faulty.injected.total() == 0
    assert faulty.motions == toy.moves == 5


def test_a_dead_camera_gives_no_new_picture_and_after_a_second_says_so(faulty):
    before = step(faulty).sample
    faulty.inject("dead_camera")
    seen = [step(faulty).sample for _ in range(5)]
    assert {sample.seq for sample in seen} == {before.seq}
    assert all((sample.image == before.image).all() for sample in seen)
    assert [sample.age_s for sample in seen] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    with pytest.raises(CameraStale, match="primary"):
        step(faulty)
    assert faulty.reset(TASK, seed=0).seq > before.seq  # somebody put the plug back in


def test_a_frozen_camera_shows_the_old_picture_with_fresh_numbers_and_times(faulty):
    before = step(faulty).sample
    faulty.inject("frozen_camera")
    seen = [step(faulty, 0.03).sample for _ in range(4)]
    assert all((sample.image == before.image).all() for sample in seen)
    assert [sample.seq for sample in seen] == list(range(before.seq + 1, before.seq + 5))
    assert seen[-1].captured_at > before.captured_at
    assert seen[-1].proprio[0] > before.proprio[0] + 0.05  # the arm does move


def test_a_camera_that_freezes_at_the_very_first_picture_keeps_that_one(toy):
    faulty = FaultyDriver(toy, plan=FaultPlan())
    faulty.inject("frozen_camera")
    first = faulty.reset(TASK, seed=0)
    assert all((step(faulty, 0.03).sample.image == first.image).all() for _ in range(4))


def test_a_black_camera_shows_nothing_at_all(faulty):
    faulty.inject("black_camera")
    first, second = step(faulty).sample, step(faulty).sample
    assert first.image.max() == second.image.max() == 0
    assert second.seq == first.seq + 1
    assert faulty.reset(TASK, seed=0).image.max() > 0


def test_an_overloaded_motor_shows_its_current_and_then_refuses_until_it_is_rebooted(faulty, toy):
    limit = faulty.description.effort_max_mA
    faulty.inject("motor_overload")
    outcome = step(faulty)
    assert np.abs(outcome.sample.effort_mA).max() > 2 * limit
    broken = [motor for motor in faulty.motors() if motor.error]
    assert [motor.name for motor in broken] == [OVERLOADED_MOTOR]
    assert broken[0].current_mA is not None
    assert broken[0].current_mA > limit
    moved = toy.moves
    for _ in range(2):
        with pytest.raises(MotorFault, match="shoulder reports overload"):
            step(faulty)
    with pytest.raises(MotorFault):
        faulty.reset(TASK, seed=0)
    assert toy.moves == moved
    faulty.reboot_motors()
    assert "reboot_motors" in toy.calls
    faulty.reset(TASK, seed=0)
    assert np.abs(step(faulty).sample.effort_mA).max() < limit
    assert all(motor.error == "" for motor in faulty.motors())


def test_a_plan_may_let_a_reset_reboot_the_motors(toy):
    faulty = FaultyDriver(toy, plan=FaultPlan(reset_reboots=True))
    faulty.reset(TASK, seed=0)
    faulty.inject("motor_overload")
    step(faulty)
    faulty.reset(TASK, seed=1)
    assert step(faulty).ik_ok


def test_a_lost_object_leaves_the_verdict_open_until_the_next_reset(faulty):
    assert faulty.success() is False
    faulty.inject("lost_object")
    step(faulty)
    assert faulty.success() is None
    faulty.reset(TASK, seed=0)
    assert faulty.success() is False


def test_a_reset_that_finds_the_object_lost_asks_for_a_hand_and_works_afterwards(faulty):
    faulty.inject("lost_object")
    with pytest.raises(NeedsHuman, match="open_drawer"):
        faulty.reset(TASK, seed=0)
    faulty.reset(TASK, seed=0)


def test_an_ik_failure_keeps_the_old_target_and_is_no_motion(faulty):
    step(faulty)
    before, motions = faulty.target, faulty.motions
    faulty.inject("ik_failure")
    outcome = step(faulty)
    assert outcome.ik_ok is False
    np.testing.assert_array_equal(outcome.target.position, before.position)
    np.testing.assert_array_equal(faulty.target.position, before.position)
    assert faulty.motions == motions
    assert step(faulty).ik_ok is True


def test_an_ik_failure_waits_for_a_step(faulty):
    faulty.inject("ik_failure")
    faulty.reset(TASK, seed=0)
    assert faulty.injected["ik_failure"] == 0
    assert step(faulty).ik_ok is False


def test_a_latency_spike_takes_its_time_and_harms_nothing(faulty, slept):
    faulty.inject("latency_spike")
    assert step(faulty).ik_ok is True
    assert slept == [1.5]


def test_a_disconnect_comes_after_the_arm_moved(faulty, toy):
    faulty.inject("disconnect")
    moves, x = toy.moves, toy.target.position[0]
    with pytest.raises(DriverDisconnected, match="during step"):
        step(faulty)
    assert (toy.moves, faulty.motions) == (moves + 1, moves + 1)
    assert toy.target.position[0] > x


def test_a_crash_asks_for_death_after_the_arm_moved(faulty, toy, deaths):
    faulty.inject("crash")
    moves = toy.moves
    with pytest.raises(DriverDisconnected):
        step(faulty)
    assert deaths.count == 1
    assert toy.moves == moves + 1


def test_by_default_a_crash_is_a_kill_and_the_motion_log_survives_it(tmp_path):
    log = tmp_path / "motions.jsonl"
    script = f"""
from pathlib import Path
from robot_bridge.conventions import compose_target
from robot_bridge.drivers.faults import FaultPlan, FaultyDriver
from tests.robot_bridge.toy_driver import ToyDriver
driver = FaultyDriver(ToyDriver(), plan=FaultPlan(), log=Path({str(log)!r}))
driver.reset("open_drawer", seed=0)
for number in range(5):
    if number == 2:
        driver.inject("crash")
    driver.step(compose_target(driver.target, [0.01, 0, 0, 0, 0, 0, 1]), 1.0)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [line["n"] for line in lines(log)] == [1, 2, 3]


def test_the_log_says_where_every_motion_went(toy, tmp_path):
    log = tmp_path / "motions.jsonl"
    faulty = FaultyDriver(toy, plan=FaultPlan(), log=log)
    faulty.reset(TASK, seed=0)
    first = step(faulty).target.position.tolist()
    faulty.reset(TASK, seed=1)
    second = step(faulty).target.position.tolist()
    assert lines(log) == [
        {"n": 1, "reset": 1, "position": first, "gripper": 1.0},
        {"n": 2, "reset": 2, "position": second, "gripper": 1.0},
    ]


def episodes(plan: FaultPlan, *, count: int, switch_at: int | None = None) -> FaultyDriver:
    """Many short episodes as a soak runs them; whatever a driver may raise ends the episode."""
    faulty = FaultyDriver(ToyDriver(), plan=plan, sleep=lambda _: None, die=lambda: None)
    for number in range(count):
        if number == switch_at:
            faulty.faults = "off"
        try:
            faulty.reset(TASK, seed=number)
            for _ in range(6):
                step(faulty, 0.005)
        except DriverError:
            continue
    return faulty


def test_the_same_seed_brings_the_same_faults_and_another_seed_others():
    one, same, other = (
        episodes(every_fault(seed=seed, per_step=0.1, per_reset=0.1), count=40) for seed in (1, 1, 2)
    )
    assert one.injected == same.injected
    assert one.motions == same.motions
    assert one.injected != other.injected


def test_two_hundred_episodes_of_every_fault_meet_every_kind_and_count_every_motion():
    faulty = episodes(every_fault(seed=7, per_step=0.1, per_reset=0.2), count=200)
    assert set(faulty.injected) == set(FAULT_KINDS)
    assert isinstance(faulty.inner, ToyDriver)
    assert faulty.motions == faulty.inner.moves - faulty.injected["ik_failure"]


def test_faults_can_be_left_out_and_switched_off_while_running():
    calm = episodes(every_fault(seed=7, per_step=0.3, per_reset=0.3, without=frozenset({"crash"})), count=50)
    assert calm.injected["crash"] == 0
    assert calm.injected.total() > 20
    stopped = episodes(every_fault(seed=7, per_step=0.3, per_reset=0.3), count=50, switch_at=0)
    assert stopped.injected.total() == 0


def test_a_command_works_also_while_faults_are_off(faulty):
    faulty.faults = "off"
    faulty.inject("black_camera")
    assert step(faulty).sample.image.max() == 0


def test_operator_calls_reach_the_driver_inside(faulty, toy):
    faulty.hold()
    faulty.park()
    faulty.sleep()
    assert all(not motor.torque for motor in faulty.motors())
    faulty.wake()
    faulty.close()
    assert toy.calls == ["hold", "park", "sleep", "wake"]
    assert toy.closed == 1
    assert faulty.arm is toy.arm


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_every_kind_works_on_the_simulated_cell(cell, kind: FaultKind):
    faulty = FaultyDriver(cell, plan=FaultPlan(), sleep=lambda _: None, die=lambda: None)
    faulty.reset(TASK, seed=1)
    faulty.inject(kind)
    try:
        step(faulty)
    except DriverDisconnected:
        assert kind in ("crash", "disconnect")
    assert faulty.injected == {kind: 1}
    faulty.reboot_motors()
    assert faulty.reset(TASK, seed=1).image.max() > 0


@pytest.fixture(scope="module")
def cell():
    driver = MujocoWidowX(cell=nominal_cell(), renderer="raycast", image_size=8)
    yield driver
    driver.close()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"per_step": {"earthquake": 0.1}}, "earthquake"),
        ({"per_step": {"crash": 1.5}}, "probabilities"),
        ({"per_step": {"crash": -0.1}}, "probabilities"),
        ({"per_reset": {"crash": 0.6, "disconnect": 0.6}}, "sum to 1"),
        ({"per_reset": {"ik_failure": 0.1}}, "ik_failure"),
        ({"spike_s": -1.0}, "spike_s"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(wrong, words):
    with pytest.raises(FaultPlanInvalid, match=words):
        FaultPlan(**wrong)


def test_a_command_for_an_unknown_fault_is_refused(faulty):
    with pytest.raises(FaultPlanInvalid, match="gremlin"):
        faulty.inject("gremlin")
