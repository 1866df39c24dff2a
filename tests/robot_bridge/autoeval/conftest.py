"""A gateway whose clock a test moves, one open job in it, and AutoEval calling it."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_bridge.autoeval.gateway import Gateway
from tests.robot_bridge.autoeval.gateway_builders import Caller, FakePolicy, a_gateway, a_job
from tests.robot_bridge.builders import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gateway(tmp_path: Path, clock: Clock) -> Gateway:
    return a_gateway(tmp_path, clock)


@pytest.fixture
def policy(gateway: Gateway) -> FakePolicy:
    policy = FakePolicy()
    gateway.open(a_job(), policy)
    return policy


@pytest.fixture
def autoeval(gateway: Gateway, policy: FakePolicy) -> Caller:
    return Caller(gateway)
