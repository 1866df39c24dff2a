"""A WidowX on a lab's table, its camera, and the line to it: what the emulated packages have in common.

Time is virtual: it passes only when somebody sleeps. Motions take their time, replies that come too late are
lost while the motion goes on, and a camera whose thread died serves its last picture for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from robot_bridge.conventions import F64, Pose
from robot_bridge.drivers import kinematics

CLIENT_WAITS_S = 0.8  # then its call comes back as None
CRADLE = np.array([0.0, -1.80, 1.55, 0.0, 0.8, 0.0])
SAG = np.array([0.0, 0.004, 0.004, 0.0, 0.006, 0.0])  # radians the arm's own weight takes from the set points
HEIGHT, WIDTH = 48, 64  # of the camera; a real one has 480 x 640, which takes longer to make


class VirtualTime:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


class Arm:
    """Six joints that travel linearly to their set points, and the registers of seven motors."""

    def __init__(self, time: VirtualTime, joints: F64 | None = None) -> None:
        self.time = time
        self.set_points = np.array(CRADLE if joints is None else joints, dtype=np.float64)
        self.start, self.begun, self.duration = self.set_points.copy(), time(), 0.0
        self.finger = 0.037
        self.torque = np.ones(7, dtype=np.uint8)
        self.errors = np.zeros(7, dtype=np.uint8)
        self.silent_motors = 0  # how many do not answer when asked for registers
        self.efforts = np.array([10.0, -320.0, -430.0, 40.0, 60.0, 5.0, 0.0])
        self.fastest = 0.0  # largest joint speed ever commanded, rad/s
        self.commands: list[F64] = []

    @property
    def joints(self) -> F64:
        if not self.torque.all():
            return CRADLE.copy()  # it dropped
        share = 1.0 if self.duration <= 0 else min(1.0, (self.time() - self.begun) / self.duration)
        return self.start + share * (self.set_points - self.start) + SAG

    @property
    def pose(self) -> Pose:
        return kinematics.forward(self.joints)

    def go(self, set_points: F64, duration: float) -> None:
        way = float(np.abs(set_points - self.joints + SAG).max())
        self.fastest = max(self.fastest, way / max(duration, 1e-9))
        self.start, self.begun, self.duration = self.joints - SAG, self.time(), duration
        self.set_points = np.array(set_points, dtype=np.float64)
        self.commands.append(self.set_points.copy())


class Camera:
    """A noisy picture of where the gripper is; `dead` stops the thread that takes them."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        self.dead = False
        self.black = False
        self.noise = np.random.default_rng(0)
        self.taken_at = arm.time()
        self.last = self._take()

    def newest(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        if not self.dead:
            self.last, self.taken_at = self._take(), self.arm.time()
        return self.last

    def _take(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        if self.black:
            return np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        picture = self.noise.integers(40, 56, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        x, y, _ = self.arm.pose.position
        row, column = int(np.clip(x * 90, 0, HEIGHT - 6)), int(np.clip((y + 0.35) * 90, 0, WIDTH - 6))
        picture[row : row + 6, column : column + 6] = (220, 120, 20)  # an orange gripper: red above blue
        return picture


class Line:
    """One server that does one thing at a time, and the client's patience.

    `cut`: requests are lost. `mute`: so many replies are lost after the work was done.
    """

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.cut = False
        self.mute = 0
        self.busy_until = time()
        self.calls: list[str] = []
        self.back = threading.Event()  # lets a client that waits for ever go on
        self.back.set()

    def call(
        self, name: str, work: Callable[[], Any], *, takes_s: float | Callable[[], float] = 0.002
    ) -> Any:
        if self.cut:
            self.time.sleep(CLIENT_WAITS_S)
            return None
        asked = self.time()
        wait = max(0.0, self.busy_until - asked)
        if wait >= CLIENT_WAITS_S:  # the request waits in a queue that the client gives up
            self.time.sleep(CLIENT_WAITS_S)
            return None
        self.time.sleep(wait)
        self.calls.append(name)
        answer = work()
        seconds = takes_s() if callable(takes_s) else takes_s
        self.busy_until = self.time() + seconds
        self.time.sleep(min(seconds, CLIENT_WAITS_S - wait))
        if self.mute:
            self.mute -= 1
            self.time.sleep(max(0.0, asked + CLIENT_WAITS_S - self.time()))
            return None
        return answer if self.busy_until <= asked + CLIENT_WAITS_S else None
