"""A toy policy server, and an emulator around a toy cell: no physics, tiny pictures, no waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.serve import running_emulator
from tests.robot_bridge.autoeval.emulator.toy_policy import ToyPolicy, serving
from tests.robot_bridge.toy_driver import ToyDriver
from tests.waiting import until

ENDED = ("completed", "failed", "cancelled")


@dataclass
class Emulated:
    """One running emulator as a client sees it."""

    url: str
    policy: ToyPolicy
    root: Path
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **params: Any) -> requests.Response:
        return self.session.get(self.url + path, params=params, timeout=20)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.session.post(self.url + path, timeout=20, **options)

    def submit(self, **changes: Any) -> str:
        job = {
            "description": "a job",
            "robot": "widowx_drawer",
            "task": "open_drawer",
            "policy_server_ip": "127.0.0.1",
            "policy_server_port": self.policy.port,
            "num_episodes": 1,
            "max_steps": 2,
            "submitter_id": "user_toy",
        }
        answer = self.post("/jobs/", json=job | changes)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def status(self, job_id: str) -> str:
        return str(self.get(f"/jobs/{job_id}").json()["status"])

    def row(self, job_id: str) -> dict[str, Any]:
        return next(row for row in self.get("/jobs/").json()["jobs"] if row["id"] == job_id)

    def ended(self, job_id: str) -> dict[str, Any]:
        """The row of a job once it has ended."""
        until(lambda: self.status(job_id) in ENDED)
        return self.row(job_id)

    def key(self) -> dict[str, str]:
        return {"X-API-Key": (self.root / "admin_api_key.txt").read_text().strip()}


@pytest.fixture
def policy() -> Iterator[ToyPolicy]:
    with serving(ToyPolicy()) as served:
        yield served


@pytest.fixture
def emulate(tmp_path: Path, policy: ToyPolicy) -> Iterator[Callable[..., Emulated]]:
    """Starts an emulator over toy cells; keyword arguments are quirks."""
    with ExitStack() as stack:

        def start(*, build: Callable[[], Any] = ToyDriver, **quirks: Any) -> Emulated:
            running = running_emulator(tmp_path, quirks=Quirks(**quirks), build=build)
            emulated = Emulated(stack.enter_context(running), policy, tmp_path)
            stack.callback(emulated.session.close)
            return emulated

        yield start
