"""What the routes about success answer beyond the record of one iteration, field by field."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class GroupedRate(BaseModel):
    """Episodes of one group; what the groups are not kept apart by is null.

    `episodes` are judged: valid, and with a verdict. `rate` weighs episodes alike; `mean` weighs tasks alike,
    which is what policies are compared by, over the `tasks` that have a judged episode.
    """

    iteration: int | None
    task: str | None
    policy: str | None
    policy_number: int | None
    station: str | None
    successes: int
    episodes: int
    unlabelled: int
    invalid: int
    rate: float | None
    wilson_low: float
    wilson_high: float
    jeffreys_low: float
    jeffreys_high: float
    tasks: int
    mean: float | None
    mean_low: float | None
    mean_high: float | None


class GroupedRates(BaseModel):
    """Newest iteration first, then by task, newest policy and station."""

    items: list[GroupedRate]
    next_cursor: str | None


class EstimateRecord(BaseModel):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class CountRecord(BaseModel):
    successes: int
    episodes: int


class TaskDifference(BaseModel):
    """`difference` is the other minus the one; `episodes_still_needed` is of the policy that has fewer.

    It supposes that the observed rates are the true ones (two-sided 0.05, power 0.8); null means never,
    because they are equal.
    """

    one: CountRecord
    other: CountRecord
    difference: EstimateRecord | None
    episodes_still_needed: int | None


class PolicyDifference(BaseModel):
    """Two policies by task, and the mean difference over the tasks that both were judged at.

    The intervals of the tasks are widened by Bonferroni's inequality to hold at once, for `corrected_for`
    tasks. `told_apart` says whether the mean's interval leaves out zero. Where a judge ends episodes early
    (`stop_on_success`) a rate is another quantity: tasks of `ended_early` are compared by such episodes
    alone, all others by those of full length. Where the policies share no kind, the task is
    `not_comparable`.
    """

    one: str
    other: str
    tasks: dict[str, TaskDifference]
    mean: EstimateRecord | None
    told_apart: bool
    corrected_for: int
    ended_early: list[str]
    not_comparable: list[str]


class Alarm(BaseModel):
    """A policy's success at a task on a station changed: from `before` on, until it was noticed in `after`.

    `changed_*` is the first episode after the change as it looked then, `noticed_*` the one that raised the
    alarm, in `iteration`. `statistic` is the logarithm of how much better two rates explain it than one.
    """

    policy: str
    policy_number: int
    task: str
    station: str
    direction: Literal["fell", "rose"]
    iteration: int
    noticed_at: datetime
    noticed_by: str
    changed_at: datetime
    changed_by: str
    before: CountRecord
    after: CountRecord
    statistic: float


class Alarms(BaseModel):
    """Newest first; `watched` are the policies that were looked at."""

    items: list[Alarm]
    watched: list[str]
    next_cursor: str | None


class Costs(BaseModel):
    """What was used, and the success that was gained over `compared_with`, an iteration before.

    `worker_seconds` by phase, every attempt; `device_seconds` the same of the learning phases, by the name of
    the accelerator or processor, which is what budgets of device hours count; `gain` is a difference of mean
    success over tasks; per robot hour, of the iterations from `compared_with` on and before this one.
    """

    robot_episodes: int
    robot_seconds: float
    worker_seconds: dict[str, float] = Field(
        examples=[{"collect": 2400.0, "finetune_world_model": 1800.0, "update_policy": 3600.0}]
    )
    device_seconds: dict[str, float] = Field(
        examples=[{"NVIDIA GeForce RTX 4090": 5100.0, "AMD EPYC 7763 64-Core Processor": 300.0}]
    )
    judge_requests: int
    judge_usd: float
    compared_with: int | None
    gain: EstimateRecord | None
    gain_per_robot_hour: EstimateRecord | None


class IterationCosts(Costs):
    iteration: int


class LedgerPage(BaseModel):
    """Newest first; `total` is of the iterations of this page, with a gain where they are of one lineage."""

    items: list[IterationCosts]
    total: Costs
    next_cursor: str | None
