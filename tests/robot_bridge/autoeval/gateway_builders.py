"""What the tests of the gateway share: AutoEval's bodies, a policy that misbehaves when told, a gateway."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from robot_bridge.autoeval.attempt import Attempt
from robot_bridge.autoeval.gateway import Gateway, GatewayJob
from robot_bridge.autoeval.wire import encode_array
from robot_bridge.callback import PolicyActAnswer, PolicyActRequest, PolicyReadyAnswer, PolicyResetRequest
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import RobotBridgeError
from robot_bridge.frames import encode_jpeg
from tests.robot_bridge.builders import NOON, Clock, some_images

CAPABILITY = "0123456789abcdef0123456789abcdef"
OTHER_CAPABILITY = "fedcba9876543210fedcba9876543210"
INSTRUCTION = "open the drawer"
WORK_POSE = (0.26, 0.01, 0.19, -3.089, 1.2, -3.089, 0.0, 0.39)
PATIENCE_S = 20.0  # how long a test waits for evidence before it fails


def a_picture(seed: int = 0) -> np.ndarray:
    """A smooth picture uint8 [256, 256, 3] that no other seed has."""
    return some_images(1, height=256, width=256, seed=seed)[0]


def a_proprio(**changes: float) -> np.ndarray:
    """A plausible autoeval_mg state [8]; `changes` are x, y or z."""
    state = np.array(WORK_POSE, dtype=np.float32)
    for name, number in changes.items():
        state["xyz".index(name)] = number
    return state


def a_tree(**changes: Any) -> dict[str, Any]:
    """The JSON tree of a good /act."""
    fields = {
        "image": encode_array(a_picture()),
        "instruction": INSTRUCTION,
        "proprio": encode_array(a_proprio()),
    }
    return {**fields, **changes}


def a_body(*, seed: int | None = None, encoded: bool = False, **changes: Any) -> bytes:
    """The bytes of a good /act; `seed` chooses the picture."""
    if seed is not None:
        changes["image"] = encode_array(a_picture(seed))
    text = json.dumps(a_tree(**changes))
    return (json.dumps({"encoded": text}) if encoded else text).encode()


def a_test_call() -> bytes:
    """The connection test as AutoEval sends it when a job is submitted."""
    blank = encode_array(np.zeros((256, 256, 3), dtype=np.uint8))
    return a_body(image=blank, instruction="test connection", proprio=encode_array(np.zeros(8)))


def a_job(**changes: Any) -> GatewayJob:
    fields = {
        "job_id": "job-1",
        "capability": CAPABILITY,
        "task_id": "open_drawer",
        "instruction": INSTRUCTION,
        "max_steps": 10,
        "seed": 3,
    }
    return GatewayJob(**{**fields, **changes})


def decided(session: str, t: int) -> list[float]:
    """What `FakePolicy` decides: exact in float32, different for every step and attempt."""
    attempt = int(session.rsplit("-", 1)[1])
    return [t / 1024.0, attempt / 1024.0, 0.0, 0.0, 0.0, 0.0, float(t % 2)]


class FakePolicy:
    """A `PolicyLink` of chunks of `chunk`; raises, answers nonsense or hangs as long as it is told to."""

    def __init__(self, chunk: int = 1) -> None:
        self.chunk = chunk
        self.policy = PolicyRef(name="fake", version="1")
        self.resets: list[PolicyResetRequest] = []
        self.asked: list[PolicyActRequest] = []
        self.fault: Exception | None = None
        self.reset_fault: RobotBridgeError | None = None
        self.spoil: Callable[[list[float]], list[float]] = lambda action: action
        self.go_on = threading.Event()  # cleared: act hangs
        self.go_on.set()
        self.reset_on = threading.Event()  # cleared: reset hangs
        self.reset_on.set()
        self.hanging = threading.Event()
        self.at_once = 0
        self.at_once_max = 0

    def reset(self, request: PolicyResetRequest) -> PolicyReadyAnswer:
        self.resets.append(request)
        assert self.reset_on.wait(PATIENCE_S)
        if self.reset_fault is not None:
            raise self.reset_fault
        return PolicyReadyAnswer(session=request.session, policy=self.policy, chunk=self.chunk)

    def act(self, request: PolicyActRequest) -> PolicyActAnswer:
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        self.asked.append(request)
        try:
            if not self.go_on.is_set():
                self.hanging.set()
                assert self.go_on.wait(PATIENCE_S)
            if self.fault is not None:
                raise self.fault
            actions = [self.spoil(decided(request.session, request.t + k)) for k in range(self.chunk)]
            return PolicyActAnswer(session=request.session, t=request.t, actions=actions, infer_ms=4.5)
        finally:
            self.at_once -= 1


def a_gateway(root: Path, clock: Clock, **changes: Any) -> Gateway:
    """A gateway whose clocks stand until they are moved; deadlines are counted in real seconds."""
    return Gateway(root, now=clock.now, clock=clock, **changes)


def an_attempt(steps: int = 3, *, seed: int = 0, **changes: Any) -> Attempt:
    """An ended attempt with numbers and pictures that differ everywhere."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    fields: dict[str, Any] = {
        "job_id": "job-1",
        "index": 2,
        "task_id": "open_drawer",
        "instruction": INSTRUCTION,
        "policy": PolicyRef(name="fake", version="1", digest="sha256:" + "a" * 64),
        "rotation": "raw",
        "jpegs": tuple(encode_jpeg(a_picture(seed + t)) for t in range(steps)),
        "proprio": numbers(steps, 8),
        "policy_action": numbers(steps, 7),
        "sent_action": numbers(steps, 7),
        "t_recv": np.arange(steps) * 0.4,
        "t_sent": np.arange(steps) * 0.4 + 0.1,
        "infer_ms": numbers(steps) ** 2,
        "fallback": np.arange(steps) % 2 == 1,
        "started_at": NOON,
        "ended_at": NOON,
        "ended_by": "reset",
        "wall_recv": 1.7e9 + np.arange(steps),
    }
    return Attempt(**{**fields, **changes})


class Caller:
    """AutoEval as the gateway sees it, without a socket: one job's three calls."""

    def __init__(self, gateway: Gateway, capability: str = CAPABILITY) -> None:
        self.client = TestClient(gateway.app, raise_server_exceptions=True)
        self.path = f"/j/{capability}"

    def reset(self) -> Any:
        return self.client.post(f"{self.path}/reset")

    def act(self, body: bytes | None = None, **changes: Any) -> Any:
        content = a_body(**changes) if body is None else body
        return self.client.post(f"{self.path}/act", content=content)

    def acts(self, count: int) -> list[list[float]]:
        """The next `count` actions, each on another picture."""
        answers = [self.act(seed=t) for t in range(count)]
        assert [answer.status_code for answer in answers] == [200] * count
        return [answer.json() for answer in answers]

    def health(self) -> Any:
        return self.client.get(f"{self.path}/health")


def refusal(answer: Any) -> tuple[int, str]:
    """Status and code of a problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]
