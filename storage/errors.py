"""Everything that can go wrong in storage, as one tree.

StorageError
├── BlobError
│   ├── BlobMissing            a row or a caller names a blob that is not on disk
│   ├── BlobCorrupt            a blob's bytes are not what its name says
│   ├── BlobNameInvalid        not a sha256 in lower-case hexadecimal
│   ├── SweepRefused           most blobs would go: this is another store's database
│   └── DiskFull               nothing was kept; free space and repeat
├── CacheNameInvalid           not a plain file name
├── DatabaseUrlInvalid         neither SQLite file nor PostgreSQL
├── DatabaseNewer              the database was migrated by a later release
├── DatabaseOutdated           the database lacks migrations of this release
├── NaiveDatetime              a time without its zone
├── NotJson                    a value that JSON cannot hold, such as NaN
├── RowMissing                 no row with that id
├── CursorInvalid              a page cursor that was not made by the list it is given to
├── IllegalMove                a state machine was asked for a transition it does not have
├── IdempotencyMismatch        one key, two different iterations
├── RequestKeyReused           one key, two different requests of another kind
├── UnknownPhase               not one of the three phases
├── LeaseHeld                  somebody else holds it, and it has not run out
├── LeaseLost                  the fence is stale: another holder came after this one
├── EpisodeConflict            one episode id, two different recordings
├── EpisodeOriginInvalid       not one of collect, imported, base
├── LabelSourceInvalid         not one of human, sim_predicate, classifier, vlm
├── UnknownTask                the episode names a task nobody registered
├── EpisodeCorrupt             the stored manifest is not the one that was committed
├── CheckpointKindInvalid      not one of world_model, policy, judge
├── CheckpointCorrupt          the file is not the one that was saved
├── Retired                    the row stays, its files were let go
├── MetricNotFinite            a metric that is NaN or infinite
└── AutoEvalJobConflict        one job id, two different jobs at AutoEval

Each class has a stable `code`, says whether the same call may succeed later (`retryable`) and builds its
sentence from named parts. HTTP statuses are decided elsewhere.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar


class StorageError(Exception):
    """Root of everything storage raises on purpose."""

    code: ClassVar[str] = "storage_error"
    retryable: ClassVar[bool] = False


class BlobError(StorageError):
    """Something about one content-addressed file."""

    code = "blob_error"


class BlobMissing(BlobError):
    code = "blob_missing"

    def __init__(self, *, sha256: str, path: Path) -> None:
        self.sha256 = sha256
        super().__init__(
            f"blob sha256 {sha256} is missing: expected the file {path}, found none. "
            "Restore it from a backup, or retire the rows that name it."
        )


class BlobCorrupt(BlobError):
    code = "blob_corrupt"

    def __init__(self, *, sha256: str, found: str, path: Path) -> None:
        self.sha256 = sha256
        super().__init__(
            f"blob {path} fails its checksum: its name says sha256 {sha256}, its bytes have {found}. "
            "The file changed after it was written: restore it, or put the same content again."
        )


class BlobNameInvalid(BlobError):
    code = "blob_name_invalid"

    def __init__(self, *, name: str) -> None:
        super().__init__(
            f"blob name {name[:80]!r} is not a sha256: expected 64 lower-case hexadecimal digits, "
            f"found {len(name)} characters. Pass the digest that put() returned."
        )


class SweepRefused(BlobError):
    code = "sweep_refused"

    def __init__(self, *, unnamed: int, seen: int, path: Path) -> None:
        super().__init__(
            f"{unnamed} of {seen} blobs in {path} are named by no row, so nothing is removed: is this the "
            "database that belongs to them? If so, restore it; if they may go, move them away by hand."
        )


class DiskFull(BlobError):
    code = "disk_full"
    retryable = True

    def __init__(self, *, needed: int, free: int, path: Path) -> None:
        self.needed, self.free = needed, free
        super().__init__(
            f"no room under {path}: needed {needed} bytes, {free} bytes are free. "
            "Nothing was kept; free space or raise the quota, then repeat."
        )


class CacheNameInvalid(StorageError):
    code = "cache_name_invalid"

    def __init__(self, *, name: str) -> None:
        super().__init__(
            f"cached array {name!r} cannot be named so: expected letters, digits, - _ and ., not first, "
            "at most 200 of them. Name it by a digest."
        )


class DatabaseUrlInvalid(StorageError):
    code = "database_url_invalid"

    def __init__(self, *, url: str) -> None:
        super().__init__(
            f"database url {url} is not supported: expected sqlite:///FILE or postgresql://…; "
            "set GYMNASTD_DATABASE_URL to one of these, or unset it for a SQLite file in the data directory."
        )


class DatabaseNewer(StorageError):
    code = "database_newer"

    def __init__(self, *, found: str, newest: str) -> None:
        super().__init__(
            f"the database is at revision {found}, which this release does not know; its newest is {newest}. "
            "Install the release that made the database, or restore a backup from before that upgrade."
        )


class DatabaseOutdated(StorageError):
    code = "database_outdated"

    def __init__(self, *, found: str | None, newest: str) -> None:
        super().__init__(
            f"the database is at revision {found or 'none'}, this release needs {newest}. "
            "Run `gymnastd db upgrade`."
        )


class NaiveDatetime(StorageError):
    code = "naive_datetime"

    def __init__(self, *, value: datetime) -> None:
        super().__init__(
            f"time {value.isoformat()} has no zone: expected an aware datetime, found a naive one. "
            "Pass datetime.now(UTC) or attach the zone it was taken in."
        )


class NotJson(StorageError):
    code = "not_json"

    def __init__(self, *, what: str, reason: str) -> None:
        super().__init__(
            f"{what} cannot be stored as JSON: {reason}. Use finite numbers, strings, lists and mappings."
        )


class RowMissing(StorageError):
    code = "not_found"

    def __init__(self, *, kind: str, row_id: str) -> None:
        self.kind, self.row_id = kind, row_id
        super().__init__(f"there is no {kind} {row_id[:80]!r}. List the {kind}s to see which exist.")


class CursorInvalid(StorageError):
    code = "cursor_invalid"

    def __init__(self, *, cursor: str) -> None:
        super().__init__(
            f"cursor {cursor[:80]!r} was not made by this list. "
            "Pass the next_cursor of the page before, or none for the first page."
        )


class IllegalMove(StorageError):
    code = "illegal_move"

    def __init__(self, *, what: str, old: str, new: str, allowed: Sequence[str]) -> None:
        self.old, self.new = old, new
        choices = ", ".join(allowed) if allowed else "nothing, it is final"
        super().__init__(
            f"{what} cannot go from {old} to {new}: from {old} it may become {choices}. "
            "Read the row again; somebody else may have moved it."
        )


class IdempotencyMismatch(StorageError):
    code = "idempotency_mismatch"

    def __init__(self, *, key: str, number: int, stored: str, found: str) -> None:
        super().__init__(
            f"idempotency key {key!r} already asked for iteration {number} with spec digest {stored}, "
            f"this request has {found}. Use a new key for a new spec, or send the first spec again."
        )


class RequestKeyReused(StorageError):
    code = "request_key_reused"

    def __init__(self, *, key: str, scope: str) -> None:
        super().__init__(
            f"idempotency key {key!r} already asked for something else of {scope}. "
            "Use a new key for a new request, or send the first request again."
        )


class UnknownPhase(StorageError):
    code = "unknown_phase"

    def __init__(self, *, phase: str, known: Sequence[str]) -> None:
        super().__init__(f"phase {phase!r} is unknown: expected one of {', '.join(known)}.")


class LeaseHeld(StorageError):
    code = "lease_conflict"
    retryable = True

    def __init__(self, *, name: str, holder: str, expires_at: datetime) -> None:
        self.name, self.holder, self.expires_at = name, holder, expires_at
        super().__init__(
            f"lease {name} is held by {holder} until {expires_at.isoformat()}. "
            "Wait until it runs out, or have the holder release it."
        )


class LeaseLost(StorageError):
    code = "lease_lost"

    def __init__(self, *, name: str, fence: int, current: int, holder: str | None) -> None:
        self.name, self.fence, self.current = name, fence, current
        now_with = f"held by {holder}" if holder else "held by nobody"
        super().__init__(
            f"lease {name} is lost: this holder has fence {fence}, the current one is {current}, {now_with}. "
            "Stop writing; what was done since is not recorded."
        )


class EpisodeConflict(StorageError):
    code = "episode_conflict"

    def __init__(self, *, episode_id: str, stored: str, found: str) -> None:
        self.episode_id = episode_id
        super().__init__(
            f"episode {episode_id} is already committed with manifest sha256 {stored}, "
            f"this one has {found}. An episode is written once: record the second run under a new id."
        )


class EpisodeOriginInvalid(StorageError):
    code = "episode_origin_invalid"

    def __init__(self, *, origin: str, known: Sequence[str]) -> None:
        super().__init__(f"episode origin {origin!r} is unknown: expected one of {', '.join(known)}.")


class LabelSourceInvalid(StorageError):
    code = "label_source_invalid"

    def __init__(self, *, source: str, known: Sequence[str]) -> None:
        super().__init__(f"label source {source!r} is unknown: expected one of {', '.join(known)}.")


class UnknownTask(StorageError):
    code = "unknown_task"

    def __init__(self, *, task_id: str, episode_id: str) -> None:
        super().__init__(
            f"episode {episode_id} names the task {task_id!r}, which is not registered. "
            "Register the task first, or commit with register_task=True."
        )


class EpisodeCorrupt(StorageError):
    code = "episode_corrupt"

    def __init__(self, *, episode_id: str, stored: str, found: str) -> None:
        super().__init__(
            f"the manifest of episode {episode_id} fails its checksum: the row says sha256 {stored}, "
            f"the manifest has {found}. Restore the database, or retire the episode."
        )


class CheckpointKindInvalid(StorageError):
    code = "checkpoint_kind_invalid"

    def __init__(self, *, kind: str, known: Sequence[str]) -> None:
        super().__init__(f"checkpoint kind {kind!r} is unknown: expected one of {', '.join(known)}.")


class CheckpointCorrupt(StorageError):
    code = "checkpoint_corrupt"

    def __init__(self, *, checkpoint_id: str, stored: str, found: str, path: Path) -> None:
        self.checkpoint_id = checkpoint_id
        super().__init__(
            f"checkpoint {checkpoint_id} fails its checksum: the row says sha256 {stored}, "
            f"{path} has {found}. The file changed after it was written: restore it, or retire the "
            "checkpoint and go on from its parent."
        )


class Retired(StorageError):
    code = "retired"

    def __init__(self, *, what: str, at: datetime) -> None:
        super().__init__(
            f"{what} was retired at {at.isoformat()}: its row stays, its files are gone or going. "
            "Take another one, or restore the files from a backup."
        )


class MetricNotFinite(StorageError):
    code = "metric_not_finite"

    def __init__(self, *, phase_run_id: str, name: str, value: float) -> None:
        super().__init__(
            f"metric {name!r} of phase run {phase_run_id} is {value}: expected a finite number. "
            "Leave out what could not be measured."
        )


class AutoEvalJobConflict(StorageError):
    code = "autoeval_job_conflict"

    def __init__(self, *, job_id: str, field: str, stored: object, found: object) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id} at AutoEval is already planned with {field} {stored}, this one has {found}. "
            "Use a new id for a new job, or plan the first one again."
        )
