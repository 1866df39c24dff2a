"""Whether robots may move and phases begin now, as the store knows it.

That is: robots' hours, what robots and learning phases did, and what a day or an iteration may have.
"""

from datetime import datetime

from sqlalchemy.orm import Session

from daemon.scheduling.budgets import (
    BUDGET_DAY,
    Budgets,
    day_spent,
    device_day_spent,
    device_iteration_spent,
    iteration_spent,
    midnight,
    room,
)
from daemon.scheduling.hours import LOOK_BACK, Closed, RobotHours, closed, opens_at
from daemon.spec import phases_of
from storage import device_time, phase_runs, station_hours
from storage.states import is_final
from storage.tables import IterationRow, PhaseRunRow


def robot_waits(
    session: Session, station_id: str, *, episodes_per_day: int | None, now: datetime
) -> Closed | None:
    """Why this robot may not begin an episode now; None when it may."""
    row = station_hours.get(session, station_id)
    if row is not None:
        moved = station_hours.moved(session, station_id, since=now - LOOK_BACK)
        found = closed(RobotHours.model_validate(row.hours), moved, now=now)
        if found is not None:
            return found
    return _day_spent(session, most=episodes_per_day, now=now)


def iteration_is_spent(session: Session, iteration_id: str, *, most: int | None) -> Closed | None:
    """Whether an iteration has recorded all the episodes that its spec allows."""
    if most is None:
        return None
    return iteration_spent(station_hours.collected(session, iteration_id), most=most)


def episodes_left(
    session: Session, iteration_id: str, *, most: int | None, episodes_per_day: int | None, now: datetime
) -> int | None:
    """How many more episodes the budgets of the iteration and of the day have; None: as many as one likes."""
    left = [room(station_hours.collected(session, iteration_id), most=most)]
    if episodes_per_day is not None:
        day = station_hours.committed(session, since=now - BUDGET_DAY, at_most=episodes_per_day)
        left.append(room(len(day), most=episodes_per_day))
    return min((each for each in left if each is not None), default=None)


def collect_waits(session: Session, *, episodes_per_day: int | None, now: datetime) -> Closed | None:
    """Why no robot could collect now, so that collecting is not begun; None when one might.

    Which robots an iteration will have is known once they answer. Until then they are taken to be those of
    the last collect phase, and before the first one every robot that has hours.
    """
    spent = _day_spent(session, most=episodes_per_day, now=now)
    if spent is not None:
        return spent
    hours = {
        row.station_id: RobotHours.model_validate(row.hours) for row in station_hours.list_hours(session)
    }
    robots = station_hours.last_robots(session) or sorted(hours)
    if not robots or not hours.keys() >= set(robots):
        return None
    opening = {robot: opens_at(hours[robot], now) for robot in robots}
    known = {robot: opens for robot, opens in opening.items() if opens is not None}
    if not known or min(known.values()) <= now:
        return None
    first = min(known, key=lambda robot: known[robot])
    return Closed(
        why=f"{', '.join(robots)} outside of robot hours", until=known[first].astimezone(hours[first].zone)
    )


def learning_waits(session: Session, iteration_id: str, *, budgets: Budgets, now: datetime) -> Closed | None:
    """Why no learning phase of this iteration may go on now; None when it may."""
    most = budgets.device_hours_per_iteration
    if most is not None:
        busy = device_time.learned(session, iteration_id=iteration_id)
        found = device_iteration_spent(busy, most=most)
        if found is not None:
            return found
    most = budgets.device_hours_per_day
    if most is None:
        return None
    return device_day_spent(device_time.learned(session, since=midnight(now)), most=most, now=now)


def phase_waits(
    session: Session, iteration_id: str, *, phase: str, budgets: Budgets, now: datetime
) -> Closed | None:
    """Why this phase of an iteration may not begin now; None when it may."""
    if phase == "collect":
        return collect_waits(session, episodes_per_day=budgets.episodes_per_day, now=now)
    return learning_waits(session, iteration_id, budgets=budgets, now=now)


def next_phase(session: Session, row: IterationRow) -> tuple[str, PhaseRunRow | None] | None:
    """The first phase of an iteration that is not done, with the last attempt at it; None when all are."""
    for phase in phases_of(row.spec):
        run = phase_runs.latest(session, row.id, phase=phase)
        if run is None or run.state not in {"finished", "skipped"}:
            return phase, run
    return None


def waiting_for(session: Session, row: IterationRow, *, budgets: Budgets, now: datetime) -> str | None:
    """What an iteration waits for before its next phase, as a sentence; None when for nothing."""
    left = None if is_final(row) else next_phase(session, row)
    if left is None:
        return None
    phase, run = left
    if run is not None and run.state in phase_runs.OPEN:
        return None
    found = phase_waits(session, row.id, phase=phase, budgets=budgets, now=now)
    return None if found is None else str(found)


def _day_spent(session: Session, *, most: int | None, now: datetime) -> Closed | None:
    if most is None:
        return None
    committed = station_hours.committed(session, since=now - BUDGET_DAY, at_most=most)
    return day_spent(committed, most=most, now=now)
