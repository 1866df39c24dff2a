"""AutoEval's result records: one folder per run with metadata.json and one pickle per episode.

A record has frames and proprio from *after* each step (s_1 .. s_T): the first observation is missing. Its
actions are what the policy answered, not what ran. Files are written to the host's temporary folder first
and uploaded from there; `hub` decides what of that is to be seen, and when.

Source: branch `auto_eval` of robot_eval_logger; run_eval.py of AutoEval at 3ea3ff4.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from robot_bridge.autoeval.emulator.arm import Seen
from robot_bridge.autoeval.emulator.pickles import Instance, pickled
from robot_bridge.conventions import F64

DATASET: Final = "zhouzypaul/auto_eval"
FOLDER: Final = "eval_data"
HISTOGRAM_BINS: Final = 64  # wandb's own default


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rollout:
    """One attempt at an episode: T actions [7], and what was seen after each; `seen` has T entries.

    `truncated` says that motors failed in its last step.
    """

    actions: tuple[F64, ...]
    seen: tuple[Seen, ...]
    truncated: bool
    pre_check_failed: bool
    post_check_failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of an episode beside its steps; `seconds` is how long all its attempts took."""

    instruction: str
    success: bool
    retries: int
    motor_failure: bool
    human_needed: bool
    seconds: float


class RunRecord:
    """One run's folder. Its name, `eval_id`, cannot be foretold: it comes from Python's salted hash there.

    Args:
        description: becomes `eval_name`, by which a run can be found again.
        now: local wall time, naive as in the real records.
    """

    def __init__(self, temporary: Path, description: str, *, now: datetime, numpy_module: str) -> None:
        self.eval_id = secrets.randbits(62)
        self.folder = temporary / str(self.eval_id)
        self._numpy = numpy_module
        self.folder.mkdir(parents=True)
        metadata = {
            "eval_id": self.eval_id,
            "location": "berkeley",
            "robot_name": "widowx_drawer",  # also for the sink
            "robot_type": "widowx",
            "time": now.isoformat(),
            "evaluator_name": "bridge_autoeval",
            "eval_name": description,
        }
        self._write("metadata.json", json.dumps(metadata).encode())

    def save(self, index: int, rollout: Rollout, *, verdict: Verdict, effort_limit_mA: float) -> None:  # noqa: N803
        """Write the pickle of episode `index`."""
        record = Instance(
            module="robot_eval_logger.typing.traj_data",
            name="TrajData",
            attributes=_attributes(rollout, verdict, effort_limit_mA),
        )
        self._write(f"traj_{index}.pkl", pickled(record, numpy_module=self._numpy))

    def _write(self, name: str, content: bytes) -> None:
        unfinished = self.folder / f".{name}.new"
        unfinished.write_bytes(content)
        unfinished.replace(self.folder / name)


def _attributes(rollout: Rollout, verdict: Verdict, effort_limit_mA: float) -> dict[str, Any]:  # noqa: N803
    efforts = np.array([seen.effort_mA for seen in rollout.seen])  # [T, 7]
    highest = [float(effort) for effort in efforts.max(axis=0)]
    human_needed = rollout.pre_check_failed or rollout.post_check_failed or verdict.human_needed
    return {
        "language_command": verdict.instruction,
        "obs": {"image_primary": [seen.image for seen in rollout.seen]},
        "success": verdict.success,
        "action": list(rollout.actions),
        "proprio": [seen.proprio for seen in rollout.seen],
        "eval_rollout_steps": len(rollout.actions) - 1,
        "eval_rollout_time": verdict.seconds,
        "max_joint_efforts": histogram(highest),
        "exceeded_joint_efforts": int(max(highest) > effort_limit_mA),
        "experienced_motor_failure": int(verdict.motor_failure),
        "pre_rollout_checks_failed": int(rollout.pre_check_failed),
        "post_rollout_checks_failed": int(rollout.post_check_failed),
        "need_human_intervention": int(human_needed),
        "num_eval_retries": verdict.retries,
    }


def histogram(numbers: Sequence[float]) -> Instance:
    """The object that wandb makes of a few numbers: counts and bin edges as lists."""
    counts, edges = np.histogram(numbers, bins=HISTOGRAM_BINS)
    return Instance(
        module="wandb.sdk.data_types.histogram",
        name="Histogram",
        attributes={"histogram": counts.tolist(), "bins": edges.tolist()},
    )
