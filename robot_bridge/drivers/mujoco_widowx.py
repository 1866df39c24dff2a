"""A simulated WidowX-250s cell as a driver: physics, camera and ground truth of AutoEval's four tasks.

Time is simulated: a step advances 0.2 s at once and returns. Grasps are contacts and friction, nothing is
glued. The scene's text is in `scene`, what counts as success in `tasks`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_bridge.conventions import (
    CONTROL_HZ,
    DEFAULT_ROTATION,
    IMAGE_SIZE,
    STEP_ROT_MAX,
    STEP_XYZ_MAX,
    Pose,
    state_of,
)
from robot_bridge.drivers import kinematics
from robot_bridge.drivers.cell import CellVariant
from robot_bridge.drivers.driver import (
    ArmModel,
    CameraDescription,
    DriverDescription,
    MotorReading,
    Sample,
    StepOutcome,
    TaskDescription,
)
from robot_bridge.drivers.rendering import Renderer, RendererChoice, open_renderer
from robot_bridge.drivers.scene import CAMERA, LARGEST_IMAGE, PHYSICS_STEP, SceneName, scene_xml
from robot_bridge.drivers.tasks import TASKS, CellState, Task, accomplished, place, task_of
from robot_bridge.errors import BadAction, BadArray

ROBOT_MODEL: Final = "widowx_250s"
SMALLEST_IMAGE: Final = 8  # pixels
SERVO_PERIOD: Final = 0.01  # seconds between new joint set points
MOTION_SHARE: Final = 0.7  # of a control period in which the set points travel; the rest settles
SETTLE_SECONDS: Final = 0.3  # after a reset, before the first observation
MILLIAMPERE_PER_NM: Final = 2300.0 / 4.1  # XM430-W350: stall current over stall torque, at 12 V
# Shoulder and elbow share their torque between two servos; the current is that of one.
SERVOS_PER_JOINT: Final = (1.0, 2.0, 2.0, 1.0, 1.0, 1.0)
# The simulated servos are several times stronger than real ones (see `scene`), and so are the currents.
# Measured over three cells, all tasks: experts' work stays below 1300 mA and 6 mm from its target; pressing
# on the table, the cabinet or the handle saturates near 6400 mA, and then the gripper falls 30 mm further
# behind with every step. The committed base policy presses so in 4 of 100 steps; it succeeds as often with
# the guard (93 of 120 episodes) as without it (94), and its gripper is then never further than 47 mm behind.
EFFORT_MAX_MA: Final = 5000.0
TRACKING_MAX: Final = 0.10  # metres
GRIPPER_MA_PER_N: Final = 40.0  # the gripper's linkage is not modelled; only the trend is meaningful

# Joints near the middle of the workspace, gripper down: where the search for the home joints starts.
NEAR_HOME: Final = (-0.0184, 0.0399, 0.2224, -0.0046, 1.3652, 0.0015)


class MujocoWidowX:
    """One simulated cell; obeys `RobotDriver`.

    Args:
        cell: which cell.
        renderer: "gl", "raycast", or "auto" for GL where it works.
        image_size: pixels per side, 8 to 640; 256 is what a station sends.

    Raises:
        BadArray: an image size out of range.
        RendererUnavailable: "gl" was asked for and does not start here (at the first picture).
    """

    def __init__(
        self, *, cell: CellVariant, renderer: RendererChoice = "auto", image_size: int = IMAGE_SIZE
    ) -> None:
        if not SMALLEST_IMAGE <= image_size <= LARGEST_IMAGE:
            raise BadArray(
                thing="image size", expected=f"{SMALLEST_IMAGE} to {LARGEST_IMAGE} pixels", found=image_size
            )
        self.cell = cell
        self._choice, self._size = renderer, image_size
        self._models: dict[SceneName, mujoco.MjModel] = {}
        self._renderers: dict[SceneName, Renderer] = {}
        self._torque = True
        self._pictures = 0
        self._clock = 0.0  # simulated seconds of all episodes before this one
        self._opening = 1.0  # what the gripper was asked for last
        self._joints = np.array(NEAR_HOME)  # where the arm was asked to be last
        self._target = kinematics.forward(self._joints)
        self._begin(task_of("open_drawer"), seed=0)

    @property
    def description(self) -> DriverDescription:
        return DriverDescription(
            robot_model=ROBOT_MODEL,
            software_digest=_software_digest(self.cell),
            camera=CameraDescription(
                name=CAMERA,
                width=self._size,
                height=self._size,
                fps=CONTROL_HZ,
                renderer=self._renderer().name,
            ),
            tasks=tuple(
                TaskDescription(
                    task_id=task.task_id,
                    instruction=task.instruction,
                    box_low=task.box_low,
                    box_high=task.box_high,
                )
                for task in TASKS.values()
            ),
            step_xyz_max=STEP_XYZ_MAX,
            step_rot_max=STEP_ROT_MAX,
            control_hz=CONTROL_HZ,
            effort_max_mA=EFFORT_MAX_MA,
            tracking_max_m=TRACKING_MAX,
        )

    @property
    def target(self) -> Pose:
        return self._target

    @property
    def task(self) -> Task:
        """The task of the current episode."""
        return self._task

    def reset(self, task_id: str, *, seed: int) -> Sample:
        task = task_of(task_id)
        self._clock += float(self._state.time)
        self._begin(task, seed=seed)
        return self._sample()

    def look(self) -> Sample:
        """The scene as it stands; simulated time does not go on for it."""
        return self._sample()

    def look_otherwise(self) -> NDArray[np.uint8]:
        """The picture uint8 [H, W, 3] without eggplant, or its drawer further out; nothing moves for it."""
        state, kept = self._state, self._state.qpos.copy()
        place, metres = (8, kept[8] + 0.02) if self._task.scene == "drawer" else (10, -5.0)  # below the table
        state.qpos[place] = metres
        mujoco.mj_kinematics(self._model, state)
        image = self._renderer().render(state)
        state.qpos[:] = kept
        mujoco.mj_kinematics(self._model, state)
        return image

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        if not np.isfinite(gripper):
            raise BadAction(thing="gripper", expected="a finite number", found=str(gripper))
        solution = kinematics.inverse(target, self._joints)
        goal = solution.joints if solution.ok else self._joints
        self._target = target if solution.ok else self._target
        self._move(goal, float(np.clip(gripper, 0.0, 1.0)))
        return StepOutcome(sample=self._sample(), ik_ok=solution.ok, target=self._target)

    @property
    def arm(self) -> ArmModel | None:
        return kinematics.WIDOWX

    def hold(self) -> None:
        """Simulated time stands still between steps, and the arm is where it was asked to be."""

    def park(self) -> None:
        """The next reset starts from a fresh scene, so there is no pose to leave."""

    def motors(self) -> tuple[MotorReading, ...]:
        currents = (*self._arm_mA(), self._gripper_mA())
        names = (*kinematics.JOINT_NAMES, "gripper")
        return tuple(
            MotorReading(name=name, torque=self._torque, current_mA=float(current))
            for name, current in zip(names, currents, strict=True)
        )

    def reboot_motors(self) -> None:
        self._torque = True

    def sleep(self) -> None:
        self._torque = False

    def wake(self) -> None:
        self._torque = True

    def success(self) -> bool:
        return accomplished(self.ground_truth())

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def ground_truth(self) -> CellState:
        """What a simulator knows and a camera does not; for predicates and scripted experts."""
        state, nowhere = self._state, np.zeros(3)
        drawer_scene = self._task.scene == "drawer"
        return CellState(
            task_id=self._task.task_id,
            gripper=state.site("gripper").xpos.copy(),
            target=self._target.position.copy(),
            asked_opening=self._opening,
            finger=float(state.qpos[6:8].mean()),
            finger_speed=float(np.abs(state.qvel[6:8]).max()),
            drawer=float(state.qpos[8]) if drawer_scene else 0.0,
            drawer_speed=float(abs(state.qvel[8])) if drawer_scene else 0.0,
            handle=state.geom("handle").xpos.copy() if drawer_scene else nowhere,
            eggplant=nowhere if drawer_scene else state.body("eggplant").xpos.copy(),
            eggplant_speed=0.0 if drawer_scene else float(np.linalg.norm(state.qvel[8:11])),
            fingers_touching=0 if drawer_scene else self._fingers_touching(),
            sink=nowhere[:2] if drawer_scene else state.body("sink").xpos[:2].copy(),
            basket=nowhere[:2] if drawer_scene else state.body("basket").xpos[:2].copy(),
            seed=self._seed,
        )

    def _begin(self, task: Task, *, seed: int) -> None:
        """A fresh state of the task's scene, arm at home with the gripper open, everything at rest."""
        self._task, self._seed = task, seed
        if task.scene not in self._models:
            self._models[task.scene] = mujoco.MjModel.from_xml_string(scene_xml(task.scene, self.cell))
        self._model = self._models[task.scene]
        self._state = state = mujoco.MjData(self._model)
        placement = place(task, variant=self.cell, rng=np.random.default_rng([seed, *task.task_id.encode()]))
        self._target = Pose(placement.home, DEFAULT_ROTATION)
        self._joints = kinematics.inverse(self._target, np.array(NEAR_HOME)).joints
        self._opening = 1.0
        state.qpos[:6], state.qpos[6:8] = self._joints, kinematics.FINGER_HIGH
        if task.scene == "drawer":
            state.qpos[8] = placement.drawer
        else:
            half_yaw = placement.eggplant_yaw / 2
            state.qpos[8:15] = [*placement.eggplant, 0.026, np.cos(half_yaw), 0.0, 0.0, np.sin(half_yaw)]
        state.ctrl[:] = state.qpos[:8]
        mujoco.mj_step(self._model, state, round(SETTLE_SECONDS / PHYSICS_STEP))
        mujoco.mj_forward(self._model, state)

    def _move(self, goal: NDArray[np.float64], opening: float) -> None:
        """One control period: the set points of joints and fingers travel from their last goal to the new."""
        start, start_opening = self._joints, self._opening
        period = 1.0 / CONTROL_HZ
        for tick in range(round(period / SERVO_PERIOD)):
            elapsed = (tick + 1) * SERVO_PERIOD
            along = np.clip((elapsed - self.cell.latency_s) / (MOTION_SHARE * period), 0.0, 1.0)
            wanted = start_opening + (opening - start_opening) * elapsed / period
            self._state.ctrl[:6] = start + along * (goal - start)
            self._state.ctrl[6:8] = kinematics.FINGER_LOW + wanted * (
                kinematics.FINGER_HIGH - kinematics.FINGER_LOW
            )
            mujoco.mj_step(self._model, self._state, round(SERVO_PERIOD / PHYSICS_STEP))
        self._joints, self._opening = goal, opening
        mujoco.mj_forward(self._model, self._state)

    def _sample(self) -> Sample:
        state = self._state
        site = state.site("gripper")
        pose = Pose(site.xpos, site.xmat.reshape(3, 3))
        self._pictures += 1
        return Sample(
            image=self._renderer().render(state),
            proprio=state_of(pose, float(state.qpos[6])),
            qpos=state.qpos[:8].astype(np.float32),
            effort_mA=np.array([*self._arm_mA(), self._gripper_mA()], dtype=np.float32),
            captured_at=self._clock + float(state.time),
            seq=self._pictures,
        )

    def _arm_mA(self) -> NDArray[np.float64]:  # noqa: N802 - mA is the unit
        torques = self._state.qfrc_actuator[:6] + self._state.qfrc_gravcomp[:6]
        return np.asarray(torques * MILLIAMPERE_PER_NM / SERVOS_PER_JOINT)

    def _gripper_mA(self) -> float:  # noqa: N802
        return float(self._state.qfrc_actuator[6] * GRIPPER_MA_PER_N)

    def _renderer(self) -> Renderer:
        scene = self._task.scene
        if scene not in self._renderers:
            self._renderers[scene] = open_renderer(self._model, choice=self._choice, size=self._size)
        return self._renderers[scene]

    def _fingers_touching(self) -> int:
        eggplant = self._model.geom("eggplant").id
        pads = {self._model.geom(name).id for name in ("left_pad", "right_pad")}
        pairs = self._state.contact.geom  # [contacts, 2]
        touched = {int(a if b == eggplant else b) for a, b in pairs if eggplant in (a, b)}
        return len(touched & pads)


@lru_cache(maxsize=16)
def _software_digest(cell: CellVariant) -> str:
    """sha256 over MuJoCo's version, the code of this folder and the cell's numbers."""
    digest = hashlib.sha256(mujoco.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    digest.update(repr(sorted(asdict(cell).items())).encode())
    return digest.hexdigest()
