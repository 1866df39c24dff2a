"""What can go wrong with a checkpoint's folder.

HubError (DaemonError)
└── CheckpointFolderInvalid      not one of ours, or changed since it was written
"""

from pathlib import Path

from daemon.errors import DaemonError


class HubError(DaemonError):
    code = "hub_error"


class CheckpointFolderInvalid(HubError):
    code = "checkpoint_folder_invalid"

    def __init__(self, *, path: Path, expected: str, found: str) -> None:
        super().__init__(
            f"{path} cannot be brought in: expected {expected}, found {found}. "
            "Nothing was kept; export the checkpoint again."
        )
