"""What iterations cost and what they gained: robot hours, workers' hours, judges' money, success.

The gain of an iteration is its success minus that of the one before it that was judged, as the mean over the
tasks that both were judged at. It is owed to what was collected before, so it is told per robot hour of the
iterations that it is compared across: from the one before up to, and without, this one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy.orm import Session

from daemon.comparison import mean_difference
from daemon.statistics import Estimate
from daemon.success import Counts, success_of
from storage import ledger
from storage.ledger import Spent

Record = dict[str, Any]
Named = tuple[str, int]  # an iteration's id and number

HOUR_S = 3600.0


def ledger_of(session: Session, iterations: Sequence[Named]) -> list[Record]:
    """What each of these iterations cost and gained; newest first, as they are given."""
    if not iterations:
        return []
    earlier = ledger.judged_before(session, min(number for _, number in iterations))
    every = [*iterations, *([earlier] if earlier else [])]
    ids = [iteration_id for iteration_id, _ in every]
    spent, success = ledger.spent(session, ids), success_of(session, ids)
    records: list[Record] = []
    for place, (iteration_id, number) in enumerate(iterations):
        before = next(((id_, n) for id_, n in every[place + 1 :] if success[id_]), None)
        gain = None if before is None else _gain(before, (iteration_id, number), every, spent, success)
        records.append({"iteration": number, **asdict(spent[iteration_id]), **(gain or NO_GAIN)})
    return records


NO_GAIN: Record = {"compared_with": None, "gain": None, "gain_per_robot_hour": None}


def total_of(session: Session, iterations: Sequence[Named]) -> Record:
    """All of these together; the gain is that of the newest judged one over the oldest."""
    ids = [iteration_id for iteration_id, _ in iterations]
    spent, success = ledger.spent(session, ids), success_of(session, ids)
    phases = {phase for one in spent.values() for phase in one.worker_seconds}
    judged = [(iteration_id, number) for iteration_id, number in iterations if success[iteration_id]]
    gain = None if len(judged) < 2 else _gain(judged[-1], judged[0], iterations, spent, success)
    return {
        "robot_episodes": sum(one.robot_episodes for one in spent.values()),
        "robot_seconds": sum(one.robot_seconds for one in spent.values()),
        "worker_seconds": {
            phase: sum(one.worker_seconds.get(phase, 0.0) for one in spent.values())
            for phase in sorted(phases)
        },
        "judge_requests": sum(one.judge_requests for one in spent.values()),
        "judge_usd": sum(one.judge_usd for one in spent.values()),
        **(gain or NO_GAIN),
    }


def _gain(
    before: Named,
    after: Named,
    every: Sequence[Named],
    spent: Mapping[str, Spent],
    success: Mapping[str, Counts],
) -> Record:
    old, new = success[before[0]], success[after[0]]
    gain = mean_difference([(old[task], new[task]) for task in old.keys() & new.keys()])
    seconds = sum(spent[id_].robot_seconds for id_, number in every if before[1] <= number < after[1])
    return {
        "compared_with": before[1],
        "gain": _estimate(gain, hours=1.0),
        "gain_per_robot_hour": _estimate(gain, hours=seconds / HOUR_S) if seconds > 0.0 else None,
    }


def _estimate(found: Estimate | None, *, hours: float) -> Record | None:
    if found is None:
        return None
    return {"value": found.value / hours, "low": found.low / hours, "high": found.high / hours}
