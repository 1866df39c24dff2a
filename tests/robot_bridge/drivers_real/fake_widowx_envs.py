"""`widowx_envs.widowx_env_service` as bridge_data_robot's clients see it, over an emulated arm.

Kept from the original: names and signatures, status codes, the empty state of a service that nobody
initialised, SUCCESS for a motion whose inverse kinematics failed, the effort limit that opens the gripper and
goes to neutral, 0.2 s that every move takes in the service, the answer that never comes for slow calls.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np

from robot_bridge.conventions import FINGER_CLOSED, FINGER_SPAN, Pose, pose_vector
from robot_bridge.drivers import kinematics
from tests.robot_bridge.drivers_real.lab_arm import CRADLE, Arm, Camera, Line, VirtualTime

NEUTRAL = np.array([-0.13192235, -0.76238847, 0.44485444, -0.01994175, 1.7564081, -0.15953401])
EFFORT_LIMITS = np.array([800.0, 1000.0, 600.0, 600.0, 600.0, 700.0]) * 1.7
INIT_S = 10.0
RESET_S = 4.5
MOVE_S = 0.2  # the service's own sleep after every move


class WidowXStatus:
    NO_CONNECTION = 0
    SUCCESS = 1
    EXECUTION_FAILURE = 2
    NOT_INITIALIZED = 3


class Service:
    """The other side of the line."""

    def __init__(self, time: VirtualTime, *, initialised: bool = True) -> None:
        self.time = time
        self.arm = Arm(time, NEUTRAL if initialised else CRADLE)
        self.camera = Camera(self.arm)
        self.line = Line(time)
        self.ready_at = time() if initialised else float("inf")
        self.knows_joints = False  # newer services send qpos and joint_effort too
        self.ik_fails = False
        self.params: dict[str, Any] | None = None
        self.reboots: list[str] = []
        self.address: tuple[str, int] | None = None

    @property
    def initialised(self) -> bool:
        return self.time() >= self.ready_at

    def init(self, params: dict[str, Any]) -> int:
        if self.params == params and self.initialised:
            return self.reset()
        self.params, self.ready_at = params, self.time() + INIT_S
        self.arm.go(NEUTRAL, 3.0)
        return WidowXStatus.SUCCESS

    def reset(self) -> int:
        self.arm.finger = 0.037
        self.arm.go(NEUTRAL, 2.0)
        return WidowXStatus.SUCCESS

    def move(self, pose: Any, duration: float) -> int:
        matrix = np.asarray(pose, dtype=np.float64)
        goal = Pose(matrix[:3, 3], matrix[:3, :3])
        solution = kinematics.inverse(goal, self.arm.joints)
        if solution.ok and not self.ik_fails:  # otherwise: "no IK solution found, do nothing"
            self.arm.go(np.trunc(solution.joints * 1000) / 1000, duration)
        if (np.abs(self.arm.efforts[:6]) > EFFORT_LIMITS).any():
            self.reset()
            return WidowXStatus.EXECUTION_FAILURE
        return WidowXStatus.SUCCESS

    def gripper(self, state: float) -> int:
        self.arm.finger = 0.037 if state > 0.5 else 0.015
        return WidowXStatus.SUCCESS

    def reboot(self, name: str) -> int:
        self.reboots.append(name)
        return WidowXStatus.SUCCESS

    def observe(self) -> dict[str, Any]:
        if not self.initialised:
            noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
            return {"image": noise, "state": {}, "full_image": noise}
        opening = (self.arm.finger - FINGER_CLOSED) / FINGER_SPAN
        picture = self.camera.newest()
        answer = {
            "image": np.zeros(3 * 256 * 256, dtype=np.float32),
            "state": pose_vector(self.arm.pose, opening).astype(np.float64),
            "full_image": picture,
        }
        if self.knows_joints:
            answer |= {"qpos": self.arm.joints, "joint_effort": self.arm.efforts[:6]}
        return answer

    def if_ready(self, work: Any) -> Any:
        return lambda: work() if self.initialised else WidowXStatus.NOT_INITIALIZED


class WidowXConfigs:
    DefaultEnvParams = {"move_duration": 0.2, "action_clipping": "xyz", "camera_topics": []}  # noqa: RUF012


class WidowXClient:
    service: Service

    def __init__(self, host: str = "localhost", port: int = 5556) -> None:
        self.service.address = (host, port)
        if self.service.line.call("hash", lambda: True) is None:
            raise Exception("Failed to connect to action server")

    def init(self, env_params: dict[str, Any], image_size: int = 256) -> int:
        return status(self.service.line.call("init", lambda: self.service.init(env_params), takes_s=INIT_S))

    def move(self, pose: Any, duration: float = 1.0, blocking: bool = False) -> int:
        assert len(pose) == 6 or pose.shape == (4, 4), "invalid pose shape"
        seconds = MOVE_S + duration * blocking
        work = self.service.if_ready(lambda: self.service.move(pose, duration))
        return status(self.service.line.call("move", work, takes_s=seconds))

    def move_gripper(self, state: float) -> int:
        return status(
            self.service.line.call("gripper", self.service.if_ready(lambda: self.service.gripper(state)))
        )

    def step_action(self, action: Any, blocking: bool = False) -> int:
        raise AssertionError("a driver that owns its targets does not call step_action")

    def reset(self) -> int:
        return status(
            self.service.line.call("reset", self.service.if_ready(self.service.reset), takes_s=RESET_S)
        )

    def get_observation(self) -> dict[str, Any] | None:
        answer: dict[str, Any] | None = self.service.line.call("obs", self.service.observe)
        return answer

    def reboot_motor(self, joint_name: str) -> None:
        self.service.line.call("reboot_motor", self.service.if_ready(lambda: self.service.reboot(joint_name)))

    def stop(self) -> None:
        self.service.line.calls.append("stop")


def module(service: Service) -> types.ModuleType:
    """The package's module; its clients reach `service` wherever they think they connect to."""
    made = types.ModuleType("widowx_envs.widowx_env_service")
    made.__dict__.update(
        WidowXClient=type("WidowXClient", (WidowXClient,), {"service": service}),
        WidowXConfigs=WidowXConfigs,
        WidowXStatus=WidowXStatus,
    )
    return made


def status(answer: int | None) -> int:
    return WidowXStatus.NO_CONNECTION if answer is None else answer
