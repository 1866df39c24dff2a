"""Episodes out of the store of these settings into a format of others, and in. A daemon may run beside it.

Which format it is, its caller says: a format's modules are imported with it, and one of them needs a package
that is optional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from daemon.settings import Settings
from daemon.stores import open_blobs, open_database, utc_now
from storage.interchange.exchange import Intake, Store, Watch, bring_in, send_out
from storage.interchange.query import ExportQuery, wanted_by
from storage.interchange.record import Found
from storage.interchange.seal import Seal, unseal
from storage.interchange.writer import Counted, Writer

Advance: TypeAlias = Callable[[int, int | None], None]  # how many are done, and of how many if that is known
Find: TypeAlias = Callable[[Path, Seal | None], Iterator[Found]]


def export_episodes(
    settings: Settings,
    folder: Path,
    *,
    query: ExportQuery,
    make: Callable[[Path], Writer],
    watch: Watch,
) -> Counted:
    """Write every episode that answers the query into a folder; what was broken off there goes on.

    Raises:
        NothingToExport, TargetNotEmpty, ExportDiffers, ExportBusy, EpisodeUnfit: as `send_out`.
    """
    with _store(settings) as store:
        with store.database.read() as session:
            wanted = wanted_by(session, query)
        return send_out(store, wanted, folder=folder, make=make, now=utc_now(), watch=watch)


def import_episodes(
    settings: Settings,
    folder: Path,
    *,
    format_name: str,
    find: Find,
    advance: Advance,
    checked: Callable[[int, int], None] | None = None,
) -> Intake:
    """Bring every episode of a dataset in that is not there yet; an export of ours is checked first.

    Args:
        checked: is told how many files of an export of ours are checked, and how many there are.

    Raises:
        DatasetInvalid, DatasetUnsealed, DatasetChanged, DatasetUndeclared: the dataset is not whole.
        EpisodeConflict: another recording has an episode's id.
    """
    seal = unseal(folder, expected=format_name, advance=checked)
    with _store(settings) as store:
        done = Count(advance, of=None if seal is None else len(seal.places))
        found = find(folder, seal)
        return bring_in(store, found, folder=folder, now=utc_now(), advance=done.one_more)


class Count:
    """Counts what is done and tells it on."""

    def __init__(self, advance: Advance, *, of: int | None) -> None:
        self._advance, self._of, self._done = advance, of, 0

    def one_more(self) -> None:
        self._done += 1
        self._advance(self._done, self._of)


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    """The store of the data directory, made when there is none."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = open_database(settings)
    try:
        database.upgrade()
        yield Store(database, open_blobs(settings))
    finally:
        database.dispose()
