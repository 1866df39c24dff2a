"""Robot episodes that are used up: people are told once.

The day's episodes are those of any twenty-four hours, and of all iterations together, so one more may begin
whenever an old one is a day ago. That would be told again after each; it is told once in a day.
"""

from datetime import datetime

from sqlalchemy.orm import Session

from daemon.scheduling.budgets import BUDGET_DAY
from daemon.scheduling.hours import Closed
from storage import events
from storage.db import serialise

ROBOT_BUDGET_SPENT = "robot_budget_spent"


def untold(session: Session, iteration_id: str, *, found: Closed, now: datetime) -> bool:
    """Whether robots wait, or an iteration goes on without, for want of episodes, and nobody was told yet."""
    if found.spent is None or (found.until is not None and now >= found.until):  # over by now
        return False
    facts = {"why": found.why, "spent": found.spent}
    if found.spent == "iteration":
        facts["iteration_id"] = iteration_id
    last = events.newest_of(session, (ROBOT_BUDGET_SPENT,), facts=facts)
    return last is None or (found.spent == "day" and now >= last.at + BUDGET_DAY)


def tell_episodes_spent(session: Session, iteration_id: str, *, found: Closed, now: datetime) -> str | None:
    """Tell of it, if nobody was told yet.

    Returns:
        A phrase for the log when it was told now.
    """
    if found.spent is None:
        return None
    serialise(session, ROBOT_BUDGET_SPENT)  # robots side by side find it out at once
    if not untold(session, iteration_id, found=found, now=now):
        return None
    facts = {"why": found.why, "spent": found.spent, "reason": str(found), "iteration_id": iteration_id}
    events.note(session, ROBOT_BUDGET_SPENT, at=now, facts=facts, iteration_id=iteration_id)
    return f"robots wait reason={found}"
