"""The items that move nothing: what the driver says of itself, its motors, one look through its camera.

An item takes a trial, gives what it found and the numbers behind it, and raises `CheckFailed` when that is
not good enough.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

from robot_bridge.check.trial import CheckFailed, Trial
from robot_bridge.check.verdicts import Number
from robot_bridge.conventions import STEP_ROT_MAX, STEP_XYZ_MAX
from robot_bridge.drivers.driver import Looking, Sample, TaskDescription
from robot_bridge.drivers.lab_link import NotInitialised

Found: TypeAlias = tuple[str, dict[str, Number]]

REACH: Final = 0.65  # metres from the base to the fingertips of the longest arm here
SMALLEST_SIDE: Final = 0.02  # metres of a box
SMALLEST_PICTURE: Final = 8  # pixels
HZ_RANGE: Final = (1.0, 50.0)
CEILINGS: Final = {  # the largest number that makes sense, and its unit
    "step_xyz_max": (STEP_XYZ_MAX, "m"),
    "step_rot_max": (STEP_ROT_MAX, "rad"),
    "ee_speed_max": (1.0, "m/s"),
    "joint_speed_max": (float(np.pi) + 1e-6, "rad/s"),
    "effort_max_mA": (1300.0, "mA"),  # the servos are in danger above; a simulated one is not
    "tracking_max_m": (0.20, "m"),
}
REAL_CAMERA: Final = "camera"  # the renderer that drivers of real arms declare
HOTTEST_C: Final = 70.0  # the servos switch off at 80
DARK: Final = 8  # grey levels: a lens cap shows less
FLAT: Final = 2  # grey levels between the darkest and the brightest pixel of a dead picture


class NotHere(CheckFailed):
    """This robot has nothing to look at here: skipped, not failed."""

    code = "check_not_here"


def description(trial: Trial) -> Found:
    """Whether the driver says who it is, and says it of a robot that can exist."""
    said, faults = trial.description, []
    if not said.robot_model:
        faults.append("no robot model")
    if len(said.software_digest) != 64:
        faults.append("no sha256 as software digest")
    if not HZ_RANGE[0] <= said.control_hz <= HZ_RANGE[1]:
        faults.append(f"a control rate of {said.control_hz} Hz")
    if min(said.camera.width, said.camera.height) < SMALLEST_PICTURE:
        faults.append(f"pictures of {said.camera.width} x {said.camera.height}")
    if said != trial.driver.description:
        faults.append("another description when asked again")
    _require_none(faults, "the driver says of itself")
    return said.robot_model, {"control_hz": said.control_hz, "tasks": len(said.tasks)}


def limits(trial: Trial) -> Found:
    """Whether every limit is a limit."""
    said = trial.description
    real = said.camera.renderer == REAL_CAMERA
    numbers = {name: float(getattr(said, name)) for name in CEILINGS}
    faults = [
        f"{name} of {numbers[name]:.4g} {unit} (0 to {ceiling:.4g})"
        for name, (ceiling, unit) in CEILINGS.items()
        if not 0.0 < numbers[name] <= (ceiling if real or name != "effort_max_mA" else np.inf)
    ]
    _require_none(faults, "limits that do not protect")
    return "all within what the arm stands", dict(numbers)


def boxes(trial: Trial) -> Found:
    """Whether every task has an id of its own, a sentence, and a box within reach."""
    tasks = trial.description.tasks
    ids = [task.task_id for task in tasks]
    faults = [f"{task.task_id}: {fault}" for task in tasks for fault in _faults_of(task)]
    if len(set(ids)) != len(ids):
        faults.append(f"ids that come twice: {ids}")
    _require_none(faults, "tasks")
    return ", ".join(ids), {"tasks": len(ids)}


def motors(trial: Trial) -> Found:
    """Whether every motor has torque, no error, a bearable temperature and current."""
    readings = trial.driver.motors()
    if not readings:
        raise NotHere(found="this driver tells nothing of its motors")
    faults = [f"{motor.name} reports {motor.error}" for motor in readings if motor.error]
    faults += [f"{motor.name} has no torque" for motor in readings if not motor.torque]
    hot = {motor.name: motor.temperature_c for motor in readings if motor.temperature_c is not None}
    faults += [
        f"{name} is at {degrees:.0f} degrees C" for name, degrees in hot.items() if degrees > HOTTEST_C
    ]
    drawn = {motor.name: abs(motor.current_mA) for motor in readings if motor.current_mA is not None}
    limit = trial.description.effort_max_mA
    faults += [f"{name} draws {current:.0f} mA" for name, current in drawn.items() if current > limit]
    _require_none(faults, "motors")
    numbers: dict[str, Number] = {"motors": len(readings)}
    if drawn:
        numbers["largest_mA"] = max(drawn.values())
    if hot:
        numbers["hottest_c"] = max(hot.values())
    return "all have torque and no error", numbers


def first_look(trial: Trial) -> Found:
    """One picture and one pose before anything moves."""
    try:
        sample = trial.driver.look() if isinstance(trial.driver, Looking) else None
    except NotInitialised as asleep:
        raise NotHere(found=f"{asleep.parts['reason']}: its first reset does it") from asleep
    if sample is None:
        raise NotHere(found="this driver shows nothing before it moves")
    require_picture(sample)
    x, y, z = (float(number) for number in sample.proprio[:3])
    return "the camera shows something, the arm knows where it is", {"x": x, "y": y, "z": z}


def require_picture(sample: Sample) -> dict[str, Number]:
    """The brightness of a picture that shows something.

    Raises:
        CheckFailed: it is black, or one colour all over.
    """
    low, high = int(sample.image.min()), int(sample.image.max())
    if high <= DARK:
        raise CheckFailed(found=f"the picture is black (brightest number {high} of 255)")
    if high - low <= FLAT:
        raise CheckFailed(found=f"the picture has one colour all over ({low} to {high} of 255)")
    return {"mean_level": float(sample.image.mean()), "brightest": high}


def _faults_of(task: TaskDescription) -> list[str]:
    low, high = np.array(task.box_low), np.array(task.box_high)
    faults = []
    if not task.task_id or not task.instruction:
        faults.append("no id or no sentence")
    if not (high - low >= SMALLEST_SIDE).all():
        faults.append(f"a box without room, {task.box_low} to {task.box_high} m")
    if np.abs([low, high]).max() > REACH:
        faults.append(f"a box beyond the arm's {REACH} m")
    return faults


def _require_none(faults: list[str], thing: str) -> None:
    if faults:
        raise CheckFailed(found=f"{thing}: {'; '.join(faults)}")
