"""What an episode allows: the box, the cone, the largest step, speeds and currents.

Numbers only, with one rule: whoever asks may narrow them, never widen. What cuts a motion down to them is in
`safety`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias

import numpy as np

from robot_bridge.conventions import STEP_ROT_MAX, STEP_XYZ_MAX
from robot_bridge.errors import LimitsViolation

Corner: TypeAlias = tuple[float, float, float]

EE_ACCEL_MAX: Final = 2.5  # metres per second squared; at 5 Hz the largest step may be the first one
JOINT_ACCEL_MAX: Final = 16.0  # radians per second squared; at 5 Hz full speed in one step

# Fields of `Limits` that are one number each: above 0, and a smaller one is the stricter one.
CEILINGS: Final = (
    "step_xyz_max",
    "step_rot_max",
    "ee_speed_max",
    "joint_speed_max",
    "ee_accel_max",
    "joint_accel_max",
    "effort_max_mA",
    "tilt_max",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one episode allows.

    Attributes:
        box_low, box_high: corners of the box for the target, metres in the base frame.
        step_xyz_max: metres along each axis in one step.
        step_rot_max: length of the rotation vector of one step, radians.
        ee_speed_max: metres per second that the target may travel.
        joint_speed_max: radians per second that the set point of any joint may travel.
        ee_accel_max: metres per second squared by which the target may speed up, from one step to the next.
        joint_accel_max: radians per second squared, likewise, of the set point of any joint.
        effort_max_mA: current of any arm joint, either sign, above which the arm backs off.
        tilt_max: radians that the gripper may lean away from straight down; pi allows everything.

    Raises:
        LimitsViolation: not finite, a box without inside, or a largest value that is not positive.
    """

    box_low: Corner
    box_high: Corner
    step_xyz_max: float = STEP_XYZ_MAX
    step_rot_max: float = STEP_ROT_MAX
    ee_speed_max: float = 1.0
    joint_speed_max: float = float(np.pi)
    ee_accel_max: float = EE_ACCEL_MAX
    joint_accel_max: float = JOINT_ACCEL_MAX
    effort_max_mA: float = 1000.0  # noqa: N815 - mA is the unit
    tilt_max: float = float(np.pi)

    def __post_init__(self) -> None:
        ceilings = tuple(getattr(self, name) for name in CEILINGS)
        numbers = (*self.box_low, *self.box_high, *ceilings)
        if len(numbers) != 6 + len(CEILINGS) or not np.isfinite(numbers).all():
            raise LimitsViolation(thing="limits", expected="finite numbers", found=str(numbers))
        if any(low >= high for low, high in zip(self.box_low, self.box_high, strict=True)):
            found = f"{self.box_low} to {self.box_high}"
            raise LimitsViolation(thing="box", expected="low below high on every axis", found=found)
        for name, ceiling in zip(CEILINGS, ceilings, strict=True):
            if ceiling <= 0:
                raise LimitsViolation(thing=name, expected="above 0", found=ceiling)

    def narrowed_to(self, wanted: Limits) -> Limits:
        """The wanted limits, when they lie inside these.

        Raises:
            LimitsViolation: something wanted is wider than allowed here.
        """
        for thing, allowed, asked in (
            *((name, getattr(self, name), getattr(wanted, name)) for name in CEILINGS),
            *zip(("box_high x", "box_high y", "box_high z"), self.box_high, wanted.box_high, strict=True),
        ):
            if asked > allowed:
                raise LimitsViolation(thing=thing, expected=f"at most {allowed}", found=asked)
        for axis, allowed, asked in zip("xyz", self.box_low, wanted.box_low, strict=True):
            if asked < allowed:
                raise LimitsViolation(thing=f"box_low {axis}", expected=f"at least {allowed}", found=asked)
        return wanted

    def digest(self) -> str:
        """sha256 hex of these numbers; episodes name it, so that one knows under which limits they ran."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
