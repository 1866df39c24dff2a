"""How a robot stands, in words: what its station does, and what somebody has to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass

from daemon.station_watch import Standing

INSTRUCTIONS = {
    "ESTOPPED": "Go to the robot. See that nobody and nothing is in its way, then clear the stop there: "
    "gymnastd clear-estop, on the station's machine.",
    "WAITING_HUMAN": "Do what is asked, then say so at the station: gymnastd station human-done.",
    "FAULT": "A motor or a camera is at fault. Look at the robot and at the station's log.",
    "OFFLINE": "The arm does not answer its station. See to its power and its cable.",
}
SAYS = {
    "IDLE": "is idle",
    "HOMING": "goes home",
    "RESETTING": "puts its scene in order",
    "READY": "is ready for an episode",
    "RUNNING": "runs an episode",
    "HOLD": "holds still: its next action is late",
    "JUDGING": "looks at how an episode ended",
    "RESTING": "rests its motors",
    "WAITING_HUMAN": "waits for a human",
    "ESTOPPED": "is stopped",
    "FAULT": "has a fault",
    "OFFLINE": "is offline",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCard:
    """One robot in words; `todo` is what somebody has to do, and `wants` why."""

    address: str
    says: str
    tone: str
    wants: str | None
    todo: str | None
    facts: Mapping[str, str]


def station_card(standing: Standing) -> StationCard:
    """What one station said, for people."""
    status = standing.status
    if status is None:
        return StationCard(
            address=standing.address,
            says="does not answer",
            tone="bad",
            wants=standing.failure,
            todo="If the robot moves, press its red button. Then see whether its station runs.",
            facts={},
        )
    facts = {}
    if status.lease is not None:
        facts["in the hands of"] = status.lease.holder
    if status.episode is not None:
        facts["episode"] = f"{status.episode.task_id}, step {status.episode.next_step}"
    if status.spooled_episodes:
        facts["episodes to be fetched"] = str(status.spooled_episodes)
    todo = INSTRUCTIONS.get(status.state)
    return StationCard(
        address=standing.address,
        says=SAYS.get(status.state, status.state),
        tone="bad" if todo else "good",
        wants=status.estop_reason or status.waiting_for,
        todo=todo,
        facts=facts,
    )
