"""What iterations cost and what they gained: hours of robots, workers and devices, judges' money, success.

The gain of an iteration is its success minus that of the one of its lineage before it that was judged, as the
mean over the tasks that both were judged at; a task whose episodes a judge could end early in the one and not
in the other is left out (`storage.end_rules`). It is owed to what was collected before, so it is told per
robot hour of the lineage's iterations that it is compared across: from the one before up to, and without,
this one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from daemon.comparison import mean_difference
from daemon.statistics import Estimate
from daemon.success import Counts, success_of
from storage import end_rules, ledger, lineages
from storage.end_rules import EndRule, same_rule
from storage.ledger import Spent

Record = dict[str, Any]
Named = tuple[str, int]  # an iteration's id and number

HOUR_S = 3600.0
ESTIMATE = ("value", "low", "high")


NO_GAIN: Record = {"compared_with": None, "gain": None, "gain_per_robot_hour": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Use and success of some iterations, newest first, each with its lineage."""

    iterations: Sequence[Named]
    lineages: Mapping[str, str]
    spent: Mapping[str, Spent]
    success: Mapping[str, Counts]
    rules: Mapping[str, EndRule]

    @property
    def judged(self) -> list[Named]:
        """Those that have a judged episode."""
        return [named for named in self.iterations if self.success[named[0]]]

    def before(self, after: Named) -> Named | None:
        """The newest judged one of the same lineage before this one."""
        own = (named for named in self._beside(after) if self.success[named[0]])
        return next((named for named in own if named[1] < after[1]), None)

    def gain(self, before: Named, after: Named) -> Record:
        """What the one has over the other."""
        old, new = self.success[before[0]], self.success[after[0]]
        rules = self.rules[before[0]], self.rules[after[0]]
        alike = [task for task in sorted(old.keys() & new.keys()) if same_rule(*rules, task=task)]
        gain = mean_difference([(old[task], new[task]) for task in alike])
        between = [id_ for id_, number in self._beside(after) if before[1] <= number < after[1]]
        hours = sum(self.spent[id_].robot_seconds for id_ in between) / HOUR_S
        return {
            "compared_with": before[1],
            "gain": _estimate(gain, hours=1.0),
            "gain_per_robot_hour": _estimate(gain, hours=hours) if hours > 0.0 else None,
        }

    def _beside(self, named: Named) -> list[Named]:
        """Those of its lineage."""
        return [one for one in self.iterations if self.lineages[one[0]] == self.lineages[named[0]]]


def ledger_of(session: Session, iterations: Sequence[Named]) -> list[Record]:
    """What each of these iterations cost and gained; newest first, as they are given."""
    if not iterations:
        return []
    of = lineages.of_iterations(session, [iteration_id for iteration_id, _ in iterations])
    oldest = {of[iteration_id]: number for iteration_id, number in iterations}  # the last one counts
    earlier = [ledger.judged_before(session, number, lineage=name) for name, number in oldest.items()]
    books = _books(session, [*iterations, *(named for named in earlier if named)])
    records: list[Record] = []
    for named in iterations:
        before = books.before(named)
        gain = NO_GAIN if before is None else books.gain(before, named)
        records.append({"iteration": named[1], **asdict(books.spent[named[0]]), **gain})
    return records


def total_of(session: Session, iterations: Sequence[Named]) -> Record:
    """All of these together; the gain is that of the newest judged one over the oldest, of one lineage."""
    books = _books(session, iterations)
    every, judged = list(books.spent.values()), books.judged
    compared = len(judged) > 1 and len(set(books.lineages.values())) == 1
    return {
        "robot_episodes": sum(one.robot_episodes for one in every),
        "robot_seconds": sum(one.robot_seconds for one in every),
        "worker_seconds": _added([one.worker_seconds for one in every]),
        "device_seconds": _added([one.device_seconds for one in every]),
        "judge_requests": sum(one.judge_requests for one in every),
        "judge_usd": sum(one.judge_usd for one in every),
        **(books.gain(judged[-1], judged[0]) if compared else NO_GAIN),
    }


def flattened(records: Sequence[Record]) -> list[Record]:
    """The same as rows of plain columns, all alike: what nests becomes `worker_seconds.collect`, `gain.low`.

    Phases and devices that are in none of the records have no column.
    """
    inner: dict[str, Sequence[str]] = dict.fromkeys(("gain", "gain_per_robot_hour"), ESTIMATE)
    for name in ("worker_seconds", "device_seconds"):
        inner[name] = sorted({key for record in records for key in record[name]})
    return [_row(record, inner) for record in records]


def _row(record: Record, inner: Mapping[str, Sequence[str]]) -> Record:
    row: Record = {}
    for name, value in record.items():
        if name in inner:
            row |= {f"{name}.{key}": (value or {}).get(key) for key in inner[name]}
        else:
            row[name] = value
    return row


def _added(seconds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sum for each name, by name."""
    names = sorted({name for one in seconds for name in one})
    return {name: sum(one.get(name, 0.0) for one in seconds) for name in names}


def _books(session: Session, iterations: Sequence[Named]) -> Books:
    ids = [iteration_id for iteration_id, _ in iterations]
    return Books(
        iterations=iterations,
        lineages=lineages.of_iterations(session, ids),
        spent=ledger.spent(session, ids),
        success=success_of(session, ids),
        rules=end_rules.of_iterations(session, ids),
    )


def _estimate(found: Estimate | None, *, hours: float) -> Record | None:
    if found is None:
        return None
    return {"value": found.value / hours, "low": found.low / hours, "high": found.high / hours}
