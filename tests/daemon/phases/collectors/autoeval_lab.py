"""A lab whose robots are AutoEval's: an emulator over toy cells, and a phase context that points at it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests

from daemon.phases import collect
from daemon.phases.context import PhaseContext
from robot_bridge.autoeval.emulator.arm import Cell
from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.serve import running_emulator
from storage import autoeval_jobs, replay
from storage.tables import AutoEvalJobRow, EpisodeRow
from tests.daemon.phases.conftest import Lab
from tests.robot_bridge.toy_driver import BOX_HIGH, BOX_LOW, TASKS, ToyDriver

Report = Callable[[float, str], None]


class Interrupted(Exception):
    """What a test's `report` raises where a worker would die."""


@dataclass(slots=True)
class AutoEvalLab:
    """A lab and the emulator it collects from."""

    lab: Lab
    url: str
    gateway_port: int
    root: Path

    def context(self, phase: PhaseContext | None = None, **settings: Any) -> PhaseContext:
        """A claimed collect phase, or the same once more with other settings."""
        found = phase or self.lab.context("collect")
        changes = {
            "collect_via": "autoeval",
            "autoeval_url": self.url,
            "autoeval_hub": self.url,
            "autoeval_boxes": dict.fromkeys(TASKS, (BOX_LOW, BOX_HIGH)),
            "autoeval_poll_s": 0.02,
            "autoeval_join_wait_s": 20.0,
            "gateway_bind": f"127.0.0.1:{self.gateway_port}",
            **settings,
        }
        return replace(found, settings=found.settings.model_copy(update=changes))

    def collect(self, **settings: Any) -> dict[str, object]:
        return collect.run(self.context(**settings))

    def die_at(self, words: str, context: PhaseContext) -> None:
        """Collect until the phase says these words, and no further."""

        def report(share: float, text: str) -> None:
            if words in text:
                raise Interrupted(text)

        try:
            collect.run(replace(context, report=report))
        except Interrupted:
            return
        raise AssertionError(f"the phase never said {words!r}")

    def rows(self) -> list[AutoEvalJobRow]:
        with self.lab.database.read() as session:
            return autoeval_jobs.of_iteration(session, self.lab.iteration_id)

    def stored(self) -> list[EpisodeRow]:
        with self.lab.database.read() as session:
            query = replay.EpisodeQuery(iteration_ids=(self.lab.iteration_id,), valid_for_world_model=None)
            return replay.select(session, query)

    def metadata(self, name: str) -> list[str]:
        """One fact of every stored episode, "" where it has none."""
        return sorted(json.loads(row.manifest)["metadata"].get(name, "") for row in self.stored())

    def listed(self) -> list[dict[str, Any]]:
        """All jobs that the emulator has, as anybody may list them."""
        jobs: list[dict[str, Any]] = requests.get(f"{self.url}/jobs/", timeout=10).json()["jobs"]
        return jobs

    def post(self, path: str, **options: Any) -> requests.Response:
        key = {"X-API-Key": (self.root / "admin_api_key.txt").read_text().strip()}
        answer = requests.post(self.url + path, headers=key, timeout=10, **options)
        answer.raise_for_status()
        return answer


def emulator(root: Path, *, build: Callable[[], Cell] = ToyDriver, **quirks: Any) -> Any:
    """An emulator over toy cells; a context manager that gives its address."""
    return running_emulator(root, quirks=Quirks(**quirks), build=build)


def toy_that_is(*, done: bool) -> type[ToyDriver]:
    """A toy whose tasks are done, or are not, wherever chance has led its arm: AutoEval runs no episode again
    whose task was done when its motors failed."""
    return type("DecidedToy", (ToyDriver,), {"success": lambda self: done})
