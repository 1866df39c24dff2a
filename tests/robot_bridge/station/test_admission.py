"""Whether a request may be carried out: limits from the robot's own, order, freshness, modes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from pydantic import ValidationError

from robot_bridge.errors import EndpointRefused, LimitsViolation, UnknownTask
from robot_bridge.limits import CEILINGS, Limits
from robot_bridge.protocol import NarrowedLimits
from robot_bridge.station.admission import check_mode, limits_of
from robot_bridge.station.policy import StationPolicy
from tests.robot_bridge.builders import a_request
from tests.robot_bridge.toy_driver import BOX_HIGH, BOX_LOW, ToyDriver

ROBOT = replace(
    ToyDriver().description,
    ee_speed_max=0.3,
    joint_speed_max=1.5,
    effort_max_mA=700.0,
    step_rot_max=0.2,
    tilt_max=1.2,
)


def test_an_episode_runs_under_the_limits_that_the_robot_declares():
    limits = limits_of(ROBOT, a_request())
    assert (limits.box_low, limits.box_high) == (BOX_LOW, BOX_HIGH)
    assert (limits.step_xyz_max, limits.step_rot_max) == (0.05, 0.2)
    assert (limits.ee_speed_max, limits.joint_speed_max, limits.effort_max_mA) == (0.3, 1.5, 700.0)
    assert limits.tilt_max == 1.2


def test_a_request_narrows_what_it_names_and_leaves_the_rest_as_it_is():
    own = limits_of(ROBOT, a_request())
    wanted = NarrowedLimits(box_low=(0.15, -0.1, 0.1), step_rot_max=0.1)
    narrowed = limits_of(ROBOT, a_request(limits=wanted))
    assert narrowed == replace(own, box_low=(0.15, -0.1, 0.1), step_rot_max=0.1)
    assert narrowed.digest() != own.digest()


def test_every_limit_there_is_can_be_narrowed_on_the_wire_and_one_alone():
    assert set(NarrowedLimits.model_fields) == set(Limits.__dataclass_fields__)
    own = limits_of(ROBOT, a_request())
    for name in CEILINGS:
        half = getattr(own, name) / 2
        narrowed = limits_of(ROBOT, a_request(limits=NarrowedLimits(**{name: half})))
        assert narrowed == replace(own, **{name: half})


@pytest.mark.parametrize("name", CEILINGS)
def test_a_wider_limit_is_refused_by_its_name_with_what_is_allowed(name):
    allowed = getattr(ROBOT, name)
    same = NarrowedLimits(**{name: allowed})
    assert limits_of(ROBOT, a_request(limits=same)) == limits_of(ROBOT, a_request())
    wider = NarrowedLimits(**{name: 1.001 * allowed})
    with pytest.raises(LimitsViolation, match=f"{name} must be at most {allowed}, found"):
        limits_of(ROBOT, a_request(limits=wider))


@pytest.mark.parametrize("name", CEILINGS)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_limit_that_is_none_does_not_get_as_far(name, value):
    with pytest.raises(ValidationError):
        NarrowedLimits(**{name: value})


@pytest.mark.parametrize(
    "wanted",
    [
        {"box_low": (0.0, -0.2, 0.05)},
        {"box_high": (0.4, 0.2, 0.26)},
        {"step_xyz_max": 0.051},
        {"step_rot_max": 0.21},
        {"box_low": (0.3, 0.0, 0.1), "box_high": (0.2, 0.1, 0.2)},
    ],
)
def test_a_request_never_widens_them(wanted):
    with pytest.raises(LimitsViolation):
        limits_of(ROBOT, a_request(limits=NarrowedLimits(**wanted)))


def test_an_unknown_task_is_told_the_known_ones():
    with pytest.raises(UnknownTask, match="open_drawer, close_drawer"):
        limits_of(ROBOT, a_request(task_id="fold_cloth"))


def test_only_a_callback_episode_needs_a_policy_that_may_be_called():
    policy = StationPolicy()
    check_mode(policy, a_request())
    check_mode(policy, a_request(mode="callback", policy_endpoint="http://localhost:8000"))
    with pytest.raises(EndpointRefused):
        check_mode(policy, a_request(mode="callback"))
