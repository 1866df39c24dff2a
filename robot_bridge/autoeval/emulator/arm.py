"""A robot driver as AutoEval's wrappers show it: MG's pictures, MG's proprio, MG's way with an action.

What an action goes through, from the outside in: every number clipped to ±2, turned round when a joint
pulled too hard, the measured gripper plus the move kept inside the cell's box, xyz clipped to ±0.02 m, and
then added to the last *commanded* pose, angles as Euler angles.

Source: gym_wrappers.py of AutoEval at 3ea3ff4; manipulator_env.py, gym_wrappers.py and widowx.py of
manipulator_gym at c547d41.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robot_bridge.autoeval_mg import compose_mg, mg_state
from robot_bridge.conventions import F32, F64, IMAGE_SIZE, Pose, pose_of_vector
from robot_bridge.drivers.driver import DriverDescription, Sample, StepOutcome
from robot_bridge.drivers.tasks import TASKS
from robot_bridge.errors import UnknownTask

MAGNITUDE_MAX: Final = 2.0  # of each number of an action
EEF_DISPLACEMENT: Final = 0.02  # metres per axis and step
IMPEDANCE: Final = -0.5  # factor on an action after a joint pulled too hard
GRIPPER_OPEN_ABOVE: Final = 0.5
JPEG_QUALITY: Final = 95  # OpenCV's default
MAX_RETREAT_STEPS: Final = 20

U8 = NDArray[np.uint8]


class Cell(Protocol):
    """What this needs of a `RobotDriver`."""

    @property
    def description(self) -> DriverDescription: ...

    @property
    def target(self) -> Pose: ...

    def reset(self, task_id: str, *, seed: int) -> Sample: ...

    def step(self, target: Pose, gripper: float) -> StepOutcome: ...

    def success(self) -> bool: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """One observation as a policy gets it: RGB [256, 256, 3], proprio [8], joint currents [7] in mA."""

    image: U8
    proprio: F32
    effort_mA: F32  # noqa: N815 - mA is the unit


class MgArm:
    """One cell behind AutoEval's wrappers.

    Args:
        effort_limit_mA: a joint current above it (its sign counts: negative ones pass) turns the next action
            round; None never does.
    """

    def __init__(self, cell: Cell, *, effort_limit_mA: float | None = None) -> None:  # noqa: N803
        self._cell = cell
        self._limit = effort_limit_mA
        self._low, self._high = np.zeros(3), np.zeros(3)
        self._home = cell.target
        self._sample: Sample | None = None

    def reset(self, task: str, *, seed: int) -> Seen:
        """A fresh scene, the arm at home with the gripper open.

        Raises:
            UnknownTask: the cell has no such task.
        """
        box = next((known for known in self._cell.description.tasks if known.task_id == task), None)
        if box is None:
            raise UnknownTask(task_id=task, known=", ".join(TASKS))
        self._low, self._high = np.array(box.box_low), np.array(box.box_high)
        sample = self._cell.reset(task, seed=seed)
        self._home = self._cell.target
        return self._see(sample)

    def step(self, action: F64) -> Seen:
        """Execute one policy action [7]; a pose out of reach is silently no motion."""
        wrapped = self._wrapped(action)
        target = compose_mg(self._cell.target, wrapped)
        opening = 1.0 if wrapped[6] > GRIPPER_OPEN_ABOVE else 0.0
        return self._see(self._cell.step(target, opening).sample)

    def retreat(self) -> None:
        """Open the gripper where it is, then bring it back to where the episode began."""
        self._cell.step(self._cell.target, 1.0)
        for _ in range(MAX_RETREAT_STEPS):
            away = self._home.position - self._cell.target.position
            if np.abs(away).max() < 1e-6:
                return
            reachable = np.clip(away, -EEF_DISPLACEMENT, EEF_DISPLACEMENT)
            self._cell.step(Pose(self._cell.target.position + reachable, self._home.rotation), 1.0)

    def success(self) -> bool:
        return self._cell.success()

    def close(self) -> None:
        self._cell.close()

    def _wrapped(self, action: F64) -> F32:
        """What is left of an action after the wrappers, float32 [7]."""
        wrapped = np.clip(action, -MAGNITUDE_MAX, MAGNITUDE_MAX)
        assert self._sample is not None, "an arm is reset before it steps"  # noqa: S101
        if self._limit is not None and float(self._sample.effort_mA.max()) > self._limit:
            wrapped = IMPEDANCE * wrapped
        measured = pose_of_vector(self._sample.proprio).position
        inside = np.clip(measured + wrapped[:3], self._low, self._high) - measured
        wrapped[:3] = np.clip(inside, -EEF_DISPLACEMENT, EEF_DISPLACEMENT)
        return wrapped.astype(np.float32)

    def _see(self, sample: Sample) -> Seen:
        self._sample = sample
        return Seen(
            image=camera_picture(sample.image),
            proprio=mg_state(pose_of_vector(sample.proprio), float(sample.qpos[6])),
            effort_mA=sample.effort_mA,
        )


def camera_picture(image: U8) -> U8:
    """A camera's RGB picture [H, W, 3] after MG's wire and AutoEval's resize, uint8 [256, 256, 3].

    MG encodes the RGB picture as if it were BGR and decodes it the same way: the order of the colours
    survives, the JPEG in between has red and blue exchanged.
    """
    buffer = io.BytesIO()
    swapped = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    swapped.save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=2)  # 2: colour at half resolution
    with Image.open(buffer, formats=["JPEG"]) as decoded:
        picture = np.array(decoded, dtype=np.uint8)[..., ::-1]
    if picture.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE):
        return np.ascontiguousarray(picture)
    squashed = Image.fromarray(np.ascontiguousarray(picture)).resize(
        (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR
    )
    return np.array(squashed, dtype=np.uint8)
