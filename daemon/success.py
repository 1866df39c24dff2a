"""Real success, read from the counts that storage keeps and told with its uncertainty.

Which policy's success an iteration tells is decided here; how wide an interval is, in `statistics`.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy.orm import Session

from daemon.comparison import Count, episodes_still_needed, mean_difference, rate_difference
from daemon.statistics import (
    Z_95,
    Estimate,
    jeffreys_interval,
    simultaneous_z,
    stratified_rate,
    wilson_interval,
)
from storage import end_rules, success_counts, trials
from storage.end_rules import EndRule
from storage.success_counts import Counted, PolicyCount

Record = dict[str, Any]
Counts = dict[str, tuple[int, int]]  # task to successes and judged episodes


def success_of(session: Session, iteration_ids: Collection[str]) -> dict[str, Counts]:
    """Successes and judged episodes of every iteration and task, in two queries for all of them.

    Where a candidate was tried against the champion, they are those of the policy that goes on; until that is
    decided, the champion's, which is the older one. Tasks without a judged episode are left out.
    """
    acted: dict[str, list[PolicyCount]] = {iteration_id: [] for iteration_id in iteration_ids}
    for row in success_counts.of_iterations(session, iteration_ids):
        acted[row.iteration_id].append(row)
    goes_on = trials.policies_that_went_on(session, iteration_ids)
    return {id_: _of_policy(rows, goes_on.get(id_) or _champion_of(rows)) for id_, rows in acted.items()}


def _champion_of(rows: list[PolicyCount]) -> str | None:
    """The older of several policies; None where only one acted."""
    policies = list(dict.fromkeys(row.checkpoint_id for row in rows if row.checkpoint_id is not None))
    return policies[0] if len(policies) > 1 else None


def _of_policy(rows: list[PolicyCount], policy: str | None) -> Counts:
    told: Counts = {}
    for row in rows:
        if row.judged and policy in {None, row.checkpoint_id}:
            successes, judged = told.get(row.task_id, (0, 0))
            told[row.task_id] = (successes + row.successes, judged + row.judged)
    return dict(sorted(told.items()))


def rate_record(counted: Counted, *, z: float = Z_95) -> Record:
    """One group of episodes with every interval; `mean` weighs its tasks alike, `rate` its episodes."""
    wilson = wilson_interval(counted.successes, counted.judged, z=z)
    jeffreys = jeffreys_interval(counted.successes, counted.judged, z=z)
    mean = stratified_rate(counted.by_task, z=z)
    return {
        "iteration": counted.iteration,
        "task": counted.task,
        "policy": counted.policy,
        "policy_number": counted.policy_number,
        "station": counted.station,
        "successes": counted.successes,
        "episodes": counted.judged,
        "unlabelled": counted.unlabelled,
        "invalid": counted.invalid,
        "rate": counted.successes / counted.judged if counted.judged else None,
        "wilson_low": wilson.low,
        "wilson_high": wilson.high,
        "jeffreys_low": jeffreys.low,
        "jeffreys_high": jeffreys.high,
        "tasks": sum(judged > 0 for _, judged in counted.by_task),
        "mean": mean.value if mean else None,
        "mean_low": mean.low if mean else None,
        "mean_high": mean.high if mean else None,
    }


def alike_counts(session: Session, one: str, other: str) -> tuple[Counts, Counts, list[str], list[str]]:
    """Successes and judged episodes of two policies that may be compared, task by task.

    Episodes of full length are compared where both have some, else those that a judge could end early.

    Returns:
        The counts of the one and of the other, tasks of which those are compared that could end early, and
        tasks that both were judged at by different rules alone, which are left out.
    """
    counts = success_counts.by_iteration(session, (one, other))
    rules = end_rules.of_iterations(session, {count.iteration_id for count in counts})
    by_rule: dict[tuple[str | None, bool], Counts] = {
        (policy, early): {} for policy in (one, other) for early in (False, True)
    }
    for count in counts:
        if count.judged:
            own = by_rule[
                count.checkpoint_id, rules.get(count.iteration_id, EndRule()).ends_early(count.task_id)
            ]
            successes, judged = own.get(count.task_id, (0, 0))
            own[count.task_id] = (successes + count.successes, judged + count.judged)
    whole = by_rule[one, False].keys() & by_rule[other, False].keys()
    early = (by_rule[one, True].keys() & by_rule[other, True].keys()) - whole
    seen = [by_rule[policy, False].keys() | by_rule[policy, True].keys() for policy in (one, other)]
    alike = [
        {task: by_rule[policy, task in early][task] for task in sorted(whole | early)}
        for policy in (one, other)
    ]
    return alike[0], alike[1], sorted(early), sorted((seen[0] & seen[1]) - whole - early)


def difference_record(one: Mapping[str, Count], other: Mapping[str, Count]) -> Record:
    """Two policies beside each other, by task and over the tasks that both were judged at.

    The intervals of the tasks hold at once with 95 %: each is as wide as Bonferroni's inequality asks for.
    """
    shared = sorted(task for task in one.keys() & other.keys() if one[task][1] and other[task][1])
    z = simultaneous_z(len(shared))
    mean = mean_difference([(one[task], other[task]) for task in shared])
    return {
        "tasks": {
            task: {
                "one": _count(one[task]),
                "other": _count(other[task]),
                "difference": _estimate(rate_difference(one[task], other[task], z=z)),
                "episodes_still_needed": episodes_still_needed(one[task], other[task]),
            }
            for task in shared
        },
        "mean": _estimate(mean),
        "told_apart": mean is not None and not mean.low <= 0.0 <= mean.high,
        "corrected_for": len(shared),
    }


def _count(count: Count) -> Record:
    return {"successes": count[0], "episodes": count[1]}


def _estimate(found: Estimate | None) -> Record | None:
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high}
