"""Both real drivers over their emulated packages, or one of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.robot_bridge.drivers_real.labs import LABS, Lab, manipulator_gym_lab, widowx_envs_lab


@pytest.fixture(params=["widowx_envs", "manipulator_gym"])
def lab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    made = LABS[request.param](monkeypatch)
    yield made
    made.mend()


@pytest.fixture
def envs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    made = widowx_envs_lab(monkeypatch)
    yield made
    made.mend()


@pytest.fixture
def gym(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    made = manipulator_gym_lab(monkeypatch)
    yield made
    made.mend()
