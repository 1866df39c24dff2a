"""What a station watches beside the commands: the camera, how well the arm follows, and the motors.

A watch never moves anything: it looks at what a driver said and raises when the episode cannot go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from robot_bridge.conventions import Pose
from robot_bridge.description import CameraStatus
from robot_bridge.drivers.driver import CameraDescription, MotorReading, Sample
from robot_bridge.errors import CameraFrozen, CameraStale, MotorFault

MAX_AGE_PERIODS: Final = 2.0  # control periods that a picture may be old
FROZEN_AFTER: Final = 3  # equal pictures in a row, the first included
NOTICEABLE_RAD: Final = 0.05  # of an arm joint: moves the gripper by 15 mm, which no camera here misses
ARM_JOINTS: Final = 6
BLACK_SPREAD: Final = 2  # grey levels between the darkest and the brightest number of a dead picture
FAR_STEPS: Final = 3  # steps in a row beyond the limit: a contact or a late servo passes sooner


class CameraWatch:
    """Looks at every picture of an episode: its number, its age, and whether it shows something new.

    A camera without noise may repeat a picture while nothing moves; then equal pictures count only while the
    joints moved noticeably since the first of them.

    Args:
        camera: as the driver describes it.
        period_s: seconds of a control period.
    """

    def __init__(self, camera: CameraDescription, *, period_s: float) -> None:
        self._camera = camera
        self._limit_s = MAX_AGE_PERIODS * period_s
        self._seq: int | None = None
        self._age_s = 0.0
        self._duplicates = 0
        self._picture = b""  # digest of the newest one
        self._equal = 0  # in a row
        self._joints: NDArray[np.float32] | None = None  # when the first of them came

    def clear(self) -> None:
        """A reset: a scene that looks as it did before is no fault. Numbers still have to rise."""
        self._picture, self._equal, self._joints = b"", 0, None

    def check(self, sample: Sample) -> None:
        """Take the newest picture.

        Raises:
            CameraStale: it is older than two control periods.
            CameraFrozen: its age is no number, its own number did not rise, it shows one colour, or it is the
                same again and again.
        """
        before, self._seq = self._seq, sample.seq
        if not np.isfinite(sample.age_s):
            raise self._fault("nobody knows how old it is")
        self._age_s = sample.age_s
        if sample.age_s > self._limit_s:
            raise CameraStale(camera=self._camera.name, age_s=sample.age_s, limit_s=self._limit_s)
        if before is not None and sample.seq <= before:
            raise self._fault(f"its number did not rise from {before}")
        if int(sample.image.max()) - int(sample.image.min()) <= BLACK_SPREAD:
            raise self._fault("all of it has one colour, as of a dead camera")
        self._compare(sample)
        if self._equal >= FROZEN_AFTER and (self._camera.noisy or self._moved(sample)):
            raise self._fault(f"the same picture came {self._equal} times in a row")

    def status(self) -> CameraStatus:
        """The newest picture's number and age, and how many pictures were the one before again."""
        return CameraStatus(
            name=self._camera.name,
            seq=self._seq if self._seq is not None else 0,
            age_ms=self._age_s * 1000.0,
            dup_frames=self._duplicates,
        )

    def _compare(self, sample: Sample) -> None:
        picture = hashlib.blake2b(np.ascontiguousarray(sample.image).data, digest_size=16).digest()
        if picture == self._picture:
            self._equal += 1
            self._duplicates += 1
        else:
            self._picture, self._equal, self._joints = picture, 1, sample.qpos[:ARM_JOINTS].copy()

    def _moved(self, sample: Sample) -> bool:
        if self._joints is None:
            return False
        return float(np.abs(sample.qpos[:ARM_JOINTS] - self._joints).max()) > NOTICEABLE_RAD

    def _fault(self, fault: str) -> CameraFrozen:
        return CameraFrozen(camera=self._camera.name, fault=fault, seq=self._seq)


class TrackingWatch:
    """Raises when the measured gripper stays far from its target for `FAR_STEPS` steps in a row.

    Args:
        limit_m: metres between measured gripper and target that still count as following.
    """

    def __init__(self, limit_m: float) -> None:
        self._limit_m = limit_m
        self._far = 0

    def clear(self) -> None:
        """A reset or a hold: what was before does not count."""
        self._far = 0

    def check(self, sample: Sample, target: Pose) -> None:
        """Compare one observation with the target that the arm was given for it.

        Raises:
            MotorFault: the arm has not followed for several steps, or says no finite position.
        """
        apart = float(np.linalg.norm(sample.proprio[:3].astype(np.float64) - target.position))
        if not np.isfinite(apart):
            raise MotorFault(motor="(arm)", fault="a position that is not finite")
        self._far = self._far + 1 if apart > self._limit_m else 0
        if self._far >= FAR_STEPS:
            fault = (
                f"a gripper {apart:.3f} m from its target after {self._far} steps, "
                f"at most {self._limit_m:.3f} m is allowed"
            )
            raise MotorFault(motor="(arm)", fault=fault)


def require_well(motors: Sequence[MotorReading]) -> None:
    """Check that every motor has torque and reports no error.

    Raises:
        MotorFault: the first motors that do not, by name.
    """
    sick = [motor for motor in motors if motor.error or not motor.torque]
    if sick:
        faults = "; ".join(f"{motor.name}: {motor.error or 'torque off'}" for motor in sick)
        raise MotorFault(motor=", ".join(motor.name for motor in sick), fault=faults)
