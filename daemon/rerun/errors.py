"""Why an iteration cannot be done again.

RerunError (DaemonError)
├── ManifestMissing     the phase has not finished, or was done before manifests were kept
├── SnapshotChanged     the store no longer holds what the manifest names
└── FolderTaken         the folder for the rerun holds something
"""

from collections.abc import Sequence
from pathlib import Path

from daemon.errors import DaemonError

MOST_TOLD = 5  # faults in one sentence


class RerunError(DaemonError):
    code = "rerun_error"


class ManifestMissing(RerunError):
    code = "manifest_missing"

    def __init__(self, *, number: int) -> None:
        super().__init__(
            f"iteration {number} has no finished learning phase with a manifest: expected one, found none. "
            "It is not that far, it failed, or it was run by a release that kept no manifests."
        )


class SnapshotChanged(RerunError):
    code = "snapshot_changed"

    def __init__(self, *, number: int, phase: str, faults: Sequence[str]) -> None:
        more = f"; and {len(faults) - MOST_TOLD} more" if len(faults) > MOST_TOLD else ""
        super().__init__(
            f"the store no longer holds what {phase} of iteration {number} read: "
            f"{'; '.join(faults[:MOST_TOLD])}{more}. Restore it from a backup of then, and repeat."
        )
        self.faults = tuple(faults)


class FolderTaken(RerunError):
    code = "folder_taken"

    def __init__(self, *, folder: Path) -> None:
        super().__init__(f"folder {folder} is not empty. A rerun begins in a new one: name another.")
