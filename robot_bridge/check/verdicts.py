"""What a bring-up check found: one verdict per item, and the report they make, as JSON and as text.

Nothing here touches a robot.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

Verdict: TypeAlias = Literal["passed", "failed", "skipped"]
Number: TypeAlias = float | int | str | bool

PASSED, FAILED, INCOMPLETE = 0, 1, 2  # exit statuses
SCHEMA: Final = "station-check/1"
MARKS: Final[dict[Verdict, str]] = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line of the list: what was looked at, how it was, why, and the numbers behind it."""

    name: str
    verdict: Verdict
    found: str
    numbers: dict[str, Number] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """All items of one check, in the order they were looked at.

    `allowed_to_move` is whether somebody agreed to motion; `dry_run` whether none was wanted.
    """

    robot_model: str
    software_digest: str
    renderer: str
    started_at: datetime
    ended_at: datetime
    dry_run: bool
    allowed_to_move: bool
    items: tuple[Item, ...]

    @property
    def failed(self) -> tuple[Item, ...]:
        """The items that did not pass."""
        return tuple(item for item in self.items if item.verdict == "failed")

    @property
    def exit_status(self) -> int:
        """0: nothing failed; 1: something did; 2: nothing failed, but motion was wanted and not allowed."""
        if self.failed:
            return FAILED
        return PASSED if self.allowed_to_move or self.dry_run else INCOMPLETE

    def json_text(self) -> str:
        """The report as JSON."""
        tree = {
            "schema": SCHEMA,
            **asdict(self),
            "started_at": self.started_at.isoformat(),
            "ended_at": self.ended_at.isoformat(),
            "exit_status": self.exit_status,
        }
        return json.dumps(tree, indent=2) + "\n"

    def text(self) -> str:
        """The report as Markdown."""
        head = [
            f"# Bring-up check of {self.robot_model}: {self._summary()}",
            "",
            f"- software `{self.software_digest[:16]}`, pictures from {self.renderer}",
            f"- {self.started_at.isoformat()} to {self.ended_at.isoformat()}",
            f"- motion: {self._motion()}",
            "",
            "| item | verdict | found | numbers |",
            "|---|---|---|---|",
        ]
        rows = [
            f"| {item.name} | {MARKS[item.verdict]} | {_cell(item.found)} | {_cell(_numbers(item))} |"
            for item in self.items
        ]
        return "\n".join([*head, *rows, "", SAFETY_NOTE, ""])

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Put `check.json` and `check.md` into a folder; gives both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = folder / "check.json", folder / "check.md"
        for path, text in zip(paths, (self.json_text(), self.text()), strict=True):
            unfinished = path.with_name(path.name + ".new")
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)
        return paths

    def _summary(self) -> str:
        count = {verdict: sum(item.verdict == verdict for item in self.items) for verdict in MARKS}
        return ", ".join(f"{count[verdict]} {verdict}" for verdict in MARKS)

    def _motion(self) -> str:
        if self.dry_run:
            return "none, a dry run"
        return "allowed, at most 1 cm and 5 degrees from home" if self.allowed_to_move else "not allowed"


SAFETY_NOTE: Final = (
    "A passed check is no safety certificate: the emergency stop of a station is software. Keep the switch "
    "of the arm's power within reach; without power the arm falls."
)


def _numbers(item: Item) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in item.numbers.items()
    )


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
