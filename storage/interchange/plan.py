"""What an export is to be, as it is written down when it begins, and why another one cannot go on with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from storage.interchange.query import Standing, Wanted
from storage.interchange.writer import Option

SCHEMA: Final = "gymnastd-export-plan/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an export is to be. Two that are equal but for `began_at` make the same files."""

    format: str
    version: int
    options: dict[str, Option]
    wanted: Wanted
    began_at: datetime

    def tree(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"schema": SCHEMA, **asdict(self), "began_at": self.began_at.isoformat()}

    @classmethod
    def of(cls, tree: dict[str, Any]) -> Self:
        """Back from `tree`."""
        wanted = tree["wanted"]
        episodes = tuple(
            Standing(**{**each, "verdicts": tuple(each["verdicts"])}) for each in wanted["episodes"]
        )
        return cls(
            format=tree["format"],
            version=tree["version"],
            options=tree["options"],
            wanted=Wanted(query=wanted["query"], episodes=episodes),
            began_at=datetime.fromisoformat(tree["began_at"]),
        )

    def differences(self, now: Plan, *, standing: Callable[[], Iterable[Standing]]) -> list[str]:
        """Why `now` cannot go on with this one. What is new is no reason: it came too late.

        Args:
            standing: tells how every episode stands now, whatever the query; asked only if the rest is equal.
        """
        pairs: dict[str, tuple[object, object]] = {
            "the format": (self.format, now.format),
            "the version of its layout": (self.version, now.version),
            "the query": (self.wanted.query or "(all)", now.wanted.query or "(all)"),
        }
        for name in sorted({*self.options, *now.options}):
            pairs[f"the option {name}"] = (self.options.get(name), now.options.get(name))
        told = [f"{what} was {old}, is {new}" for what, (old, new) in pairs.items() if old != new]
        return told or self._changes(standing())

    def _changes(self, standing: Iterable[Standing]) -> list[str]:
        now = {each.episode_id: each for each in standing}
        told = (_change(each, now.get(each.episode_id)) for each in self.wanted.episodes)
        return [each for each in told if each]


def _change(old: Standing, new: Standing | None) -> str:
    """What happened to an episode since; empty where nothing did."""
    name = f"episode {old.episode_id}"
    if new is None:
        return f"{name} was withdrawn"
    pairs = {
        "held_out": (old.held_out, new.held_out),
        "digest": (old.digest, new.digest),
    }
    told = [f"{key} was {then}, is {now}" for key, (then, now) in pairs.items() if then != now]
    gone = len({*old.verdicts} - {*new.verdicts})
    if gone:
        told.append(f"{gone} of its {len(old.verdicts)} verdicts are gone")
    return f"{name}: {', '.join(told)}" if told else ""


def read_plan(path: Path) -> tuple[Plan | None, str]:
    """The plan that was followed; None, and why, where it does not read."""
    try:
        tree = json.loads(path.read_bytes())
        found = tree["schema"]
        begun = Plan.of(tree) if found == SCHEMA else None
    except (ValueError, TypeError, KeyError) as error:
        return None, f"its journal {path} does not read: {error}"
    if begun is None:
        return None, f"the schema of its journal was {found}, is {SCHEMA}"
    return begun, ""
