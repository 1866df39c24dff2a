"""Runs jobs as AutoEval's scheduler does: one at a time per robot, by id and not by age, again after a crash.

A job of a robot or task that nobody knows never ends: the real launcher dies in its terminal and leaves the
scheduler waiting for a result file.

Source: job_scheduler.py of AutoEval at 3ea3ff4.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from robot_bridge.autoeval.emulator.arm import Cell, MgArm
from robot_bridge.autoeval.emulator.errors import EvaluationKilled
from robot_bridge.autoeval.emulator.evaluation import Bench, Evaluation, Job, KillSwitch
from robot_bridge.autoeval.emulator.jobs import COMPLETED, EVALUATING, FAILED, JobBook, Row
from robot_bridge.autoeval.emulator.live import LiveView
from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.robots import ROBOTS
from robot_bridge.errors import RobotBridgeError

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Shift:
    """How long a robot has been at work: monotonic seconds, None before its first job."""

    began: float | None = None
    rests_until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    job_id: str
    switch: KillSwitch
    thread: threading.Thread


class Scheduler:
    """The loop over the queues. `start` and `stop` belong to the server's life; any thread may `kill`.

    Args:
        temporary: where runs are recorded before they are uploaded.
        build: makes the cell of a robot, at its first job.
    """

    def __init__(
        self, book: JobBook, *, live: LiveView, temporary: Path, quirks: Quirks, build: Callable[[], Cell]
    ) -> None:
        self._book, self._live, self._temporary, self._quirks = book, live, temporary, quirks
        self._build = build
        self._arms: dict[str, MgArm] = {}
        self._shifts: dict[str, _Shift] = {}
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._loop = threading.Thread(target=self._look_again_and_again, name="autoeval-scheduler")

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """Die as a scheduler dies: jobs are cut off, their rows stay `evaluating` and queued."""
        self._stopping.set()
        self._loop.join()
        with self._lock:
            running = list(self._running.values())
        for one in running:
            one.switch.kill()
        for one in running:
            one.thread.join()
        for arm in self._arms.values():
            arm.close()

    def kill(self, job_id: str) -> bool:
        """End a job in the middle of a motion; False when it does not run."""
        with self._lock:
            found = [one for one in self._running.values() if one.job_id == job_id]
        for one in found:
            one.switch.kill()
        return bool(found)

    def _look_again_and_again(self) -> None:
        while not self._stopping.wait(self._quirks.poll_s):
            for robot in self._book.queued_robots():
                self._look_at(robot)

    def _look_at(self, robot: str) -> None:
        with self._lock:
            if robot in self._running or self._rests(robot):
                return
            job_id = self._book.next_job(robot)
            if job_id is None:
                return
            switch = KillSwitch()
            thread = threading.Thread(
                target=self._work, args=(job_id, robot, switch), name=f"autoeval-{robot}"
            )
            self._running[robot] = _Running(job_id=job_id, switch=switch, thread=thread)
            thread.start()

    def _rests(self, robot: str) -> bool:
        shift = self._shifts.setdefault(robot, _Shift())
        if shift.rests_until is not None and time.monotonic() < shift.rests_until:
            return True
        if shift.rests_until is not None:
            shift.began = shift.rests_until = None
        return False

    def _work(self, job_id: str, robot: str, switch: KillSwitch) -> None:
        shift = self._shifts[robot]
        shift.began = time.monotonic() if shift.began is None else shift.began
        try:
            self._execute(job_id, robot, switch)
        finally:
            if time.monotonic() - shift.began >= self._quirks.work_s:
                shift.rests_until = time.monotonic() + self._quirks.rest_s
            if not self._stopping.is_set():
                self._book.unqueue(job_id)
            with self._lock:
                del self._running[robot]

    def _execute(self, job_id: str, robot: str, switch: KillSwitch) -> None:
        row = self._book.get(job_id)
        if row is None or not self._book.change(job_id, status=EVALUATING, executed_at=time.time()):
            return
        log.info("job started job=%s robot=%s task=%s", job_id, robot, row["task"])
        evaluation: Evaluation | None = None
        try:
            evaluation = self._evaluation(row, switch)
            outcome = _completed(evaluation.run(), evaluation)
        except EvaluationKilled:
            outcome = None
        except (RobotBridgeError, requests.RequestException, OSError, ValueError, TypeError) as error:
            outcome = None if switch.killed.is_set() else _failed(error, evaluation)
        if outcome is not None:
            self._book.change(job_id, completed_at=time.time(), **outcome)
        log.info("job ended job=%s status=%s", job_id, "killed" if outcome is None else outcome["status"])

    def _evaluation(self, row: Row, switch: KillSwitch) -> Evaluation:
        robot = ROBOTS.get(str(row["robot"]))
        task = robot.task(str(row["task"])) if robot else None
        if robot is None or task is None:
            switch.killed.wait()
            raise EvaluationKilled(job_id=row["id"])
        job = Job(
            job_id=row["id"],
            robot=robot,
            task=task,
            description=str(row["description"]),
            host=str(row["policy_server_ip"]),
            port=int(row["policy_server_port"]),
            num_episodes=int(row["num_episodes"]),
            max_steps=int(row["max_steps"]),
        )
        bench = Bench(
            arm=self._arm(robot.key), live=self._live, temporary=self._temporary, quirks=self._quirks
        )
        return Evaluation(job, bench, switch=switch)

    def _arm(self, robot: str) -> MgArm:
        if robot not in self._arms:
            self._arms[robot] = MgArm(self._build(), effort_limit_mA=self._quirks.effort_limit_mA)
        return self._arms[robot]


def _completed(rate: float, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "status": COMPLETED,
        "success_rate": rate,
        "wandb_url": evaluation.wandb_url,
        "tmux_output": _output(evaluation),
    }


def _failed(error: Exception, evaluation: Evaluation | None) -> dict[str, Any]:
    """A job that broke keeps its log and nothing else: no rate, no link."""
    result = {"status": FAILED, "wandb_url": None, "success_rate": None}
    ending = [
        "Evaluation failed with error:",
        "Traceback (most recent call last):",
        f"{_python_name(error)}: {error}",
        "RESULT_START",
        json.dumps(result),
        "RESULT_END",
    ]
    return {**result, "tmux_output": "\n".join([*(evaluation.log if evaluation else []), *ending, ""])}


def _python_name(error: Exception) -> str:
    return "RuntimeError" if isinstance(error, RobotBridgeError) else type(error).__name__


def _output(evaluation: Evaluation) -> str:
    return "\n".join([*evaluation.log, ""])
