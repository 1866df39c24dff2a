"""Every way AutoEval's scheduler, its dataset and the joining of both with our own recording can fail.

    RobotBridgeError
    └── AutoEvalError
        ├── JobInvalid                 a job that AutoEval would not take, or that tells too much; never sent
        ├── SchedulerError             AutoEval's job scheduler
        │   ├── JobRejected            it understood the job and does not want it
        │   ├── RobotOffline           ... because the robot is switched off for now
        │   ├── UnknownJob             it does not know the job: never submitted, or its database is new
        │   ├── SchedulerUnreachable   no answer: nobody knows whether the call did anything
        │   └── SchedulerMisbehaved    an answer that is not AutoEval's
        ├── DatasetError               the recordings that AutoEval publishes
        │   ├── DatasetUnavailable     not reachable, not there, or not for us
        │   ├── DatasetMalformed       there, but not what AutoEval writes
        │   ├── PickleRefused          a pickle that names something we do not build
        │   └── SandboxFailed          the throw-away process died over a pickle
        ├── JoinMismatch               recording and dataset belong to different jobs
        └── UnknownAutoEvalTask        not one of AutoEval's tasks

The gateway's own refusals live beside the gateway. Everything a third party said is cut to a bounded,
printable length before it comes into a sentence.
"""

from __future__ import annotations

from robot_bridge.errors import RobotBridgeError


class AutoEvalError(RobotBridgeError):
    code = "autoeval_error"


class JobInvalid(AutoEvalError):
    code = "autoeval_job_invalid"
    sentence = "the job's {thing} must be {expected}, found {found}. Nothing was sent."


class SchedulerError(AutoEvalError):
    code = "autoeval_scheduler_error"


class JobRejected(SchedulerError):
    code = "autoeval_job_rejected"
    sentence = "scheduler {url} refuses {call} with HTTP {status}: {reason}. Nothing was queued; correct it."


class RobotOffline(SchedulerError):
    code = "autoeval_robot_offline"
    retryable = True
    sentence = "robot {robot} takes no jobs at {url} now: {reason}. Nothing was queued; try again later."


class UnknownJob(SchedulerError):
    code = "autoeval_unknown_job"
    sentence = "scheduler {url} has no job {job_id}. Look for its description before submitting it again."


class SchedulerUnreachable(SchedulerError):
    code = "autoeval_scheduler_unreachable"
    retryable = True
    sentence = (
        "scheduler {url} did not answer {call} within {tries} tries: {reason}. "
        "What it did is unknown; asking again is safe, because jobs are found by their description."
    )


class SchedulerMisbehaved(SchedulerError):
    code = "autoeval_scheduler_misbehaved"
    sentence = "scheduler {url} answered {call} with {found}, expected {expected}. Check which version runs."


class DatasetError(AutoEvalError):
    code = "autoeval_dataset_error"


class DatasetUnavailable(DatasetError):
    code = "autoeval_dataset_unavailable"
    retryable = True
    sentence = "dataset {repo} cannot be read ({thing}): {reason}. Episodes stay unjoined; try again later."


class DatasetMalformed(DatasetError):
    code = "autoeval_dataset_malformed"
    sentence = "{thing} of the dataset must be {expected}, found {found}. Nothing was used of it."


class PickleRefused(DatasetError):
    code = "autoeval_pickle_refused"
    sentence = "{thing} asks for {found}, allowed is {expected}. Nothing of it was run or used; look at it."


class SandboxFailed(DatasetError):
    code = "autoeval_sandbox_failed"
    sentence = "{thing} could not be read in its sandbox: {reason}. Nothing of it was used."


class JoinMismatch(AutoEvalError):
    code = "autoeval_join_mismatch"
    sentence = "job {job_id}: {thing} must be {expected}, found {found}. Nothing was joined."


class UnknownAutoEvalTask(AutoEvalError):
    code = "autoeval_unknown_task"
    sentence = "AutoEval has no task {task_id!r}; its tasks are {known}. Ask for one of them."
