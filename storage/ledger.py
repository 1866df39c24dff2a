"""What iterations have used: time of robots, of workers by phase, of devices; judges' requests and money."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.device_time import LEARNING, UNKNOWN_DEVICE, ended
from storage.durations import seconds_between
from storage.success_tables import SuccessCountRow
from storage.tables import IterationRow, MetricSummaryRow, PhaseRunRow

JUDGE_REQUESTS: Final = "judge_requests"  # metrics of phase runs: totals of the iteration until then
JUDGE_USD: Final = "judge_usd"


@dataclass(slots=True, kw_only=True)
class Spent:
    """One iteration's use. Worker seconds are those of every attempt, by phase.

    Device seconds are the same of the learning phases alone, by the device's name; those of attempts that
    nobody noted a device of are `UNKNOWN_DEVICE`'s.
    """

    robot_episodes: int = 0
    robot_seconds: float = 0.0
    worker_seconds: dict[str, float] = field(default_factory=dict)
    device_seconds: dict[str, float] = field(default_factory=dict)
    judge_requests: int = 0
    judge_usd: float = 0.0


def spent(session: Session, iteration_ids: Collection[str]) -> dict[str, Spent]:
    """What each of these iterations has used, in three queries for all of them.

    An attempt that still runs, or was given up, counts until its last heartbeat.
    """
    found = {iteration_id: Spent() for iteration_id in iteration_ids}
    _add_robot(session, found)
    _add_workers(session, found)
    _add_judges(session, found)
    return found


def judged_before(session: Session, number: int, *, lineage: str) -> tuple[str, int] | None:
    """Id and number of the newest iteration of a lineage before this one that has a judged episode."""
    query = (
        sa.select(IterationRow.id, IterationRow.number)
        .join(SuccessCountRow, SuccessCountRow.iteration_id == IterationRow.id)
        .where(IterationRow.number < number, IterationRow.lineage == lineage, SuccessCountRow.judged > 0)
        .order_by(IterationRow.number.desc())
        .limit(1)
    )
    row = session.execute(query).first()
    return None if row is None else (row.id, row.number)


def _add_robot(session: Session, found: dict[str, Spent]) -> None:
    table = SuccessCountRow
    episodes = sa.func.sum(table.judged + table.unlabelled + table.invalid)
    query = (
        sa.select(table.iteration_id, episodes, sa.func.sum(table.robot_seconds))
        .where(table.iteration_id.in_(found))
        .group_by(table.iteration_id)
    )
    for iteration_id, count, seconds in session.execute(query):
        found[str(iteration_id)].robot_episodes = int(count)
        found[str(iteration_id)].robot_seconds = float(seconds)


def _add_workers(session: Session, found: dict[str, Spent]) -> None:
    run = PhaseRunRow
    seconds = sa.func.sum(seconds_between(run.started_at, ended()))
    query = (
        sa.select(run.iteration_id, run.phase, run.device, seconds)
        .where(run.iteration_id.in_(found), run.started_at.is_not(None))
        .group_by(run.iteration_id, run.phase, run.device)
    )
    for iteration_id, phase, device, took_s in session.execute(query):
        _add(found[iteration_id].worker_seconds, phase, took_s)
        if phase in LEARNING:
            _add(found[iteration_id].device_seconds, device or UNKNOWN_DEVICE, took_s)


def _add(seconds: dict[str, float], name: str, more: float | None) -> None:
    seconds[name] = seconds.get(name, 0.0) + float(more or 0.0)


def _add_judges(session: Session, found: dict[str, Spent]) -> None:
    """Runs of one iteration note the same growing totals, so the highest is the newest."""
    metric = MetricSummaryRow
    query = (
        sa.select(PhaseRunRow.iteration_id, metric.name, sa.func.max(metric.value))
        .join(PhaseRunRow, PhaseRunRow.id == metric.phase_run_id)
        .where(PhaseRunRow.iteration_id.in_(found), metric.name.in_((JUDGE_REQUESTS, JUDGE_USD)))
        .group_by(PhaseRunRow.iteration_id, metric.name)
    )
    for iteration_id, name, value in session.execute(query):
        if name == JUDGE_REQUESTS:
            found[iteration_id].judge_requests = int(value)
        else:
            found[iteration_id].judge_usd = float(value)
