"""The waiting episodes of a spool as pages, oldest first. Its files are those of `spool`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from robot_bridge.episode import Manifest
from robot_bridge.errors import BadRequest, SpoolCorrupt, UnknownEpisode
from robot_bridge.protocol import SpoolAnswer, SpooledEpisode

log = logging.getLogger(__name__)

PAGE_MAX: Final = 200
CURSOR: Final = re.compile(r"([0-9]{1,20})~([0-9a-zA-Z][0-9a-zA-Z._-]{0,99})")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Place: TypeAlias = tuple[int, str]  # microseconds of the end since 1970, then the id: unique, and stays
Row: TypeAlias = tuple[Place, SpooledEpisode]
Stamp: TypeAlias = tuple[int, int, int]


class SpoolList:
    """What is listed of every waiting episode. A manifest is read again only when its file changed."""

    def __init__(
        self, manifest_of: Callable[[str], Manifest], *, stamp_of: Callable[[str], Stamp | None]
    ) -> None:
        self._manifest_of = manifest_of
        self._stamp_of = stamp_of
        self._seen: dict[str, tuple[Stamp | None, Row]] = {}
        self._complained: set[str] = set()

    def readable(self, names: Iterable[str]) -> list[str]:
        """The ids of those that read back, oldest first."""
        return [episode.episode_id for _, episode in self._sorted(names)[0]]

    def page(self, names: Iterable[str], after: str | None, *, limit: int) -> SpoolAnswer:
        """The episodes behind the place `after`, and those that do not read back.

        Raises:
            BadRequest: `after` is not a cursor.
        """
        behind = (-1, "") if after is None else _place_of(after)
        listed, unreadable = self._sorted(names)
        left = [(place, episode) for place, episode in listed if place > behind]
        taken = left[: min(max(limit, 1), PAGE_MAX)]
        return SpoolAnswer(
            episodes=tuple(episode for _, episode in taken),
            next_cursor="{}~{}".format(*taken[-1][0]) if len(left) > len(taken) else None,
            unreadable=tuple(sorted(unreadable)),
        )

    def _sorted(self, names: Iterable[str]) -> tuple[list[Row], list[str]]:
        found: dict[str, tuple[Stamp | None, Row]] = {}
        unreadable: list[str] = []
        for name in names:
            try:
                found[name] = self._row(name)
            except UnknownEpisode:  # acknowledged a moment ago
                continue
            except SpoolCorrupt as error:
                unreadable.append(name)
                if name not in self._complained:
                    log.error("episode not listed episode=%s reason=%s", name, error)
        self._seen = found
        self._complained = set(unreadable)
        return sorted((row for _, row in found.values()), key=lambda row: row[0]), unreadable

    def _row(self, name: str) -> tuple[Stamp | None, Row]:
        stamp, seen = self._stamp_of(name), self._seen.get(name)
        if seen is not None and stamp is not None and seen[0] == stamp:
            return seen
        return stamp, _listed(self._manifest_of(name))


def _listed(manifest: Manifest) -> Row:
    place = ((manifest.ended_at - EPOCH) // timedelta(microseconds=1), manifest.episode_id)
    return place, SpooledEpisode(
        episode_id=manifest.episode_id,
        manifest_sha256=manifest.digest,
        task_id=manifest.task_id,
        outcome=manifest.outcome,
        T=manifest.T,
    )


def _place_of(cursor: str) -> Place:
    match = CURSOR.fullmatch(cursor)
    if match is None:
        raise BadRequest(thing="the cursor of a page", reason="it is not one that a page gave")
    return int(match[1]), match[2]
