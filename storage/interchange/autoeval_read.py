"""AutoEval's published recordings, of anybody's policies: pickles that are read in a sandbox, never trusted.

A trajectory holds what was seen after each action, so that an episode begins with its second one. What was
executed is not published. Such an episode teaches a world model and never counts for a policy; its label is
the classifier's. Episodes of our own jobs come in through the joiner instead, with what the gateway saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from robot_bridge.autoeval.dataset import FolderDataset, RunRef, Trajectory
from robot_bridge.autoeval.join_episodes import JoinJob, hub_draft
from robot_bridge.autoeval.tasks import TASKS, AutoEvalTask
from robot_bridge.autoeval.unpickle import decode
from robot_bridge.episode import PolicyRef, ValidFor, assemble
from robot_bridge.errors import RobotBridgeError
from storage.interchange.errors import DatasetInvalid
from storage.interchange.foreign import INSTRUCTION_MAX, UNKNOWN_TIME, task_of
from storage.interchange.record import SOURCE, Found, Record
from storage.interchange.seal import Seal

STATION: Final = "autoeval"
NO_BOX: Final = 10.0  # metres: a workspace that cuts nothing, for tasks whose own is not known
HARDWARE_FACTS: Final = ("experienced_motor_failure", "need_human_intervention", "exceeded_joint_efforts")
LEAST_STEPS: Final = 2  # the first has no observation before it


def find_autoeval(folder: Path, seal: Seal | None) -> Iterator[Found]:
    """Every trajectory of every run; each is read when it is asked for.

    Raises:
        DatasetInvalid: there is no run, or the folder cannot be read.
    """
    dataset = FolderDataset(folder)
    try:
        runs = dataset.runs()
        if not runs:
            expected = "folders with a metadata.json, as AutoEval publishes runs"
            raise DatasetInvalid(path=folder, expected=expected, found="none")
        for run in runs:
            for index in dataset.indices(run):
                digest = hashlib.sha256(dataset.pickle_of(run, index)).hexdigest()
                yield Found(
                    episode_id=job_of(run).episode_id("hub", index),
                    digest=digest,
                    read=partial(read_trajectory, dataset, run, index=index, digest=digest),
                )
    except RobotBridgeError as error:
        raise DatasetInvalid(path=folder, expected="runs of AutoEval", found=str(error)) from error


def read_trajectory(dataset: FolderDataset, run: RunRef, *, index: int, digest: str) -> Record:
    """One trajectory as an episode.

    Raises:
        RobotBridgeError: it is not what AutoEval writes, or too short.
        DatasetInvalid: the file changed while it was read.
    """
    content = dataset.pickle_of(run, index)
    place = Path(run.eval_id) / f"traj_{index}.pkl"
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise DatasetInvalid(path=place, expected=f"sha256 {digest}", found=found)
    trajectory = decode(content, index=index)
    if trajectory.count < LEAST_STEPS:
        raise DatasetInvalid(
            path=place, expected=f"at least {LEAST_STEPS} steps", found=str(trajectory.count)
        )
    job = replace(job_of(run), task=known_task(trajectory.instruction))
    draft = hub_draft(job, trajectory, at=time_of(run), policy=PolicyRef(name="unknown"))
    metadata = {**draft.header.metadata, SOURCE: digest, "autoeval_run": run.eval_id}
    header = draft.header.model_copy(
        update={
            "valid_for": ValidFor(policy_eval=False, world_model=not broke(trajectory)),
            "metadata": metadata,
        }
    )
    return Record(episode=assemble(header, steps=draft.steps, frames=draft.frames))


def job_of(run: RunRef) -> JoinJob:
    """A run of others, as if it had been a job: its episodes have the same ids whenever they come in."""
    return JoinJob(
        job_id=f"published/{run.eval_id}",
        task=known_task(""),
        station_id=STATION,
        max_steps=1,
        success_rate=None,
    )


def known_task(instruction: str) -> AutoEvalTask:
    """The public task with this instruction; another one has no workspace that is known, so none cuts."""
    said = instruction.strip().lower().rstrip(".")
    for task in TASKS:
        if task.instruction == said:
            return task
    return replace(
        TASKS[0],
        task_id=task_of(instruction),
        instruction=instruction[:INSTRUCTION_MAX],
        success_answer="done",
        box_low=(-NO_BOX,) * 3,
        box_high=(NO_BOX,) * 3,
    )


def time_of(run: RunRef) -> datetime:
    """When the run began by its own word, in UTC where it names no zone; 1970 where it cannot be read."""
    try:
        found = datetime.fromisoformat(run.time)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return UNKNOWN_TIME


def broke(trajectory: Trajectory) -> bool:
    """Whether AutoEval says that the robot failed, and not the policy."""
    return any(bool(trajectory.facts.get(name)) for name in HARDWARE_FACTS)
