"""What every format that goes out has in common: what a writer is, and what it tells of what it wrote."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

Option: TypeAlias = int | str

UNFINISHED: Final = "_unfinished"  # the folder of what belongs to no finished export
PLAN: Final = "plan.json"  # in it: what the export is to be


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file, a folder with all that is in it, or bytes `begin` to `end` of a file; named from the target."""

    name: str
    begin: int = 0
    end: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An episode that is down: its place in the format, its parts, what its writer wants to know again."""

    episode_id: str
    place: str
    parts: tuple[Part, ...]
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How many episodes an export has, how many of them were there before, and how many came too late."""

    episodes: int
    before: int = 0
    later: int = 0


def begun(folder: Path) -> bool:
    """Whether there is an export that can be gone on with, or tidied."""
    return (folder / UNFINISHED / PLAN).is_file()


def staged(episode_id: str) -> str:
    """The name in `_unfinished` of what becomes part of other files in the end."""
    return f"{episode_id}.mp4"


class Writer(ABC):
    """How a format takes episodes: `add` one after the other, then `close`. The seal gets places and notes.

    After an interruption another writer of the same folder does `reopen`, is told by `go_on` what is there,
    and adds the rest. What it makes must not depend on how often that happens, so nothing but `close` may
    write what belongs to several episodes, unless it can be cut off again.

    `version` is raised when a release writes other bytes. `options` are what else those bytes depend on.
    """

    format: ClassVar[str]
    version: ClassVar[int]

    def __init__(self, folder: Path, *, notes: dict[str, str], options: dict[str, Option]) -> None:
        self._folder = folder
        self.notes, self.options = notes, options
        self.places: dict[str, str] = {}

    @abstractmethod
    def add(self, record: Any) -> Written:
        """Write one episode. It may lie there half written already, from a process that was killed."""

    def reopen(self) -> None:  # noqa: B027
        """Take back what `close` may have begun, so that every part has its name again."""

    def go_on(self, done: Sequence[Written]) -> None:
        """Episodes that are whole and will not be added again, in their order."""
        self.places = {each.place: each.episode_id for each in done}

    def close(self, told: Callable[[int, int], None]) -> None:  # noqa: B027
        """Write what takes all episodes to know; may be done again after it was killed.

        Args:
            told: is told how many episodes are gone through, and how many there are, where that takes long.
        """
