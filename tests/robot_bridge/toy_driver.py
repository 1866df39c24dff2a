"""A robot of a few lines of numpy that obeys `RobotDriver`: a square that goes where it is told.

It is for tests of everything above a driver; `tests/contracts` holds it to the same rules as the real ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robot_bridge.conventions import DEFAULT_ROTATION, Pose, state_of
from robot_bridge.drivers.driver import (
    ArmModel,
    CameraDescription,
    DriverDescription,
    MotorReading,
    Sample,
    StepOutcome,
    TaskDescription,
)
from robot_bridge.errors import UnknownTask

SIDE = 32  # pixels
PERIOD_S = 0.2
UNREACHABLE_ABOVE = 0.22  # metres; inside the box, so that the driver can refuse what the station allows
DONE_BEYOND = 0.30  # metres of x at which any task counts as accomplished
BOX_LOW, BOX_HIGH = (0.10, -0.20, 0.05), (0.40, 0.20, 0.25)
MOTORS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
TASKS = {"open_drawer": "open the drawer", "close_drawer": "close the drawer"}


class ToyDriver:
    """Reaches every target at once, up to the height its arm cannot go. `moves` counts what really happened.

    `calls` lists what else it was told to do. `log`, a file, gets one line per step: it survives the death of
    the program, memory does not.
    """

    def __init__(self, log: Path | None = None) -> None:
        self.moves = 0
        self.closed = 0
        self.calls: list[str] = []
        self.torque = True
        self._pictures = 0
        self._log = log
        self._finger = 0.035
        self._time = 0.0
        self._colour = np.zeros(3, dtype=np.uint8)
        self._target = Pose(np.array([0.2, 0.0, 0.15]), DEFAULT_ROTATION)

    @property
    def description(self) -> DriverDescription:
        return DriverDescription(
            robot_model="toy",
            software_digest="0" * 64,
            camera=CameraDescription(name="primary", width=SIDE, height=SIDE, fps=5.0, renderer="numpy"),
            tasks=tuple(
                TaskDescription(task_id=task, instruction=text, box_low=BOX_LOW, box_high=BOX_HIGH)
                for task, text in TASKS.items()
            ),
            step_xyz_max=0.05,
            step_rot_max=0.25,
            control_hz=5.0,
        )

    @property
    def target(self) -> Pose:
        return self._target

    def reset(self, task_id: str, *, seed: int) -> Sample:
        if task_id not in TASKS:
            raise UnknownTask(task_id=task_id, known=", ".join(TASKS))
        rng = np.random.default_rng(seed)
        self._target = Pose(np.array([0.2, 0.0, 0.15]) + rng.uniform(-0.02, 0.02, 3), DEFAULT_ROTATION)
        self._colour = rng.integers(60, 256, 3, dtype=np.uint8)
        self._finger, self._time = 0.035, 0.0
        return self._sample()

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        self.moves += 1
        if self._log is not None:
            with self._log.open("a") as log:
                log.write(f"{target.position.tolist()}\n")
        reachable = bool(target.position[2] <= UNREACHABLE_ABOVE)
        if reachable:
            self._target = target
        self._finger = 0.010 + 0.025 * gripper
        self._time += PERIOD_S
        return StepOutcome(sample=self._sample(), ik_ok=reachable, target=self._target)

    @property
    def arm(self) -> ArmModel | None:
        return None

    def hold(self) -> None:
        self.calls.append("hold")

    def park(self) -> None:
        self.calls.append("park")

    def motors(self) -> tuple[MotorReading, ...]:
        return tuple(MotorReading(name=name, torque=self.torque) for name in MOTORS)

    def reboot_motors(self) -> None:
        self.calls.append("reboot_motors")

    def sleep(self) -> None:
        self.calls.append("sleep")
        self.torque = False

    def wake(self) -> None:
        self.calls.append("wake")
        self.torque = True

    def success(self) -> bool:
        return bool(self._target.position[0] > DONE_BEYOND)

    def close(self) -> None:
        self.closed += 1

    def _sample(self) -> Sample:
        image = np.full((SIDE, SIDE, 3), 30, dtype=np.uint8)
        image[:, -3:] = int(np.clip(self._target.position[2] * 1000, 0, 255))  # height as a grey bar
        column = int(np.clip(self._target.position[0] / 0.5 * SIDE, 0, SIDE - 4))
        row = int(np.clip((self._target.position[1] + 0.25) / 0.5 * SIDE, 0, SIDE - 4))
        image[row : row + 4, column : column + 4] = self._colour
        self._pictures += 1
        joints = np.concatenate([self._target.position, np.zeros(3), [self._finger, self._finger]])
        return Sample(
            image=image,
            proprio=state_of(self._target, self._finger),
            qpos=joints.astype(np.float32),
            effort_mA=np.zeros(7, dtype=np.float32),
            captured_at=self._time,
            seq=self._pictures,
        )
