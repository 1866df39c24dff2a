"""What can go wrong when an installation is copied, put back or taken back.

OperationError (DaemonError)
├── BackupMissing          no backup of that name, or none at all
├── BackupUnreadable       a manifest that is none of ours
├── BackupDamaged          files of the backup are missing, cut short or changed
├── PlaceTaken             restoring where something is already
└── RevisionUnknown        a revision that this release does not have
"""

from collections.abc import Sequence
from pathlib import Path

from daemon.errors import DaemonError

MOST_NAMED = 20


class OperationError(DaemonError):
    code = "operation_error"


class BackupMissing(OperationError):
    code = "backup_missing"

    def __init__(self, *, folder: Path, name: str | None, known: Sequence[str]) -> None:
        wanted = "no backup that is complete" if name is None else f"no backup {name}"
        there = f"It holds {', '.join(known)}" if known else "Make one with `gymnastd backup`"
        super().__init__(f"{folder} holds {wanted}. {there}.")


class BackupUnreadable(OperationError):
    code = "backup_unreadable"

    def __init__(self, *, path: Path, reason: str) -> None:
        super().__init__(
            f"the manifest {path} cannot be read: {reason}. "
            "Take another backup with --name, or a later release."
        )


class BackupDamaged(OperationError):
    code = "backup_damaged"

    def __init__(self, *, name: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        more = f"; and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
        super().__init__(
            f"backup {name} is damaged, nothing was restored: {'; '.join(faults[:MOST_NAMED])}{more}. "
            "Put those files back, or take another backup with --name."
        )


class PlaceTaken(OperationError):
    code = "place_taken"

    def __init__(self, *, what: str, found: str) -> None:
        super().__init__(
            f"{what} is not empty, it holds {found}. A backup goes into an empty place only: "
            "set GYMNASTD_DATA_DIR and GYMNASTD_DATABASE_URL to one, or move away what is there."
        )


class RevisionUnknown(OperationError):
    code = "revision_unknown"

    def __init__(self, *, revision: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no revision {revision}; this release has {', '.join(known)}, and base.")
