"""The items that move the arm, at most 1 cm and 5 degrees from home, slowly, inside the task's box.

Measured is compared with commanded every time. The order matters: camera and currents are judged over all
that the motions before them showed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from robot_bridge.check.still import Found, NotHere, require_picture
from robot_bridge.check.trial import MOVE_ROT, MOVE_XYZ, CheckFailed, Trial
from robot_bridge.check.verdicts import Number
from robot_bridge.conventions import rotation_angle
from robot_bridge.errors import EStopped
from robot_bridge.station.estop import EStopLatch

STILL_STEPS: Final = 8  # in place, for the camera's rate and the latency
MISSED_XYZ: Final = 0.005  # metres between commanded and measured way; the arm repeats to 1 mm
MISSED_ROT: Final = float(np.deg2rad(2.0))  # radians, likewise
AGE_PERIODS: Final = 2.0  # control periods that a picture may be old
LATE_PERIODS: Final = 3.0  # control periods a step may take: then the dead-man would hold the arm
RATE_SHARE: Final = (0.5, 1.5)  # of the declared control rate
OPEN_ABOVE, CLOSED_BELOW = 0.7, 0.5  # gripper states
SEEN_XYZ: Final = 0.005  # metres of motion that a picture must show
FROZEN_EQUAL: Final = 3  # equal pictures in a row of a noisy camera
AXES: Final = ("x", "y", "z", "roll", "pitch", "yaw")


def home(trial: Trial) -> Found:
    """The reset, and whether the arm is then where it says."""
    trial.home()
    apart = float(np.linalg.norm(trial.measured.position - trial.driver.target.position))
    if apart > trial.description.tracking_max_m:
        raise CheckFailed(found=f"the arm is {apart * 100:.1f} cm from where it was sent")
    inside = [
        low <= place <= high
        for low, place, high in zip(
            trial.task.box_low, trial.driver.target.position, trial.task.box_high, strict=True
        )
    ]
    if not all(inside):
        raise CheckFailed(found="home lies outside the task's box")
    return f"home of {trial.task.task_id}", {"apart_m": apart}


def latency(trial: Trial) -> Found:
    """How long steps take that ask for nothing: percentiles of the call."""
    trial.rest(STILL_STEPS)
    longest = LATE_PERIODS / trial.description.control_hz
    numbers = _percentiles(trial.call_s, "step")
    if max(trial.call_s) > longest:
        raise CheckFailed(
            found=f"a step took {max(trial.call_s):.2f} s, at most {longest:.2f} s is allowed",
            numbers=numbers,
        )
    return "steps come back in time", numbers


def motion(axis: int) -> Callable[[Trial], Found]:
    """The item that moves along (0 to 2) or about (3 to 5) one world axis, and back."""
    linear = axis < 3
    size, tolerance = (MOVE_XYZ, MISSED_XYZ) if linear else (MOVE_ROT, MISSED_ROT)

    def item(trial: Trial) -> Found:
        moved = trial.there_and_back(axis, size)
        if not linear:
            trial.turns[AXES[axis]] = moved
        part = slice(0, 3) if linear else slice(3, 6)
        commanded, measured = moved.commanded[part], moved.measured[part]
        asked, came = float(np.linalg.norm(commanded)), float(np.linalg.norm(measured))
        numbers: dict[str, Number] = {"commanded": asked, "measured": came}
        if asked < 0.5 * size:
            raise CheckFailed(
                found=f"the limits left {asked:.4f} of {size:.4f}: there is no room to move", numbers=numbers
            )
        # Turns about the wrong axis are the next item's: here only how much it turned.
        missed = float(np.linalg.norm(measured - commanded)) if linear else abs(came - asked)
        numbers["missed"] = missed
        if missed > tolerance:
            unit = "m" if linear else "rad"
            found = f"commanded {asked:.4f} {unit}, measured {came:.4f} {unit}, missed by {missed:.4f} {unit}"
            raise CheckFailed(found=found, numbers=numbers)
        return "measured follows commanded", numbers

    return item


def rotation_convention(trial: Trial) -> Found:
    """Whether a roll is a roll: on arms that add Euler angles it comes out as a yaw (SimplerEnv#78)."""
    if set(trial.turns) != set(AXES[3:]):
        raise CheckFailed(found="not all three turns could be made")
    numbers: dict[str, Number] = {}
    wrong = []
    for name, moved in trial.turns.items():
        commanded, measured = moved.commanded[3:], moved.measured[3:]
        along = float(measured @ commanded / max(float(commanded @ commanded), 1e-12))
        asked = max(float(np.linalg.norm(commanded)), 1e-9)
        aside = float(np.linalg.norm(measured - along * commanded)) / asked
        numbers |= {f"{name}_along": along, f"{name}_aside": aside}
        if along < 0.5 or aside > 0.5:
            came = AXES[3 + int(np.argmax(np.abs(measured)))]
            wrong.append(f"a {name} came out mostly as {came} ({along:+.2f} of it about its own axis)")
    if wrong:
        raise CheckFailed(
            found=f"{'; '.join(wrong)}: this arm does not turn about world axes as bridge_v2 actions mean it",
            numbers=numbers,
        )
    return "every turn is about the axis it was asked for", numbers


def gripper(trial: Trial) -> Found:
    """Close and open, and read both."""
    trial.gripper = 0.0
    trial.rest(4)
    closed = float(trial.last.proprio[6])
    trial.gripper = 1.0
    trial.rest(4)
    opened = float(trial.last.proprio[6])
    numbers: dict[str, Number] = {"closed": closed, "open": opened}
    if closed > CLOSED_BELOW or opened < OPEN_ABOVE:
        raise CheckFailed(found=f"closed reads {closed:.2f} and open {opened:.2f}", numbers=numbers)
    return "closes and opens", numbers


def hold(trial: Trial) -> Found:
    """Hold, and see that the arm stays and that its target is where it is."""
    before = trial.measured
    trial.driver.hold()
    trial.rest()
    drift = float(np.linalg.norm(trial.measured.position - before.position))
    turned = rotation_angle(trial.measured.rotation @ before.rotation.T)
    numbers: dict[str, Number] = {"drift_m": drift, "turned_rad": turned}
    if drift > MISSED_XYZ or turned > MISSED_ROT:
        raise CheckFailed(found=f"the arm moved {drift * 1000:.1f} mm while it was held", numbers=numbers)
    return "stays where it is held", numbers


def emergency_stop(trial: Trial) -> Found:
    """A motion that a latched stop interrupts half-way: not one step more goes out, and the arm stands."""
    way = np.array([0.0, 0.0, MOVE_XYZ / 4, 0.0, 0.0, 0.0])
    sent = 0
    with tempfile.TemporaryDirectory() as folder:
        latch = EStopLatch(Path(folder))
        try:
            for number in range(4):
                if number == 2:
                    latch.latch("bring-up check", datetime.now().astimezone())
                latch.require_clear()
                trial.step(way)
                sent += 1
        except EStopped:
            trial.driver.hold()
    trial.rest(1)
    stopped = trial.measured.position
    trial.rest()
    drift = float(np.linalg.norm(trial.measured.position - stopped))
    numbers: dict[str, Number] = {"steps_sent": sent, "drift_m": drift}
    if sent != 2 or drift > MISSED_XYZ:
        raise CheckFailed(
            found=f"{sent} steps went out, the arm moved {drift * 1000:.1f} mm after the stop",
            numbers=numbers,
        )
    trial.step(-way)
    trial.step(-way)
    return "stops before the next step", numbers


def camera_fresh(trial: Trial) -> Found:
    """Whether every picture was new and young."""
    oldest = max(sample.age_s for sample in trial.samples)
    limit = AGE_PERIODS / trial.description.control_hz
    stuck = sum(after.seq <= before.seq for before, after in pairwise(trial.samples))
    numbers: dict[str, Number] = {"pictures": len(trial.samples), "oldest_s": oldest, "not_new": stuck}
    if stuck:
        raise CheckFailed(
            found=f"{stuck} of {len(trial.samples)} pictures were not new: the camera is dead",
            numbers=numbers,
        )
    if not oldest <= limit:
        raise CheckFailed(
            found=f"a picture was {oldest:.2f} s old, at most {limit:.2f} s is allowed", numbers=numbers
        )
    return "every picture is new and young", numbers | _percentiles([s.age_s for s in trial.samples], "age")


def camera_picture(trial: Trial) -> Found:
    """Whether the pictures show something."""
    numbers = [require_picture(sample) for sample in (trial.samples[0], trial.last)][-1]
    return "pictures show something", numbers


def camera_live(trial: Trial) -> Found:
    """Whether pictures change: always with a noisy camera, otherwise while the arm moves."""
    equal = [bool(np.array_equal(a.image, b.image)) for a, b in pairwise(trial.samples)]
    run = longest = 0
    for same in equal:
        run = run + 1 if same else 0
        longest = max(longest, run)
    numbers: dict[str, Number] = {"equal_in_a_row": longest, "different": equal.count(False)}
    noisy = trial.description.camera.noisy
    if not noisy and trial.farthest_m < SEEN_XYZ:
        raise NotHere(found="the arm did not move enough to change the picture of a camera without noise")
    if not equal or all(equal):
        raise CheckFailed(
            found="the picture never changed while the arm moved: the camera is frozen", numbers=numbers
        )
    if noisy and longest >= FROZEN_EQUAL:
        raise CheckFailed(
            found=f"{longest + 1} equal pictures in a row of a noisy camera: it is frozen", numbers=numbers
        )
    return "pictures change", numbers


def camera_rate(trial: Trial) -> Found:
    """Whether observations come at the control rate, by the robot's own clock."""
    gaps = [after.captured_at - before.captured_at for before, after in pairwise(trial.samples)]
    if not gaps or min(gaps) < 0:
        raise CheckFailed(found="the robot's clock runs backwards")
    rate = 1.0 / max(float(np.median(gaps)), 1e-9)
    asked = trial.description.control_hz
    if not RATE_SHARE[0] * asked <= rate <= RATE_SHARE[1] * asked:
        raise CheckFailed(found=f"observations come at {rate:.2f} Hz, {asked:.2f} Hz is declared")
    return "observations come at the control rate", {"hz": rate, **_percentiles(gaps, "gap")}


def currents(trial: Trial) -> Found:
    """The largest current of any arm joint during all the motions."""
    efforts = np.abs([sample.effort_mA[:6] for sample in trial.samples])
    if not efforts.any():
        raise NotHere(found="this robot tells no currents: nothing here guards against too much effort")
    largest, limit = float(efforts.max()), trial.description.effort_max_mA
    if largest > limit:
        raise CheckFailed(found=f"a joint drew {largest:.0f} mA, at most {limit:.0f} mA is allowed")
    return "below the limit", {"largest_mA": largest, "limit_mA": limit}


def verdict(trial: Trial) -> Found:
    """Whether this robot itself can tell success."""
    said = trial.driver.success()
    if said is None:
        raise NotHere(found="nobody here knows whether a task succeeded: labels must come from a judge")
    return "this robot judges its own tasks", {"now": said}


def park(trial: Trial) -> Found:
    """To a pose that is safe to leave."""
    trial.driver.park()
    return "parked", {}


def _percentiles(seconds: list[float], name: str) -> dict[str, Number]:
    return {f"{name}_p{q}_s": float(np.percentile(seconds, q)) for q in (50, 95, 99)} if seconds else {}
