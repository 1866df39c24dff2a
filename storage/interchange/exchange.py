"""Records out of the store one at a time, and back into it: every episode wholly in, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from robot_bridge.errors import RobotBridgeError
from storage import episodes, labels
from storage.blobs import BlobStore
from storage.db import Database
from storage.errors import EpisodeConflict
from storage.interchange.errors import DatasetInvalid, NothingToExport
from storage.interchange.journal import Journal, opened
from storage.interchange.plan import Plan
from storage.interchange.query import ExportQuery, Standing, Wanted, standing
from storage.interchange.record import SCHEMA, SIDE_FOLDER, SOURCE, Found, Record
from storage.interchange.seal import Seal, seal
from storage.interchange.writer import Counted, Writer, begun
from storage.labels import Verdict
from storage.tables import EpisodeRow, LabelRow

IMPORTED: Final = "imported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What an import found, and how much of it was new."""

    episodes: int
    frames: int
    added: int


@dataclass(frozen=True, slots=True)
class Store:
    """Where episodes are kept."""

    database: Database
    blobs: BlobStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Is told how far an export is: how many episodes are done, checked, put together, and of how many."""

    done: Callable[[int, int], None] = lambda count, of: None
    checked: Callable[[int, int], None] = lambda count, of: None
    together: Callable[[int, int], None] = lambda count, of: None


NOBODY: Final = Watch()


def take_out(store: Store, episode_id: str, *, verdicts: Container[int] | None = None) -> Record:
    """One episode with its flag and its verdicts, read back verified.

    Args:
        verdicts: the ids of those that are wanted; None for all.

    Raises:
        RowMissing, EpisodeCorrupt, BlobMissing, BlobCorrupt: as `episodes.load`.
    """
    with store.database.read() as session:
        row = episodes.get(session, episode_id)
        rows = labels.history(session, episode_id)
        said = tuple(_verdict_of(each) for each in rows if verdicts is None or each.id in verdicts)
        episode = episodes.load(session, store.blobs, episode_id)
        return Record(episode=episode, held_out=row.held_out, verdicts=said)


def send_out(
    store: Store,
    wanted: Wanted,
    *,
    folder: Path,
    make: Callable[[Path], Writer],
    now: datetime,
    watch: Watch = NOBODY,
) -> Counted:
    """Write episodes into a folder, one in memory at a time, and seal it.

    What was broken off there goes on where it was, and comes out as if nothing had happened: with the
    episodes that answered when it began, each as it stood then.

    Raises:
        NothingToExport: no episode is wanted, and there is nothing to go on with; the folder is not made.
        TargetNotEmpty: the folder holds something else, or a finished export.
        ExportDiffers: what was broken off there is another export.
        ExportBusy: another process writes into the folder.
        EpisodeUnfit: the format cannot hold an episode; what was written stays, unsealed.
    """
    if not wanted.episodes and not begun(folder):
        raise NothingToExport(query=wanted.query)
    with opened(folder) as journal:
        writer = make(folder)
        plan = Plan(
            format=writer.format,
            version=writer.version,
            options={**writer.options, SIDE_FOLDER: SCHEMA},
            wanted=wanted,
            began_at=now,
        )
        plan = journal.settle(plan, standing=partial(_all_standing, store))
        count = len(plan.wanted.episodes)
        before = count
        if not journal.sealed:
            before = _write(store, writer, journal=journal, plan=plan, watch=watch)
            what = Seal(format=writer.format, places=writer.places)
            seal(folder, what, notes=writer.notes, now=plan.began_at)
        journal.remove(plan)
    return Counted(episodes=count, before=before, later=plan.wanted.missing_of(wanted))


def _write(store: Store, writer: Writer, *, journal: Journal, plan: Plan, watch: Watch) -> int:
    """Write what is not there yet; how many episodes were."""
    writer.reopen()
    done, episodes = journal.done(plan, checked=watch.checked), plan.wanted.episodes
    writer.go_on(done)
    watch.done(len(done), len(episodes))
    for count, each in enumerate(episodes[len(done) :], start=len(done) + 1):
        journal.note(writer.add(_as_it_stood(store, each)))
        watch.done(count, len(episodes))
    writer.close(watch.together)
    return len(done)


def _as_it_stood(store: Store, then: Standing) -> Record:
    """An episode without what was said of it since."""
    record = take_out(store, then.episode_id, verdicts={*then.verdicts})
    return replace(record, held_out=then.held_out)


def _all_standing(store: Store) -> tuple[Standing, ...]:
    with store.database.read() as session:
        return standing(session, ExportQuery())


def bring_in(
    store: Store,
    found: Iterable[Found],
    *,
    folder: Path,
    now: datetime,
    advance: Callable[[], None] | None = None,
) -> Intake:
    """Commit what is new, one transaction per episode; what is known already is not read again.

    Raises:
        DatasetInvalid: an episode breaks its format; those before it stay.
        EpisodeConflict: another recording has this id; it stays as it is.
        DiskFull: no room; episodes before stay.
    """
    seen = frames = added = 0
    for each in found:
        steps = _known(store.database, each)
        if steps is None:
            steps = _commit(store, each, folder=folder, now=now)
            added += 1
        seen, frames = seen + 1, frames + steps + 1
        if advance is not None:
            advance()
    return Intake(episodes=seen, frames=frames, added=added)


def _known(database: Database, found: Found) -> int | None:
    """T of an episode that came in before from this very source; None where there is none."""
    with database.read() as session:
        row = session.get(EpisodeRow, found.episode_id)
    if row is None:
        return None
    source = json.loads(row.manifest)["metadata"].get(SOURCE)
    if found.digest not in {row.manifest_sha256, source}:
        raise EpisodeConflict(episode_id=row.id, stored=row.manifest_sha256, found=found.digest)
    return row.steps


def _commit(store: Store, found: Found, *, folder: Path, now: datetime) -> int:
    try:
        record = found.read()
    except RobotBridgeError as error:
        what = f"episode {found.episode_id} whole"
        raise DatasetInvalid(path=folder, expected=what, found=str(error)) from error
    provenance = episodes.Provenance(origin=IMPORTED, held_out=record.held_out)
    with store.database.write() as session:
        row, created = episodes.commit(session, store.blobs, record.episode, provenance=provenance, now=now)
        if created:
            known = {_verdict_of(each) for each in labels.history(session, row.id)}
            for verdict in record.verdicts:
                if verdict not in known:
                    labels.append(session, row.id, verdict, now=now)
    return record.episode.manifest.T


def _verdict_of(row: LabelRow) -> Verdict:
    return Verdict(
        success=row.success,
        source=row.source,
        at=row.labelled_at,
        judge=row.judge,
        answer=row.answer,
        confidence=row.confidence,
    )
