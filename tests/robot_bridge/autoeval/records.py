"""Records as AutoEval's machine writes them: real pickles of classes that exist only while they are made."""

from __future__ import annotations

import json
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

TRAJECTORY_MODULE = "robot_eval_logger.typing.traj_data"
HISTOGRAM_MODULE = "wandb.sdk.data_types.histogram"


@contextmanager
def classes_of_autoeval() -> Iterator[dict[str, type]]:
    """The classes TrajData and Histogram, importable under their real names for as long as this lasts."""
    made, put = {}, []
    for module, name in ((TRAJECTORY_MODULE, "TrajData"), (HISTOGRAM_MODULE, "Histogram")):
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            path = ".".join(parts[:end])
            if path not in sys.modules:
                sys.modules[path] = types.ModuleType(path)
                put.append(path)
        made[name] = type(name, (), {"__module__": module})
        setattr(sys.modules[module], name, made[name])
    try:
        yield made
    finally:
        for path in put:
            del sys.modules[path]


def some_frames(steps: int, *, seed: int = 0) -> np.ndarray:
    """Smooth pictures uint8 [steps, 256, 256, 3], all different."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (steps, 1, 1, 3))
    ramp = np.linspace(0, 3, 256)
    wave = np.sin(phase + ramp[None, :, None, None] + 2 * ramp[None, None, :, None])
    return np.asarray(127.5 + 100 * wave).round().astype(np.uint8)


def some_numbers(steps: int, width: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(scale=0.01, size=(steps, width)).astype(np.float32)


def a_record(steps: int = 3, *, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """The attributes of one TrajData, as run_eval.py fills them."""
    attributes = {
        "language_command": "open the drawer",
        "obs": {"image_primary": list(some_frames(steps, seed=seed))},
        "success": True,
        "action": list(some_numbers(steps, 7, seed=seed)),
        "proprio": list(some_numbers(steps, 8, seed=seed + 1)),
        "eval_rollout_steps": steps - 1,
        "eval_rollout_time": 31.5,
        "exceeded_joint_efforts": 0,
        "experienced_motor_failure": False,
        "pre_rollout_checks_failed": False,
        "post_rollout_checks_failed": False,
        "need_human_intervention": False,
        "num_eval_retries": 1,
    }
    return {**attributes, **changes}


def pickled_record(record: dict[str, Any], *, protocol: int = 4, histogram: bool = True) -> bytes:
    """`record` as the pickle of a TrajData, with a wandb histogram in it as the real ones have."""
    with classes_of_autoeval() as classes:
        trajectory = classes["TrajData"]()
        vars(trajectory).update(record)
        if histogram:
            efforts = classes["Histogram"]()
            vars(efforts).update({"histogram": [1, 2, 3], "bins": np.linspace(0, 700, 4), "_sha": None})
            trajectory.max_joint_efforts = efforts
        return pickle.dumps(trajectory, protocol=protocol)


def put_run(root: Path, eval_id: str, description: str, *, time: str = "2026-01-01T10:00:00") -> Path:
    """The folder of a run that has its metadata.json and no trajectory yet."""
    folder = root / eval_id
    folder.mkdir(parents=True)
    metadata = {"eval_id": eval_id, "robot_name": "widowx_drawer", "eval_name": description, "time": time}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder
