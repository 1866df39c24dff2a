"""Tells once of every alarm that real episodes raise; what alarms are is in `daemon/alarms.py`.

Alarms are not kept, but computed from the verdicts that count today, so the episode that raises one may be
another tomorrow. What tells two apart is that each begins after the episode that raised the one before it.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.alarms import Record, alarms_of
from storage import events, outcomes
from storage.db import Database
from storage.tables import IterationRow

LOOK_EVERY_S = 60.0
POLICIES = 10  # that are looked at, the newest of those that acted in several iterations
NEWS = timedelta(days=14)  # an alarm from before that is in the list, and is no news

ALARM_RAISED = "alarm_raised"


class AlarmWatch:
    """Looks at alarms when there are new verdicts. One job calls it, one call at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looked_at: tuple[int, int, int] | None = None

    def look(self, now: datetime) -> str | None:
        """Note `alarm_raised` for every alarm that was not told yet; gives a phrase for the log."""
        with self._database.read() as session:
            newest = outcomes.newest_verdict(session)
            if newest == self._looked_at:
                return None
            policies, _ = outcomes.policies_that_stayed(session, limit=POLICIES)
            raised = [alarm for alarm in alarms_of(session, policies) if alarm["noticed_at"] > now - NEWS]
        told = [alarm for alarm in reversed(raised) if self._tell(alarm, now=now)]
        self._looked_at = newest
        return f"alarms raised count={len(told)}" if told else None

    def _tell(self, alarm: Record, *, now: datetime) -> bool:
        """Note an alarm, unless it or a later one of its policy, task and station was told."""
        with self._database.read() as session:
            if not is_news(session, alarm):
                return False
        with self._database.write() as session:
            number = sa.select(IterationRow.id).where(IterationRow.number == alarm["iteration"])
            iteration_id = session.scalars(number).one()
            events.note(session, ALARM_RAISED, at=now, facts=facts_of(alarm), iteration_id=iteration_id)
        return True


def is_news(session: Session, alarm: Record) -> bool:
    """Whether its change began after the episode that raised the last alarm of the same."""
    watched = {name: alarm[name] for name in ("policy", "task", "station")}
    last = events.newest_of(session, (ALARM_RAISED,), facts=watched)
    if last is None:
        return True
    changed_at: datetime = alarm["changed_at"]
    return changed_at > datetime.fromisoformat(last.facts["noticed_at"])


def facts_of(alarm: Record) -> dict[str, object]:
    """What an event tells of an alarm: its record, with the rates in words."""
    before, after = (
        f"{rate['successes']} of {rate['episodes']}" for rate in (alarm["before"], alarm["after"])
    )
    times = {name: alarm[name].isoformat() for name in ("noticed_at", "changed_at")}
    left_out = ("iteration", *times)
    kept = {name: value for name, value in alarm.items() if name not in left_out}
    return {**kept, **times, "rates": f"{before} before, {after} since"}
