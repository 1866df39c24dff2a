"""What can go wrong when episodes leave the store in another format, or come in from one.

InterchangeError (StorageError)
├── ClipInvalid             a clip in the WorldGym format that breaks its own rules
├── DatasetInvalid          a file is not what its format says
├── DatasetUnsealed         an export that was broken off: it has no manifest
├── DatasetChanged          a file is not the one that was exported
├── DatasetUndeclared       a dataset of others that does not say what its numbers mean
├── TargetNotEmpty          an export goes into an empty folder
├── ExportDiffers           the folder holds another export that was broken off
├── ExportBusy              another process writes an export into the folder
├── EpisodeUnfit            an episode that the format cannot hold
├── NothingToExport         no episode answers the query
├── QueryInvalid            a query that names what there is not
└── ExtraMissing            a package of an optional extra is not installed
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from storage.errors import StorageError

MOST_SHOWN: Final = 5  # differences in one sentence


class InterchangeError(StorageError):
    """Root of what goes wrong between the store and the formats of others."""

    code = "interchange_error"


class ClipInvalid(InterchangeError):
    code = "clip_invalid"

    def __init__(self, *, path: Path, expected: str, found: str) -> None:
        self.path = path
        super().__init__(
            f"clip {path} is not in the WorldGym format: expected {expected}, found {found}. "
            "Nothing of it was imported; repair or remove the pair of .mp4 and .npz."
        )


class DatasetInvalid(InterchangeError):
    code = "dataset_invalid"

    def __init__(self, *, path: Path, expected: str, found: str) -> None:
        self.path = path
        super().__init__(
            f"{path} is not what its format says: expected {expected}, found {found.rstrip('.')}. "
            "Episodes before it stay imported; repair it and repeat."
        )


class DatasetUnsealed(InterchangeError):
    code = "dataset_unsealed"

    def __init__(self, *, folder: Path, begun: bool) -> None:
        advice = "Export again into an empty folder, and remove this one."
        if begun:
            advice = "Give the same command to export again: it goes on where it was. Or remove the folder."
        super().__init__(
            f"{folder} holds an export that was broken off: manifest.json comes last and is missing. {advice}"
        )


class DatasetChanged(InterchangeError):
    code = "dataset_changed"

    def __init__(self, *, path: Path, expected: str, found: str) -> None:
        self.path = path
        super().__init__(
            f"{path} is not the file that was exported: manifest.json says {expected}, found {found}. "
            "Nothing was imported; copy it again, or remove manifest.json and _gymnastd to import "
            "the rest as a dataset of others."
        )


class DatasetUndeclared(InterchangeError):
    code = "dataset_undeclared"

    def __init__(self, *, folder: Path, known: Sequence[str]) -> None:
        super().__init__(
            f"{folder} does not declare what its actions and states mean, and a wrong guess would spoil the "
            f"world model. If you know it, say so with --convention, one of {', '.join(known)}."
        )


class TargetNotEmpty(InterchangeError):
    code = "export_target_not_empty"

    def __init__(self, *, folder: Path) -> None:
        super().__init__(f"{folder} is not an empty folder. Name a new one, or remove what is in it.")


class ExportDiffers(InterchangeError):
    code = "export_differs"

    def __init__(self, *, folder: Path, differences: Sequence[str]) -> None:
        shown = [*differences[:MOST_SHOWN]]
        if len(differences) > MOST_SHOWN:
            shown.append(f"and {len(differences) - MOST_SHOWN} more")
        super().__init__(
            f"{folder} holds an export that was broken off, and this one is another: {'; '.join(shown)}. "
            f"Nothing was written. Name a new folder, or remove {folder} to start over."
        )


class ExportBusy(InterchangeError):
    code = "export_busy"
    retryable = True

    def __init__(self, *, folder: Path) -> None:
        super().__init__(
            f"another process writes an export into {folder}. Wait until it has ended, or name a new folder."
        )


class EpisodeUnfit(InterchangeError):
    code = "episode_unfit"

    def __init__(self, *, episode_id: str, expected: str, found: str) -> None:
        super().__init__(
            f"episode {episode_id} does not fit the format: expected {expected}, found {found}. "
            "Narrow the query, so that it is left out, and name a new folder: what is begun here asks for it."
        )


class NothingToExport(InterchangeError):
    code = "nothing_to_export"

    def __init__(self, *, query: str) -> None:
        super().__init__(f"no episode answers the query {query or '(all)'}. Nothing was written.")


class QueryInvalid(InterchangeError):
    code = "query_invalid"

    def __init__(self, *, term: str, expected: str) -> None:
        super().__init__(f"{term!r} is no part of a query: expected {expected}.")


class ExtraMissing(InterchangeError):
    code = "extra_missing"

    def __init__(self, *, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Install gymnast-daemon[{extra}] and repeat.")
