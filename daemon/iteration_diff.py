"""What differs between two iterations: what was asked for, with what it was done, and what was measured."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from daemon.iteration import iteration_standing
from daemon.iteration_manifest import iteration_manifest
from storage.phase_runs import PHASES
from storage.tables import IterationRow

MOST_LISTED = 200  # episodes that are named, per list; their number is told in any case
REAL = "real success"
APART = ("episodes", "checkpoints", "iteration", "phase", "format", "spec_digest", "seed")

Document = dict[str, Any]
Change = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two iterations: its manifest, and how it stands, as `daemon.iteration` tells it."""

    manifest: Document
    standing: Mapping[str, Any]


def side_of(session: Session, row: IterationRow) -> Side:
    """An iteration, ready to be compared."""
    return Side(manifest=iteration_manifest(session, row), standing=iteration_standing(session, row))


def iteration_diff(session: Session, before: IterationRow, after: IterationRow) -> Document:
    """Everything that the manifests of two iterations disagree on, and what each of them measured."""
    return difference(side_of(session, before), side_of(session, after))


def difference(old: Side, new: Side) -> Document:
    """The same of two that were read before: manifests name thousands of episodes, so each is read once."""
    manifests = old.manifest, new.manifest
    return {
        "from": old.manifest["number"],
        "to": new.manifest["number"],
        "spec": changes(old.manifest["spec"], new.manifest["spec"]),
        "circumstances": circumstances(*manifests),
        "data": episodes_changed(*manifests),
        "checkpoints": checkpoints_changed(*manifests),
        "measured": measured(old.standing, new.standing),
    }


def changes(old: Any, new: Any) -> list[Change]:
    """Fields with another value, by dotted name; what one side does not have is null there."""
    before, after = dict(_flat(old)), dict(_flat(new))
    return [
        {"field": name, "from": before.get(name), "to": after.get(name)}
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def circumstances(old: Document, new: Document) -> Document:
    """Code, packages, machine, judge and stations, by phase; only of phases that both have."""
    found = {}
    for phase in _both(old, new):
        inputs = (each["phases"][phase]["inputs"] for each in (old, new))
        kept = [{name: part for name, part in each.items() if name not in APART} for each in inputs]
        if differing := changes(kept[0], kept[1]):
            found[phase] = differing
    return found


def episodes_changed(old: Document, new: Document) -> Document:
    """Which episodes each phase read that the other did not, and which it read with other labels."""
    found = {}
    for phase in _both(old, new):
        before, after = (
            {entry["id"]: entry for entry in each["phases"][phase]["inputs"]["episodes"]}
            for each in (old, new)
        )
        relabelled = [
            name for name in before if name in after and before[name]["success"] != after[name]["success"]
        ]
        found[phase] = {
            "added": _listed(name for name in after if name not in before),
            "removed": _listed(name for name in before if name not in after),
            "relabelled": _listed(relabelled),
            "kept": sum(name in after for name in before),
        }
    return found


def checkpoints_changed(old: Document, new: Document) -> list[Change]:
    """Checkpoints that each phase read, and those that it made, where they are not the same."""
    found = []
    for phase in PHASES:
        for what in ("read", "made", "rejected"):
            before, after = (_checkpoints(each, phase, what=what) for each in (old, new))
            for kind in sorted({*before, *after}):
                if before.get(kind) != after.get(kind):
                    change = {"from": before.get(kind), "to": after.get(kind)}
                    found.append({"phase": phase, "what": what, "kind": kind, **change})
    return found


def measured(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What both measured, side by side, real success first: equal or not, since equal is news as well."""
    before, after = (dict(_measurements(record)) for record in (old, new))
    names = sorted({**before, **after}, key=lambda name: not name.startswith(REAL))
    return [{"what": name, "from": before.get(name), "to": after.get(name)} for name in names]


def _measurements(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if record["overall"]["episodes"]:
        every = {_ended(record, task) for task in record["success"]}
        yield f"{REAL}{every.pop() if len(every) == 1 else ', ended by two rules'}", record["overall"]
    for task, rate in record["success"].items():
        yield f"{REAL}, {task}{_ended(record, task)}", rate
    yield from _of_the_world_model(record["world_model"])
    for task, own in sorted((record["judge_audit"] or {}).items()):
        yield f"judge agrees with labels, {task}", own.get("agreement")
    for task, own in sorted(record["imagined_success"].items()):
        yield f"imagined success, {task}", own.get("last")
    for task, reason in sorted(record["tasks_left_out"].items()):
        yield f"left out, {task}", reason
    if record["trial"]:
        yield "trial", record["trial"].get("decision")
        yield "candidate better with probability", record["trial"].get("probability_better")
        if carried := record["trial"].get("carried"):
            yield "trial carried on from iteration", carried["from"]


def _ended(record: Mapping[str, Any], task: str) -> str:
    """What the name of a rate adds where a judge could end its episodes: it is another quantity then."""
    early = record["spec"].get("stop_on_success") and task not in record["full_length"]
    return ", ended on success" if early else ""


def _of_the_world_model(model: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    error, gate, trust = (model[name] or {} for name in ("held_out_error", "gate", "trust"))
    ends = trust.get("overall") or {}
    found = {
        "held-out error": error.get("after"),
        "world model accepted": gate.get("accepted"),
        "trusted steps": trust.get("horizon"),
        "imagined ends, agreement": ends.get("agreement"),
        "imagined ends, optimism": ends.get("optimism"),
    }
    yield from ((name, value) for name, value in found.items() if value is not None)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested objects by dotted name; a list is a leaf."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _both(old: Document, new: Document) -> list[str]:
    return [phase for phase in PHASES if phase in old["phases"] and phase in new["phases"]]


def _checkpoints(manifest: Document, phase: str, *, what: str) -> Mapping[str, Any]:
    document = manifest["phases"].get(phase)
    if document is None:
        return {}
    if what == "read":
        return dict(document["inputs"]["checkpoints"])
    return dict((document["outputs"] or {}).get(what) or {})


def _listed(names: Iterator[str] | list[str]) -> Document:
    every = list(names)
    return {"count": len(every), "ids": every[:MOST_LISTED]}
