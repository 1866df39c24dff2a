"""Alarms: the real success of a policy that did not change has changed, so the robot or its scene has.

Each policy is watched at each task on each station, and apart where a judge may end episodes early: to end
them otherwise changes the rate of a policy, and no robot. Nothing is kept: the alarms are those that the
episodes raise, with the verdicts that count today; what an alarm is, is in `change_point`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from daemon.change_point import Change, changes
from storage import end_rules, outcomes
from storage.outcomes import JudgedEpisode
from storage.tables import CheckpointRow, IterationRow

Record = dict[str, Any]
Watched = tuple[str, str, str, bool]  # policy, task, station, whether a judge may end its episodes


def alarms_of(
    session: Session, policies: Sequence[CheckpointRow], *, until_iteration: int | None = None
) -> list[Record]:
    """Every alarm of these policies, the newest first, in three queries, four where episodes end early.

    Episodes of the trial that promoted a policy are left out: it was promoted for doing well there, and every
    later episode would look like a fall beside them.
    """
    numbers = {row.id: row.number for row in policies}
    promoted = outcomes.promoted_in(session, numbers)
    judged = outcomes.judged_episodes(session, numbers, until_iteration=until_iteration)
    rules = end_rules.of_numbers(session, {episode.iteration for episode in judged})
    watched: dict[Watched, list[JudgedEpisode]] = {}
    for episode in judged:
        if episode.iteration > promoted.get(episode.policy, 0):
            early = rules[episode.iteration].ends_early(episode.task)
            watched.setdefault((episode.policy, episode.task, episode.station, early), []).append(episode)
    found = [
        {"policy": key[0], "policy_number": numbers[key[0]], "task": key[1], "station": key[2], **alarm}
        for key, episodes in sorted(watched.items())
        for alarm in _alarms(episodes)
    ]
    return sorted(found, key=lambda alarm: alarm["noticed_at"], reverse=True)


def alarms_of_iteration(session: Session, row: IterationRow) -> list[Record]:
    """The alarms that episodes of this iteration raised."""
    policies = outcomes.policies_of(session, row.id)
    found = alarms_of(session, policies, until_iteration=row.number)
    return [alarm for alarm in found if alarm["iteration"] == row.number]


def _alarms(episodes: Sequence[JudgedEpisode]) -> Iterable[Record]:
    for change in changes([episode.success for episode in episodes]):
        yield _record(change, episodes)


def _record(change: Change, episodes: Sequence[JudgedEpisode]) -> Record:
    first, last = episodes[change.at], episodes[change.noticed]
    return {
        "direction": "fell" if change.fell else "rose",
        "iteration": last.iteration,
        "noticed_at": last.started_at,
        "noticed_by": last.id,
        "changed_at": first.started_at,
        "changed_by": first.id,
        "before": {"successes": change.before[0], "episodes": change.before[1]},
        "after": {"successes": change.after[0], "episodes": change.after[1]},
        "statistic": change.statistic,
    }
