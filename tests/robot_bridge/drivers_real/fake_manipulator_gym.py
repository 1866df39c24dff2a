"""`manipulator_gym.interfaces.interface_service` as its clients see it, over an emulated arm.

Kept from the original: names and signatures, Euler angles that are *added* to the pose commanded last, joints
rounded towards zero, inverse kinematics that fail in silence, `move_eef` that takes four seconds and
therefore never answers, `move_gripper` of the client that only prints, a client that waits for an
observation for ever, `custom_fn` that calls whatever method it is told, motor registers of as many motors
as answer.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np

from robot_bridge.conventions import F64, Pose, rotation_of_euler
from robot_bridge.drivers import kinematics
from tests.robot_bridge.drivers_real.lab_arm import CRADLE, Arm, Camera, Line, VirtualTime

START = np.array([-0.13, -0.76, 0.44, -0.02, 1.75, -0.16])
STEP_S, GRIPPER_S, MOVE_EEF_S, SLEEP_S = 0.1, 0.1, 4.0, 3.0
OBSERVATION_CACHE_S = 0.05
JOINTS = (*kinematics.JOINT_NAMES, "gripper")


class Interface:
    """`WidowXInterface`: what the server runs beside the arm."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.arm = Arm(time, START)
        self.camera = Camera(self.arm)
        self.line = Line(time)
        self.commands = START.copy()  # joint commands of the last motion
        self.ik_fails = False
        self.deaf_reboot = False  # a motor that still reports its error after a reboot
        self.actions: list[F64] = []
        self.address: tuple[str, int] | None = None
        self.took_s = 0.0  # of the method that was called last

    def eef_pose(self) -> F64:
        pose = self.arm.pose
        return np.concatenate([pose.position, euler_of(pose.rotation)])

    def gripper_state(self) -> float:
        return (self.arm.finger - 0.01) / 0.07

    def step_action(self, action: F64) -> bool:
        assert len(action) == 7, "action is not 7D"
        self.actions.append(np.asarray(action))
        last = kinematics.forward(self.commands)
        rpy = euler_of(last.rotation) + action[3:6]
        self._go(Pose(last.position + action[:3], rotation_of_euler(rpy)), STEP_S)
        self.arm.finger = 0.037 if action[6] > 0.5 else 0.015
        self.took_s = STEP_S + GRIPPER_S
        return True

    def move_eef(self, pose: F64) -> bool:
        assert len(pose) == 6, "pose is not 6D"
        if self.arm.torque.all():
            self.commands = self.arm.joints  # capture_joint_positions
        self._go(Pose(pose[:3], rotation_of_euler(pose[3:6])), MOVE_EEF_S)
        self.took_s = MOVE_EEF_S
        return True

    def move_gripper(self, grip_state: float) -> bool:
        self.arm.finger = 0.037 if grip_state > 0.25 else 0.015
        self.took_s = GRIPPER_S
        return True

    def reset(self, reset_pose: bool = True, target_state: Any = None, **kwargs: Any) -> bool:
        if reset_pose:
            state = (
                np.array([0.258325, 0, 0.19065, 0, np.pi / 2, 0, 1.0])
                if target_state is None
                else target_state
            )
            self.arm.finger = 0.037 if state[6] > 0.5 else 0.015
            self.move_eef(state[:6])
            if kwargs.get("go_sleep"):
                self.commands = CRADLE.copy()
                self.arm.go(CRADLE, float(kwargs["moving_time"]))
                self.took_s += SLEEP_S
        return True

    def motor_status(self) -> Any:
        return self.arm.errors[: 7 - self.arm.silent_motors].copy()

    def get_torque_status(self) -> Any:
        return self.arm.torque[: 7 - self.arm.silent_motors].copy()

    def enable_torque(self, enable: bool = True) -> None:
        if enable and not self.arm.torque.all():
            self.commands = CRADLE.copy()
            self.arm.torque[:] = 1
            self.arm.go(CRADLE, 0.0)
        self.arm.torque[:] = int(enable)

    def reboot_motor(self, joint_name: str) -> Any:
        if not self.deaf_reboot:
            self.arm.errors[JOINTS.index(joint_name)] = 0
        return types.SimpleNamespace()

    def joint_efforts(self) -> dict[str, float]:
        return dict(zip((*JOINTS, "left_finger", "right_finger"), [*self.arm.efforts, 0.0, 0.0], strict=True))

    def _go(self, goal: Pose, duration: float) -> None:
        solution = kinematics.inverse(goal, self.commands)
        if solution.ok and not self.ik_fails and self.arm.torque.all():
            self.commands = np.trunc(solution.joints * 1000) / 1000
            self.arm.go(self.commands, duration)


def euler_of(rotation: F64) -> F64:
    """Its rotation-to-Euler formula, written anew: singular below 1e-6."""
    level = float(np.sqrt(rotation[0, 0] ** 2 + rotation[1, 0] ** 2))
    if level < 1e-6:
        return np.array(
            [np.arctan2(-rotation[1, 2], rotation[1, 1]), np.arctan2(-rotation[2, 0], level), 0.0]
        )
    return np.array(
        [
            np.arctan2(rotation[2, 1], rotation[2, 2]),
            np.arctan2(-rotation[2, 0], level),
            np.arctan2(rotation[1, 0], rotation[0, 0]),
        ]
    )


class ActionClientInterface:
    interface: Interface

    def __init__(self, host: str = "localhost", port: int = 5556, obs_timeout: float = 0.05) -> None:
        self.interface.address = (host, port)
        if self.interface.line.call("hash", lambda: True) is None:
            raise Exception("Failed to connect to action server")
        self.timeout = obs_timeout
        self.last_get_obs_time = 0.0
        self.latest_obs: dict[str, Any] = {}
        self._update_full_obs()

    @property
    def eef_pose(self) -> F64:
        self._update_full_obs()
        return self.latest_obs["eef_pose"]  # type: ignore[no-any-return]

    @property
    def gripper_state(self) -> float:
        self._update_full_obs()
        return self.latest_obs["gripper_state"]  # type: ignore[no-any-return]

    @property
    def primary_img(self) -> Any:
        self._update_full_obs()
        return self.latest_obs["primary_img"]

    def step_action(self, action: F64) -> bool:
        return bool(self._timed("step_action", lambda: self.interface.step_action(action)))

    def move_eef(self, pose: F64) -> bool | None:
        return True if self._timed("move_eef", lambda: self.interface.move_eef(pose)) else None

    def move_gripper(self, grip_state: float) -> bool:
        return True  # the base class: says it moves, and does not

    def reset(self, **kwargs: Any) -> bool:
        return bool(self._timed("reset", lambda: self.interface.reset(**kwargs)))

    def custom_fn(self, fn_name: str, **kwargs: Any) -> Any:
        def work() -> Any:
            if not hasattr(self.interface, fn_name):
                return {"status": False, "error": "Method not found"}
            return {"status": True, "res_payload": getattr(self.interface, fn_name)(**kwargs)}

        answer = self._timed(fn_name, work)
        return answer.get("res_payload") if answer and answer["status"] else answer

    def _update_full_obs(self) -> None:
        if self.interface.time() - self.last_get_obs_time > self.timeout:
            latest = self._obs()
            while latest is None:
                self.interface.line.back.wait()  # cut for good: stays here
                self.interface.time.sleep(0.5)
                latest = self._obs()
            self.latest_obs = latest
            self.last_get_obs_time = self.interface.time()

    def _obs(self) -> dict[str, Any] | None:
        answer: dict[str, Any] | None = self.interface.line.call(
            "obs",
            lambda: {
                "eef_pose": self.interface.eef_pose(),
                "gripper_state": self.interface.gripper_state(),
                "primary_img": self.interface.camera.newest(),
            },
        )
        return answer

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        self.interface.took_s = 0.002
        return self.interface.line.call(name, work, takes_s=lambda: self.interface.took_s)


def module(interface: Interface) -> types.ModuleType:
    """The package's module; its clients reach `interface` wherever they think they connect to."""
    made = types.ModuleType("manipulator_gym.interfaces.interface_service")
    client = type("ActionClientInterface", (ActionClientInterface,), {"interface": interface})
    made.__dict__.update(ActionClientInterface=client)
    return made
