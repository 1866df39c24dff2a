"""One job from the first scene reset to its success rate, as AutoEval's run_eval goes through it.

Per episode: arm reset, /reset, then /act and a step, `max_steps` times, success or not; motor failures run
the episode again and drop what was recorded of it; the classifier's word; the record; the next scene. The
policy hears nothing of an episode's end, nor of the job's.

Source: run_eval.py and robot_status_check.py of AutoEval at 3ea3ff4.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from robot_bridge.autoeval.emulator.arm import MgArm, Seen
from robot_bridge.autoeval.emulator.errors import EvaluationKilled, NothingEvaluated
from robot_bridge.autoeval.emulator.live import LiveView
from robot_bridge.autoeval.emulator.policy_line import PolicyLine
from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.recordings import DATASET, Rollout, RunRecord, Verdict
from robot_bridge.autoeval.emulator.robots import EvaluationTask, Robot

WEB_EFFORT_LIMIT_MA: Final = 700.0  # of every job that came through the web
START_POSITION: Final = (0.2483, 0.0, 0.1806)  # metres, where the real arm is after a reset
START_TOLERANCE: Final = 0.2  # metres
FALLEN_X, FALLEN_Z = 0.43, 0.03  # metres: beyond and below both, the arm lies on the table
RESET_ATTEMPTS: Final = 3
HUMAN_POLL_S: Final = 0.02
STALE_CLASSIFIER_ROBOT: Final = "widowx_sink"
WANDB: Final = "https://wandb.ai/auto-eval/auto_eval_public/runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a job asks for, read from its row."""

    job_id: str
    robot: Robot
    task: EvaluationTask
    description: str
    host: str
    port: int
    num_episodes: int
    max_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a job runs on: one arm, the live page, the host's temporary folder, the oddities."""

    arm: MgArm
    live: LiveView
    temporary: Path
    quirks: Quirks


class KillSwitch:
    """Ends an evaluation from another thread: it stops at its next motion, its connection at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: PolicyLine | None = None
        self.killed = threading.Event()

    def guard(self, line: PolicyLine) -> None:
        with self._lock:
            self._line = line
            if self.killed.is_set():
                line.cut()

    def kill(self) -> None:
        with self._lock:
            self.killed.set()
            if self._line is not None:
                self._line.cut()


class Evaluation:
    """One run of one job. `log` is what its terminal shows.

    Args:
        switch: kills it.
    """

    def __init__(self, job: Job, bench: Bench, *, switch: KillSwitch) -> None:
        self.log: list[str] = []
        self.wandb_url = f"{WANDB}/{secrets.token_hex(4)}"
        self._job, self._bench, self._switch = job, bench, switch
        self._quirks = bench.quirks
        self._line = PolicyLine(job.host, job.port, timeout_s=bench.quirks.act_timeout_s)
        self._rng = np.random.default_rng(_seed(job.job_id, "quirks"))
        self._scene_in_order = True
        switch.guard(self._line)

    def run(self) -> float:
        """All episodes; gives the success rate, rounded to four decimals.

        Raises:
            EvaluationKilled: by the switch.
            InvalidPolicyAction, PolicyResetFailed, requests.RequestException: by the policy server.
            NothingEvaluated: the job asks for no episode or no step.
        """
        try:
            return self._run()
        finally:
            self._line.close()

    def _run(self) -> float:
        job, quirks = self._job, self._quirks
        if job.num_episodes < 1 or job.max_steps < 1:
            raise NothingEvaluated(job_id=job.job_id, episodes=job.num_episodes, steps=job.max_steps)
        self._pause(quirks.launch_s)
        record = RunRecord(
            self._bench.temporary,
            job.description,
            now=datetime.now(),  # noqa: DTZ005 - naive in the real records too
            numpy_module=quirks.numpy_module,
        )
        self._say(f"Eval data saving to {record.folder.parent}", f"Specific run dir is {record.folder}")
        self._prepare_scene(0)
        verdicts = [self._episode(index, record) for index in range(job.num_episodes)]
        self._say(f"Eval data saved to {record.folder} on HuggingFace repo {DATASET}")
        rate = round(float(np.mean(verdicts)), 4)
        result = {"status": "completed", "wandb_url": self.wandb_url, "success_rate": rate}
        self._say("Evaluation completed successfully", "RESULT_START", json.dumps(result), "RESULT_END")
        return rate

    def _episode(self, index: int, record: RunRecord) -> bool:
        self._say(f"Eval episode {index}")
        began, retries, failed = time.monotonic(), 0, False
        rollout = self._rollout(index, attempt=0)
        while rollout.truncated:
            failed = True
            if self._judge():
                self._say("Motor failed but task already successful. No need to re-run.")
                break
            self._say("Re-running eval rollout due to robot error.")
            retries += 1
            rollout = self._rollout(index, attempt=retries)
        if self._job.robot.key == STALE_CLASSIFIER_ROBOT and not self._quirks.stale_observation:
            self._bench.arm.retreat()
        success = self._judge()
        self._say(f"Episode {index} completed with success: {success}")
        verdict = Verdict(
            instruction=self._job.task.instruction,
            success=success,
            retries=retries,
            motor_failure=failed,
            human_needed=not self._scene_in_order,
            seconds=time.monotonic() - began,
        )
        record.save(index, rollout, verdict=verdict, effort_limit_mA=WEB_EFFORT_LIMIT_MA)
        self._prepare_scene(index + 1)
        return success

    def _rollout(self, episode: int, *, attempt: int) -> Rollout:
        job = self._job
        seen = self._bench.arm.reset(job.task.task, seed=_seed(job.job_id, episode, attempt))
        self._pause(self._quirks.env_reset_s)
        astray = self._checked(float(np.linalg.norm(seen.proprio[:3] - START_POSITION)) > START_TOLERANCE)
        self._line.reset()
        actions, later, truncated = [], [], False
        for step in range(job.max_steps):
            self._show(seen, job.task.instruction, episode=episode, step=step)
            action = self._line.act(seen.image, seen.proprio, instruction=job.task.instruction)
            self._say(f"Step {step} with action size of {len(action)}")
            self._pause(0.0)
            seen = self._bench.arm.step(action)
            self._pause(self._quirks.step_s)
            actions.append(action)
            later.append(seen)
            truncated = self._motors_fail(episode, attempt, step)
            if truncated:
                break
        x, _, z = (float(number) for number in seen.proprio[:3])
        return Rollout(
            actions=tuple(actions),
            seen=tuple(later),
            truncated=truncated,
            pre_check_failed=astray,
            post_check_failed=self._checked(z <= 0.0 or (x >= FALLEN_X and z <= FALLEN_Z)),
        )

    def _judge(self) -> bool:
        """Whether the classifier says the word for "done"; it errs as often as the quirks say."""
        done, not_done = self._job.task.answers
        word = done if self._bench.arm.success() else not_done
        if self._rng.random() < self._quirks.classifier_noise:
            word = not_done if word == done else done
        self._say(f"{self._job.task.question} {word}")
        return word == done

    def _prepare_scene(self, episode: int) -> None:
        """The reset policy between two episodes; the scene itself is made anew by the arm's reset."""
        self._say(f"Running reset policy: {self._job.task.reset_instruction}")
        self._scene_in_order = episode not in self._quirks.failed_resets
        for _ in range(1 if self._scene_in_order else RESET_ATTEMPTS):
            self._pause(self._quirks.scene_reset_s)
        if not self._scene_in_order:
            self._ask_human()

    def _checked(self, failed: bool) -> bool:
        if failed:
            self._ask_human()
        return failed

    def _ask_human(self) -> None:
        """Wait until somebody says that the robot is in order, however long that takes."""
        live, index = self._bench.live, self._job.robot.index
        answered = live.answered(index)
        answered.clear()
        live.tell(index, {"waiting_for_human": True})
        self._say("Robot needs a human. Press Enter to continue or type 'y' on slack to confirm: ")
        while not (self._quirks.human_answers or answered.wait(HUMAN_POLL_S)):
            self._pause(0.0)
        live.tell(index, {"waiting_for_human": False})
        self._say("User input received, continuing...")

    def _motors_fail(self, episode: int, attempt: int, step: int) -> bool:
        by_chance = self._rng.random() < self._quirks.motor_failure_probability
        return by_chance or (episode, attempt, step) in self._quirks.motor_failures

    def _show(self, seen: Seen, instruction: str, *, episode: int, step: int) -> None:
        index, live = self._job.robot.index, self._bench.live
        live.show(index, seen.image)
        live.tell(index, {"language_instruction": instruction, "episode": episode, "timestep": step})

    def _pause(self, seconds: float) -> None:
        if self._switch.killed.wait(seconds):
            raise EvaluationKilled(job_id=self._job.job_id)

    def _say(self, *lines: str) -> None:
        self.log.extend(lines)


def _seed(*parts: object) -> int:
    """A number that is always the same for the same parts, and unlike any other's."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
