"""What a backup consists of, as one JSON file beside the objects that it names.

FOLDER/objects/ab/ab12…        every file of every backup, once, by its sha256
FOLDER/20260101T120000….json   one backup; it is complete because this file is there
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from daemon.operations.errors import BackupMissing, BackupUnreadable
from robot_bridge.station.durable import replace_file
from storage.canonical import json_digest

FORMAT = "gymnastd-backup/1"
OBJECTS = "objects"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file: a table by its name, a blob by its digest, or a file by its path in the data directory."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One backup. `damaged` is what was missing or changed in the store itself when it was made."""

    name: str
    created_at: str
    release: str
    revision: str
    rows: int
    tables: tuple[Part, ...]
    blobs: tuple[Part, ...]
    files: tuple[Part, ...]
    damaged: tuple[str, ...] = ()

    def parts(self) -> Iterator[Part]:
        yield from self.tables
        yield from self.blobs
        yield from self.files

    @property
    def total_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts())

    def write(self, folder: Path) -> None:
        """Put it into its place: from now on the backup is complete."""
        body = json.loads(json.dumps(asdict(self)))
        document = {"format": FORMAT, "sha256": json_digest(body, what="a manifest"), "backup": body}
        replace_file(folder / f"{self.name}.json", json.dumps(document).encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read one back.

        Raises:
            BackupUnreadable: it is cut short, was changed, or is none of ours.
        """
        try:
            document = json.loads(path.read_bytes())
            body = document["backup"]
            if document["format"] != FORMAT:
                raise BackupUnreadable(path=path, reason=f"format {document['format']}, expected {FORMAT}")
            if document["sha256"] != json_digest(body, what="a manifest"):
                raise BackupUnreadable(path=path, reason="it was changed after it was written")
            return cls(**{name: _frozen(value) for name, value in body.items()})
        except (ValueError, KeyError, TypeError) as error:
            raise BackupUnreadable(path=path, reason=f"{type(error).__name__}: {error}") from error


def _frozen(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return tuple(Part(**each) if isinstance(each, dict) else each for each in value)


def backups(folder: Path) -> list[Path]:
    """The manifests of complete backups, oldest first."""
    return sorted(folder.glob("[0-9]*Z.json"))


def find(folder: Path, name: str | None) -> Manifest:
    """A backup by its name, or the newest.

    Raises:
        BackupMissing: there is none.
        BackupUnreadable: it cannot be read.
    """
    known = {path.stem: path for path in backups(folder)}
    wanted = max(known, default=None) if name is None else name
    if wanted is None or wanted not in known:
        raise BackupMissing(folder=folder, name=name, known=sorted(known))
    return Manifest.read(known[wanted])
