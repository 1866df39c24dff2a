"""The whole list on robots that are well, on robots with one fault each, and on both real drivers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from robot_bridge.check.bring_up import MOVING, SEEN, STILL, CheckPlan, run_check
from robot_bridge.drivers.cell import nominal_cell
from robot_bridge.drivers.driver import RobotDriver
from robot_bridge.drivers.faults import FaultKind, FaultPlan, FaultyDriver
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.errors import NeedsHuman, UnknownTask
from tests.robot_bridge.builders import Clock
from tests.robot_bridge.check.drivers import Described, checked, found, names
from tests.robot_bridge.drivers_real.labs import LABS, Lab
from tests.robot_bridge.toy_driver import ToyDriver

EVERYTHING = [name for name, _ in (*STILL, *MOVING, *SEEN)] + ["park"]


def test_a_robot_that_is_well_passes_and_is_parked_at_the_end():
    toy = ToyDriver()
    lines: list[str] = []
    report = checked(toy, lines=lines)
    assert report.failed == ()
    assert report.exit_status == 0
    assert [item.name for item in report.items] == EVERYTHING
    assert names(report, "skipped") == ["first look", "currents"]  # a toy has neither
    assert toy.calls[-1] == "park"
    assert len(lines) == len(EVERYTHING)
    assert toy.closed == 0


def test_nothing_moves_before_somebody_agrees():
    toy = ToyDriver()
    report = checked(toy, answer=False)
    assert (toy.moves, toy.calls) == (0, [])
    assert report.exit_status == 2
    assert report.failed == ()
    assert found(report, "home") == "nobody agreed to motion"


def test_a_dry_run_asks_nothing_and_moves_nothing():
    toy = ToyDriver()
    report = run_check(
        toy,
        clock=Clock(),
        ask=lambda question: pytest.fail(f"asked {question}"),
        report=lambda _: None,
        plan=CheckPlan(dry_run=True),
    )
    assert (toy.moves, toy.calls) == (0, [])
    assert report.exit_status == 0
    assert names(report, "passed") == ["description", "limits", "task boxes", "motors"]
    assert found(report, "park") == "a dry run moves nothing"


def test_every_motion_stays_within_a_centimetre_of_home_and_inside_the_box():
    toy = ToyDriver()
    places: list[np.ndarray] = []
    step = toy.step

    def noted(target, gripper):
        places.append(target.position)
        return step(target, gripper)

    toy.step = noted  # type: ignore[method-assign]
    checked(toy)
    home = places[0]
    assert np.abs(np.array(places) - home).max() <= 0.010 + 1e-6
    task = toy.description.tasks[0]
    assert (np.array(places) >= task.box_low).all()
    assert (np.array(places) <= task.box_high).all()
    ways = np.abs(np.diff(places, axis=0)).max()
    assert ways <= 0.0025 + 1e-6  # slowly


def test_a_robot_whose_own_words_are_wrong_is_not_moved():
    driver = Described(effort_max_mA=-1.0)
    report = checked(driver)
    assert names(report, "failed") == ["limits"]
    assert driver.moves == 0
    assert found(report, "home") == "what the robot says of itself must be in order first"
    assert report.exit_status == 1


@pytest.mark.parametrize(
    ("kind", "failing"),
    [
        ("dead_camera", "home"),
        ("frozen_camera", "camera live"),
        ("black_camera", "camera picture"),
        ("motor_overload", "home"),
        ("lost_object", None),  # somebody puts it back
        ("latency_spike", None),  # a slow reset is no slow step
        ("disconnect", "home"),
        ("crash", "home"),
    ],
)
def test_a_fault_at_the_reset_makes_its_item_fail(kind: FaultKind, failing: str | None):
    faulty = FaultyDriver(ToyDriver(), plan=FaultPlan(), sleep=lambda _: None, die=lambda: None)
    faulty.inject(kind)
    report = checked(faulty)
    assert names(report, "failed")[:1] == ([failing] if failing else [])


class Later(FaultyDriver):
    """Injects one kind at a certain step of the check."""

    def __init__(self, kind: FaultKind, *, at: int, clock: Clock) -> None:
        super().__init__(ToyDriver(), plan=FaultPlan(), sleep=clock.advance, die=lambda: None)
        self._kind, self._at, self._count = kind, at, itertools.count()

    def step(self, target, gripper):
        if next(self._count) == self._at:
            self.inject(self._kind)
        return super().step(target, gripper)


IN_PLACE, IN_X = 4, 9  # steps of the latency item, of the first motion


@pytest.mark.parametrize(
    ("kind", "at", "failing"),
    [
        ("dead_camera", IN_PLACE, ["move x", "camera fresh"]),
        ("frozen_camera", IN_PLACE, ["camera live"]),
        ("black_camera", IN_PLACE, ["camera picture"]),
        ("motor_overload", IN_PLACE, ["step latency", "currents", "motors after motion"]),
        ("ik_failure", IN_X, ["move x"]),
        ("latency_spike", IN_PLACE, ["step latency"]),
        ("disconnect", IN_X, ["move x"]),
        ("crash", IN_X, ["move x"]),
    ],
)
def test_a_fault_on_the_way_makes_the_right_items_fail(kind: FaultKind, at: int, failing: list[str]):
    clock = Clock()
    report = checked(Later(kind, at=at, clock=clock), clock=clock)
    assert names(report, "failed") == failing


def test_after_a_fault_of_the_robot_nothing_moves_any_more_but_the_arm_is_held():
    clock = Clock()
    driver = Later("disconnect", at=IN_X, clock=clock)
    report = checked(driver, clock=clock)
    assert driver.motions == IN_X + 1
    assert isinstance(driver.inner, ToyDriver)
    assert driver.inner.calls == ["hold"]
    assert found(report, "park") == "move x failed: nothing moves any more"
    assert "camera fresh" in names(report, "passed")  # what was seen before is still judged
    assert "[driver_disconnected]" in found(report, "move x")


def test_a_lost_object_that_nobody_puts_back_ends_the_motion():
    faulty = FaultyDriver(ToyDriver(), plan=FaultPlan())
    faulty.inject("lost_object")
    answers = iter([True, False])
    report = run_check(faulty, clock=Clock(), ask=lambda _: next(answers), report=lambda _: None)
    assert names(report, "failed") == ["home"]
    assert "[needs_human]" in found(report, "home")
    assert faulty.motions == 0


def test_a_robot_that_asks_for_a_hand_again_and_again_is_not_asked_for_ever():
    class Hopeless(ToyDriver):
        def reset(self, task_id, *, seed):
            raise NeedsHuman(reason="the table is gone")

    report = checked(Hopeless())
    assert names(report, "failed") == ["home"]


def test_the_task_that_is_wanted_is_the_one_that_is_reset():
    toy = ToyDriver()
    report = checked(toy, plan=CheckPlan(task_id="close_drawer"))
    assert found(report, "home") == "home of close_drawer"
    with pytest.raises(UnknownTask, match="open_drawer"):
        checked(toy, plan=CheckPlan(task_id="juggle"))
    with pytest.raises(UnknownTask, match="none"):
        checked(Described(tasks=()))


@pytest.fixture(params=sorted(LABS))
def lab(request, monkeypatch):
    made = LABS[request.param](monkeypatch)
    yield made
    made.mend()


def lab_report(lab: Lab, **wanted):
    return checked(lab.driver, clock=lab.time, plan=CheckPlan(**wanted))


def test_a_real_arm_passes_through_either_package(lab):
    report = lab_report(lab)
    assert report.failed == ()
    skipped = ["verdict"] if lab.name == "manipulator_gym" else ["currents", "verdict"]
    assert names(report, "skipped") == skipped
    assert report.renderer == "camera"


def test_a_dry_run_on_a_real_arm_looks_and_moves_nothing(lab):
    report = lab_report(lab, dry_run=True)
    assert lab.arm.commands == []
    assert "first look" in names(report, "passed")


def test_a_service_that_nobody_initialised_is_no_failure_before_the_first_reset(monkeypatch):
    lab = LABS["widowx_envs"](monkeypatch, initialised=False)  # type: ignore[call-arg]
    report = lab_report(lab)
    assert "not initialised" in found(report, "first look")
    assert report.failed == ()


def test_a_dead_camera_of_a_real_arm_is_found(lab):
    lab.camera.dead = True
    assert {"camera fresh", "camera live"} <= set(names(lab_report(lab), "failed"))


def test_a_black_camera_of_a_real_arm_is_found(lab):
    lab.camera.black = True
    lab.time.sleep(0.1)  # one client keeps a picture for 50 ms
    assert {"first look", "camera picture"} <= set(names(lab_report(lab), "failed"))


def test_an_arm_whose_package_swallows_every_target_is_found(lab):
    class FailsLater:
        """Turns the other side's inverse kinematics off once the arm is home."""

        def __init__(self, driver: RobotDriver) -> None:
            self.driver = driver

        def __getattr__(self, name):
            return getattr(self.driver, name)

        def reset(self, task_id, *, seed):
            sample = self.driver.reset(task_id, seed=seed)
            lab.server.ik_fails = True
            return sample

    failed = names(checked(FailsLater(lab.driver), clock=lab.time), "failed")
    assert {"move x", "move y", "move z", "move roll", "move yaw", "rotation convention"} <= set(failed)


def test_motors_with_errors_keep_a_real_arm_where_it_is(monkeypatch):
    lab = LABS["manipulator_gym"](monkeypatch)
    lab.arm.errors[1] = 0x20
    report = lab_report(lab)
    assert names(report, "failed") == ["motors"]
    assert "shoulder reports overload" in found(report, "motors")
    assert lab.arm.commands == []


def test_the_simulated_cell_passes():
    driver = MujocoWidowX(cell=nominal_cell(), renderer="raycast", image_size=64)
    report = checked(driver)
    driver.close()
    assert report.failed == ()
    assert names(report, "skipped") == []
