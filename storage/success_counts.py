"""Successes counted once, when an episode or a verdict comes in, and read by every question about rates.

A count is made anew from the episodes whenever one of them, or a verdict on one, is added; so it cannot drift
away from them. Only collected episodes count. Intervals are the daemon's business.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.durations import seconds_between
from storage.errors import CursorInvalid
from storage.lineages import in_lineage
from storage.success_marks import begin_change
from storage.success_tables import SuccessCountRow
from storage.tables import CheckpointRow, EpisodeRow, IterationRow
from storage.verdict_order import effective_success

KEYS: Final = ("iteration_id", "task_id", "station_id", "checkpoint_id")
COUNTS: Final = ("successes", "judged", "unlabelled", "invalid", "robot_seconds")
SUMS: Final = (sa.func.sum(SuccessCountRow.successes), sa.func.sum(SuccessCountRow.judged))
GROUPINGS: Final = ("iteration", "task", "policy", "station")


class PolicyCount(NamedTuple):
    """Successes and judged episodes of one policy at one task in one iteration, at one station or all."""

    iteration_id: str
    checkpoint_id: str | None
    task_id: str
    successes: int
    judged: int
    station_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountQuery:
    """Which episodes are counted, and what they are kept apart by.

    Attributes:
        by: some of GROUPINGS; none counts everything together.
        since, until: only episodes that began in [since, until). Then every episode in that time is looked
            at; without either the counts that are kept are added up.
        lineage: only episodes of iterations of this lineage.
    """

    by: Sequence[str] = ()
    lineage: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One group of episodes. What the groups are not kept apart by is None.

    `by_task` holds successes and judged episodes of each of its tasks, sorted by these; `groups` is how many
    groups the whole question has.
    """

    iteration: int | None
    task: str | None
    policy: str | None
    policy_number: int | None
    station: str | None
    successes: int
    judged: int
    unlabelled: int
    invalid: int
    robot_seconds: float
    by_task: tuple[tuple[int, int], ...]
    groups: int


def refresh(session: Session, *, iteration_id: str | None, task_id: str) -> None:
    """Count the episodes of one task of one iteration again; callers at once wait for each other."""
    begin_change(session)
    kept = [_equal(SuccessCountRow.iteration_id, iteration_id), SuccessCountRow.task_id == task_id]
    session.execute(sa.delete(SuccessCountRow).where(*kept).execution_options(synchronize_session=False))
    _count_into_table(session, _equal(EpisodeRow.iteration_id, iteration_id), EpisodeRow.task_id == task_id)


def rebuild(session: Session) -> None:
    """Count everything again, as after rows were brought in past this module."""
    begin_change(session)
    session.execute(sa.delete(SuccessCountRow).execution_options(synchronize_session=False))
    _count_into_table(session)


def of_iterations(session: Session, iteration_ids: Collection[str]) -> list[PolicyCount]:
    """What each policy did in these iterations, task by task; the policy that is older comes first."""
    table = SuccessCountRow
    query = (
        sa.select(table.iteration_id, table.checkpoint_id, table.task_id, *SUMS)
        .outerjoin(CheckpointRow, CheckpointRow.id == table.checkpoint_id)
        .where(table.iteration_id.in_(iteration_ids))
        .group_by(table.iteration_id, table.checkpoint_id, table.task_id, CheckpointRow.number)
        .order_by(CheckpointRow.number, table.task_id)
    )
    return [
        PolicyCount(str(iteration_id), policy, task, int(successes), int(judged))
        for iteration_id, policy, task, successes, judged in session.execute(query)
    ]


def by_iteration(
    session: Session, checkpoint_ids: Collection[str], *, lineage: str | None = None
) -> list[PolicyCount]:
    """What each of these policies did in each iteration of a lineage, or of all, by task and station.

    What no iteration collected has the empty iteration_id.
    """
    table = SuccessCountRow
    keys = (table.iteration_id, table.checkpoint_id, table.task_id, table.station_id)
    query = sa.select(*keys, *SUMS).where(table.checkpoint_id.in_(checkpoint_ids)).group_by(*keys)
    if lineage is not None:
        query = query.where(in_lineage(table.iteration_id, lineage))
    return [
        PolicyCount(iteration_id or "", policy, task, int(successes), int(judged), station)
        for iteration_id, policy, task, station, successes, judged in session.execute(query)
    ]


def of_policies(session: Session, checkpoint_ids: Collection[str]) -> dict[str, dict[str, tuple[int, int]]]:
    """Policy to task to successes and judged episodes; every policy that is asked for has an entry."""
    found: dict[str, dict[str, tuple[int, int]]] = {policy: {} for policy in checkpoint_ids}
    policy, task = SuccessCountRow.checkpoint_id, SuccessCountRow.task_id
    query = sa.select(policy, task, *SUMS).where(policy.in_(checkpoint_ids)).group_by(policy, task)
    for checkpoint_id, task_id, successes, judged in session.execute(query):
        found[str(checkpoint_id)][task_id] = (int(successes), int(judged))
    return found


def by_task(
    session: Session, *, iteration_id: str, checkpoint_id: str | None = None
) -> dict[str, tuple[int, int]]:
    """Task to successes and judged episodes of an iteration; a task without a judged episode has no entry.

    Args:
        checkpoint_id: of episodes that this policy acted in alone.
    """
    table = SuccessCountRow
    which = [table.iteration_id == iteration_id]
    which += [table.checkpoint_id == checkpoint_id] if checkpoint_id is not None else []
    judged = sa.func.sum(table.judged)
    query = sa.select(table.task_id, sa.func.sum(table.successes), judged).where(*which)
    found = session.execute(query.group_by(table.task_id).having(judged > 0).order_by(table.task_id))
    return {task: (int(successes), int(episodes)) for task, successes, episodes in found}


def grouped(
    session: Session, asked: CountQuery, *, cursor: str | None = None, limit: int = 50
) -> tuple[list[Counted], str | None]:
    """A page of counts, newest iteration first, then by task, newest policy and station, and the next cursor.

    One query. Iterations that are new since the first page do not move the pages after it.

    Raises:
        CursorInvalid: the cursor is not one that this function returned.
    """
    begin, newest = _place_of(cursor)
    query = _grouped(asked, newest=newest).offset(begin).limit(limit + 1)
    rows = [_counted(row) for row in session.execute(query).mappings()]
    if len(rows) <= limit:
        return rows, None
    if newest is None:
        newest = session.scalar(sa.select(sa.func.max(IterationRow.number))) or 0
    return rows[:limit], f"{begin + limit}~{newest}"


def _grouped(asked: CountQuery, *, newest: int | None) -> sa.Select[Any]:
    """Tasks are added up in a first step, so that the second one can also tell them one by one."""
    source = _source(asked)
    iteration, policy = sa.orm.aliased(IterationRow), sa.orm.aliased(CheckpointRow)
    columns: dict[str, Any] = {
        "iteration": iteration.number if "iteration" in asked.by else sa.null(),
        "task": source.c.task_id if "task" in asked.by else sa.null(),
        "policy": source.c.checkpoint_id if "policy" in asked.by else sa.null(),
        "policy_number": policy.number if "policy" in asked.by else sa.null(),
        "station": source.c.station_id if "station" in asked.by else sa.null(),
    }
    apart = [column for column in columns.values() if not isinstance(column, sa.Null)]
    by_task = (
        sa.select(
            *(column.label(name) for name, column in columns.items()),
            *(sa.func.sum(source.c[name]).label(name) for name in COUNTS),
        )
        .select_from(source)
        .group_by(*apart, source.c.task_id)
    )
    if "policy" in asked.by:
        by_task = by_task.outerjoin(policy, policy.id == source.c.checkpoint_id)
    if "iteration" in asked.by or newest is not None:
        by_task = by_task.outerjoin(iteration, iteration.id == source.c.iteration_id)
    if asked.lineage is not None:
        by_task = by_task.where(in_lineage(source.c.iteration_id, asked.lineage))
    if newest is not None:
        by_task = by_task.where(sa.or_(iteration.number.is_(None), iteration.number <= newest))
    inner = by_task.subquery("by_task")
    told = sa.cast(inner.c.successes, sa.String) + "/" + sa.cast(inner.c.judged, sa.String)
    keys = [inner.c[name] for name in columns]
    return (
        sa.select(
            *keys,
            *(sa.func.sum(inner.c[name]).label(name) for name in COUNTS),
            sa.func.aggregate_strings(told, ",").label("by_task"),
            sa.func.count().over().label("groups"),
        )
        .group_by(*keys)
        .order_by(
            inner.c.iteration.desc().nulls_last(),
            inner.c.task,
            inner.c.policy_number.desc().nulls_last(),
            inner.c.station,
        )
    )


def _source(asked: CountQuery) -> sa.FromClause:
    if asked.since is None and asked.until is None:
        return SuccessCountRow.__table__
    which = []
    if asked.since is not None:
        which.append(EpisodeRow.started_at >= asked.since)
    if asked.until is not None:
        which.append(EpisodeRow.started_at < asked.until)
    return _counts_of_episodes(*which).subquery("counted")


def _count_into_table(session: Session, *which: sa.ColumnElement[bool]) -> None:
    session.execute(
        sa.insert(SuccessCountRow).from_select([*KEYS, *COUNTS], _counts_of_episodes(*which)),
        execution_options={"synchronize_session": False},
    )


def _counts_of_episodes(*which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """The columns of the table, counted from the episodes themselves."""
    seen = (
        sa.select(
            *(getattr(EpisodeRow, name) for name in KEYS),
            EpisodeRow.valid_for_policy_eval.label("valid"),
            effective_success().label("success"),
            seconds_between(EpisodeRow.started_at, EpisodeRow.ended_at).label("seconds"),
        )
        .where(EpisodeRow.origin == "collect", *which)
        .subquery("seen")
    )
    valid, success = seen.c.valid.is_(True), seen.c.success
    return sa.select(
        *(seen.c[name] for name in KEYS),
        _how_many(valid & success.is_(True)).label("successes"),
        _how_many(valid & success.is_not(None)).label("judged"),
        _how_many(valid & success.is_(None)).label("unlabelled"),
        _how_many(~valid).label("invalid"),
        sa.func.sum(seen.c.seconds).label("robot_seconds"),
    ).group_by(*(seen.c[name] for name in KEYS))


def _how_many(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((condition, 1), else_=0))


def _equal(column: Any, value: str | None) -> sa.ColumnElement[bool]:
    found: sa.ColumnElement[bool] = column.is_(None) if value is None else column == value
    return found


def _counted(row: sa.RowMapping) -> Counted:
    parts = (part.split("/") for part in row["by_task"].split(","))
    keys = {name: row[name] for name in ("iteration", "task", "policy", "policy_number", "station")}
    return Counted(
        **keys,
        successes=int(row["successes"]),
        judged=int(row["judged"]),
        unlabelled=int(row["unlabelled"]),
        invalid=int(row["invalid"]),
        robot_seconds=float(row["robot_seconds"]),
        by_task=tuple(sorted((int(successes), int(judged)) for successes, judged in parts)),
        groups=row["groups"],
    )


def _place_of(cursor: str | None) -> tuple[int, int | None]:
    if cursor is None:
        return 0, None
    begin, separator, newest = cursor.partition("~")
    if not separator or not all(n.isascii() and n.isdigit() and len(n) <= 9 for n in (begin, newest)):
        raise CursorInvalid(cursor=cursor)
    return int(begin), int(newest)
