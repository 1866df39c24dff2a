"""Watches: pictures that are old, frozen or dead, an arm that does not follow, motors that are not well."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot_bridge.conventions import DEFAULT_ROTATION, Pose, state_of
from robot_bridge.drivers.driver import CameraDescription, MotorReading, Sample
from robot_bridge.errors import CameraStale, MotorFault
from robot_bridge.watches import (
    FAR_STEPS,
    FROZEN_AFTER,
    CameraFrozen,
    CameraWatch,
    TrackingWatch,
    require_well,
)
from tests.robot_bridge.cartesian_arm import a_sample

PERIOD_S = 0.2
TARGET = Pose(np.array([0.25, 0.0, 0.15]), DEFAULT_ROTATION)


def watch(*, noisy: bool = False) -> CameraWatch:
    camera = CameraDescription(name="primary", width=8, height=8, fps=5.0, renderer="test", noisy=noisy)
    return CameraWatch(camera, period_s=PERIOD_S)


def picture(number: int) -> np.ndarray:
    """Another picture for every number."""
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def seen(seq: int, *, shows: int | None = None, waist: float = 0.0, **changes: object) -> Sample:
    image = picture(seq if shows is None else shows)
    return a_sample(np.array([waist]), seq=seq, **{"image": image, **changes})


def measured_at(x: float) -> Sample:
    return a_sample(proprio=state_of(Pose(np.array([x, 0.0, 0.15]), DEFAULT_ROTATION), 0.03))


def test_a_camera_that_gives_a_new_picture_every_time_is_well():
    made = watch(noisy=True)
    for seq in range(1, 20):
        made.check(seen(seq, age_s=0.05))
    assert made.status().model_dump() == {"name": "primary", "seq": 19, "age_ms": 50.0, "dup_frames": 0}


@pytest.mark.parametrize("age_s", [0.0, 0.2, 2 * PERIOD_S])
def test_a_picture_may_be_two_periods_old(age_s):
    watch().check(seen(1, age_s=age_s))


@pytest.mark.parametrize("age_s", [0.41, 10.0, 1e9])
def test_an_older_picture_is_refused_with_its_age(age_s):
    made = watch()
    with pytest.raises(CameraStale, match="primary") as stale:
        made.check(seen(1, age_s=age_s))
    assert stale.value.parts == {"camera": "primary", "age_s": age_s, "limit_s": 0.4}
    assert not isinstance(stale.value, CameraFrozen)
    assert made.status().age_ms == pytest.approx(1000 * age_s)


@pytest.mark.parametrize("age_s", [math.nan, math.inf])
def test_an_age_that_is_no_number_is_a_fault_that_can_be_told(age_s):
    made = watch()
    with pytest.raises(CameraFrozen, match="how old"):
        made.check(seen(1, age_s=age_s))
    assert math.isfinite(made.status().age_ms)


@pytest.mark.parametrize("after", [5, 4, -1])
def test_a_picture_whose_number_does_not_rise_is_an_old_one(after):
    made = watch()
    made.check(seen(5))
    with pytest.raises(CameraFrozen, match="did not rise from 5"):
        made.check(seen(after, shows=77))


def test_numbers_still_have_to_rise_after_a_reset():
    made = watch()
    made.check(seen(5))
    made.clear()
    with pytest.raises(CameraFrozen):
        made.check(seen(5))


def test_a_noisy_camera_is_frozen_at_the_third_equal_picture():
    made = watch(noisy=True)
    for seq in range(1, FROZEN_AFTER):
        made.check(seen(seq, shows=7))
    with pytest.raises(CameraFrozen, match="3 times in a row") as frozen:
        made.check(seen(FROZEN_AFTER, shows=7))
    assert frozen.value.parts["seq"] == FROZEN_AFTER
    assert made.status().dup_frames == FROZEN_AFTER - 1


def test_a_camera_without_noise_may_show_a_scene_that_stands_still():
    made = watch()
    for seq in range(1, 30):
        made.check(seen(seq, shows=7, waist=0.001 * seq))
    assert made.status().dup_frames == 28


def test_a_camera_without_noise_is_frozen_when_the_arm_moved_and_the_picture_did_not():
    made = watch()
    made.check(seen(1, shows=7))
    made.check(seen(2, shows=7, waist=0.03))
    with pytest.raises(CameraFrozen, match="3 times"):
        made.check(seen(3, shows=7, waist=0.06))


def test_the_arm_is_compared_with_where_it_was_at_the_first_of_the_equal_pictures():
    made = watch()
    made.check(seen(1, shows=7))
    made.check(seen(2, shows=8, waist=0.5))
    for seq in (3, 4, 5):
        made.check(seen(seq, shows=9, waist=0.5))


def test_a_slow_motion_adds_up():
    made = watch()
    with pytest.raises(CameraFrozen):
        for seq in range(1, 20):
            made.check(seen(seq, shows=7, waist=0.005 * seq))


def test_fingers_that_move_out_of_the_picture_do_not_count_as_motion():
    made = watch()
    for seq in range(1, 6):
        joints = np.array([0, 0, 0, 0, 0, 0, 0.01 * seq, 0.01 * seq])
        made.check(a_sample(joints, seq=seq, image=picture(7)))


@pytest.mark.parametrize("between", [8, None])
def test_another_picture_or_a_reset_starts_the_count_anew(between):
    made = watch(noisy=True)
    made.check(seen(1, shows=7))
    made.check(seen(2, shows=7))
    if between is None:
        made.clear()
    else:
        made.check(seen(3, shows=between))
    made.check(seen(4, shows=7))
    made.check(seen(5, shows=7))
    assert made.status().dup_frames == 2


@pytest.mark.parametrize("level", [0, 120, 254])
def test_a_picture_of_one_colour_comes_from_a_dead_camera(level):
    image = np.full((8, 8, 3), level, dtype=np.uint8)
    image[0, 0] = level + 1  # a sensor in the dark is not quite even
    with pytest.raises(CameraFrozen, match="one colour"):
        watch().check(seen(1, image=image))


def test_a_picture_with_one_bright_spot_is_a_picture():
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[3, 3] = 3
    watch().check(seen(1, image=image))


def test_a_camera_that_froze_is_told_apart_by_its_code_and_still_is_a_stale_camera():
    assert (CameraFrozen.code, CameraStale.code) == ("camera_frozen", "camera_stale")
    assert issubclass(CameraFrozen, CameraStale)
    assert CameraFrozen.retryable


def test_before_the_first_picture_there_is_a_status_all_the_same():
    assert watch().status().seq == 0


def test_an_arm_that_stays_away_from_its_target_is_a_fault_after_several_steps():
    made = TrackingWatch(0.05)
    for _ in range(FAR_STEPS - 1):
        made.check(measured_at(0.31), TARGET)
    with pytest.raises(MotorFault, match=r"0\.060 m from its target after 3 steps"):
        made.check(measured_at(0.31), TARGET)


@pytest.mark.parametrize("between", ["near", "clear"])
def test_an_arm_that_catches_up_in_between_is_not_at_fault(between):
    made = TrackingWatch(0.05)
    for _ in range(4):
        for _ in range(FAR_STEPS - 1):
            made.check(measured_at(0.31), TARGET)
        if between == "near":
            made.check(measured_at(0.26), TARGET)
        else:
            made.clear()


def test_an_arm_within_the_limit_may_stay_there():
    made = TrackingWatch(0.05)
    for _ in range(10):
        made.check(measured_at(0.29), TARGET)


def test_a_position_that_is_no_number_is_a_fault_at_once():
    lost = a_sample(proprio=np.array([np.nan, 0, 0, 0, 0, 0, 0], dtype=np.float32))
    with pytest.raises(MotorFault, match="not finite"):
        TrackingWatch(0.05).check(lost, TARGET)


def test_motors_that_are_well_pass_and_so_does_a_robot_that_tells_nothing():
    require_well([MotorReading(name="waist", torque=True, current_mA=900.0)])
    require_well(())


def test_every_sick_motor_is_named_with_what_it_has():
    motors = [
        MotorReading(name="waist", torque=True),
        MotorReading(name="elbow", torque=False),
        MotorReading(name="gripper", torque=True, error="overload"),
    ]
    with pytest.raises(MotorFault) as fault:
        require_well(motors)
    assert fault.value.parts == {
        "motor": "elbow, gripper",
        "fault": "elbow: torque off; gripper: overload",
    }
