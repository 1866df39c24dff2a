"""Finished episodes on the station's disk, from the end of the episode until somebody acknowledges it.

    lock                         held while a station runs
    incoming/<id>/               being written or removed; swept at start
    episodes/<id>/               manifest.json, steps.npz, frames.bin: finished, not yet acknowledged
    acked/<id>                   sha256 of the manifest that was acknowledged; never removed
    verdicts/<id>.json           the labels that an acknowledged manifest brought with it
    quarantine/<id>-<sha256>/    an episode whose id another one had already: somebody must look at both
    open.json                    the episode that runs now; left behind by a crash
    lost/<id>.json               an episode whose station died while it ran

A folder is written whole, synced, and renamed into episodes/: what has its final name is complete.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from robot_bridge.episode import FRAMES_BLOB, STEPS_BLOB, Episode, Manifest, ManifestLabel, parse_manifest
from robot_bridge.errors import (
    EpisodeInvalid,
    IdempotencyMismatch,
    SpoolBusy,
    SpoolCorrupt,
    SpoolDiskFull,
    UnknownBlob,
    UnknownEpisode,
)
from robot_bridge.protocol import SpoolAnswer
from robot_bridge.station.durable import (
    read_json,
    remove_file,
    replace_file,
    sync_folder,
    write_json,
    write_synced,
)
from robot_bridge.station.spool_list import PAGE_MAX, SpoolList, Stamp

log = logging.getLogger(__name__)

MANIFEST_FILE: Final = "manifest.json"
BLOBS: Final = (STEPS_BLOB, FRAMES_BLOB)
FOLDERS: Final = ("episodes", "incoming", "acked", "lost", "verdicts", "quarantine")
OUT_OF_ROOM: Final = {errno.ENOSPC, errno.EDQUOT}


class Spool:
    """One station's folder. Taking it locks it; a second station on the same folder is refused.

    All methods may be called from any thread. `buried` is the episode that a crash left open, if any.

    Raises:
        SpoolBusy: another station has it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._finished, self._incoming = root / "episodes", root / "incoming"
        self._acked, self._lost = root / "acked", root / "lost"
        self._verdicts, self._quarantine = root / "verdicts", root / "quarantine"
        self._changing = threading.RLock()
        self._list = SpoolList(self.manifest, stamp_of=self._stamp)
        with ExitStack() as undo:  # a start that fails must not keep the lock
            for name in FOLDERS:
                (root / name).mkdir(parents=True, exist_ok=True)
            self._lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            undo.callback(os.close, self._lock)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as cause:
                raise SpoolBusy(path=root) from cause
            self._sweep()
            self.buried = self.bury_open()
            undo.pop_all()

    def close(self) -> None:
        """Let another station have the folder."""
        os.close(self._lock)

    def open(self, episode_id: str, facts: dict[str, Any]) -> None:
        """Note that an episode runs, before anything moves for it."""
        write_json(self.root / "open.json", {"episode_id": episode_id, **facts})

    def drop_open(self) -> None:
        """The open episode ended without a step: there is nothing to keep."""
        remove_file(self.root / "open.json")

    def bury_open(self) -> str | None:
        """Nobody knows how the open episode ended: its id is lost for ever. Gives it, where there was one."""
        left = read_json(self.root / "open.json")
        if left is None:
            return None
        episode_id, unknown = str(left["episode_id"]), False
        if not self.holds(episode_id) and self.acked_digest(episode_id) is None:
            write_json(self._lost / f"{episode_id}.json", left)
            unknown = True
        self.drop_open()
        return episode_id if unknown else None

    def put(self, episode: Episode) -> None:
        """Keep a finished episode; afterwards it outlives this program.

        Putting the same episode again changes nothing, also after its acknowledgement.

        Raises:
            IdempotencyMismatch: another episode had this id; the new one is kept under quarantine/.
            SpoolDiskFull: there is no room; what was written of it is gone again.
        """
        with self._changing:
            episode_id = episode.manifest.episode_id
            kept = self._kept_digest(episode_id)
            if kept is None:
                self._write(episode, self._incoming / episode_id)
                (self._incoming / episode_id).rename(self._finished / episode_id)
                sync_folder(self._finished)
            elif kept != episode.digest:
                self._isolate(episode)
                self.drop_open()
                raise IdempotencyMismatch(thing=f"episode {episode_id}")
            self.drop_open()

    def waiting(self) -> list[Manifest]:
        """Manifests that nobody acknowledged, oldest first; what does not read back is left out."""
        found = []
        for episode_id in self._list.readable(self._names()):
            with suppress(UnknownEpisode, SpoolCorrupt):  # gone a moment ago
                found.append(self.manifest(episode_id))
        return found

    def page(self, after: str | None = None, *, limit: int = PAGE_MAX) -> SpoolAnswer:
        """At most `limit` waiting episodes after a cursor of an earlier page, oldest first.

        Raises:
            BadRequest: `after` is not a cursor of this spool.
        """
        return self._list.page(self._names(), after, limit=limit)

    def size(self) -> tuple[int, int]:
        """How many episodes wait, and how many bytes they take; those in quarantine take room, too."""
        waiting, taken = list(self._finished.iterdir()), 0
        for folder in (*waiting, *self._quarantine.iterdir()):
            with suppress(FileNotFoundError):  # acknowledged a moment ago
                taken += sum(file.stat().st_size for file in folder.iterdir())
        return len(waiting), taken

    def holds(self, episode_id: str) -> bool:
        """Whether this episode waits here."""
        return (self._finished / episode_id).is_dir()

    def is_lost(self, episode_id: str) -> bool:
        """Whether the station died while this episode ran."""
        return (self._lost / f"{episode_id}.json").exists()

    def acked_digest(self, episode_id: str) -> str | None:
        """sha256 of the acknowledged manifest, or None when this episode was never acknowledged."""
        with suppress(FileNotFoundError):
            return (self._acked / episode_id).read_text()
        return None

    def manifest(self, episode_id: str) -> Manifest:
        """Manifest of a waiting episode.

        Raises:
            UnknownEpisode: none of that id waits here.
            SpoolCorrupt: its manifest does not read back.
        """
        path = self._finished / episode_id / MANIFEST_FILE
        try:
            manifest = parse_manifest(path.read_bytes())
        except (OSError, EpisodeInvalid) as cause:
            if not self.holds(episode_id):
                raise UnknownEpisode(episode_id=episode_id) from None
            raise SpoolCorrupt(path=path, reason=str(cause)) from cause
        if manifest.episode_id != episode_id:
            raise SpoolCorrupt(path=path, reason=f"it is the manifest of episode {manifest.episode_id}")
        return manifest

    def verdicts(self, episode_id: str) -> tuple[ManifestLabel, ...]:
        """The labels of an episode's own manifest, also after its acknowledgement.

        Raises:
            UnknownEpisode: it neither waits here nor was acknowledged.
            SpoolCorrupt: they do not read back.
        """
        try:
            return self.manifest(episode_id).labels
        except UnknownEpisode:
            if self.acked_digest(episode_id) is None:
                raise
        path = self._verdicts / f"{episode_id}.json"
        rows = (read_json(path) or {"labels": []}).get("labels")
        try:
            return tuple(ManifestLabel.model_validate(row) for row in rows or ())
        except (TypeError, ValueError) as cause:
            raise SpoolCorrupt(path=path, reason=str(cause)) from cause

    def blob_path(self, episode_id: str, sha256: str) -> Path:
        """File of one blob of a waiting episode.

        Raises:
            UnknownEpisode, UnknownBlob: no such thing here.
        """
        manifest = self.manifest(episode_id)
        for name in BLOBS:
            if manifest.blob_sha256(name) == sha256:
                return self._finished / episode_id / name
        raise UnknownBlob(episode_id=episode_id, sha256=sha256)

    def acknowledge(self, episode_id: str, manifest_sha256: str) -> None:
        """Forget an episode that is safe elsewhere. Doing it twice is doing it once.

        Raises:
            UnknownEpisode: it never was here.
            IdempotencyMismatch: the acknowledged manifest is not the one kept here; nothing was removed.
        """
        with self._changing:
            before = self.acked_digest(episode_id)
            kept = self.manifest(episode_id).digest if before is None else before
            if kept != manifest_sha256:
                raise IdempotencyMismatch(thing=f"the acknowledgement of episode {episode_id}")
            if before is None:
                self._keep_verdicts(self.manifest(episode_id))
            replace_file(self._acked / episode_id, kept.encode())
            if self.holds(episode_id):
                self._remove(episode_id)

    def _names(self) -> list[str]:
        return [folder.name for folder in self._finished.iterdir()]

    def _stamp(self, episode_id: str) -> Stamp | None:
        try:
            found = (self._finished / episode_id / MANIFEST_FILE).stat()
        except OSError:
            return None
        return (found.st_ino, found.st_size, found.st_mtime_ns)

    def _kept_digest(self, episode_id: str) -> str | None:
        """sha256 of the manifest under this id, "" where it does not read back, None where there is none."""
        if not self.holds(episode_id):
            return self.acked_digest(episode_id)
        try:
            return self.manifest(episode_id).digest
        except SpoolCorrupt:
            return ""

    def _write(self, episode: Episode, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # what an earlier try could not take away
        try:
            folder.mkdir()
            write_synced(folder / STEPS_BLOB, episode.steps.to_npz())
            write_synced(folder / FRAMES_BLOB, episode.frames.data)
            write_synced(folder / MANIFEST_FILE, episode.manifest.canonical_json())
            sync_folder(folder)
        except OSError as cause:
            shutil.rmtree(folder, ignore_errors=True)
            if cause.errno not in OUT_OF_ROOM:
                raise
            raise SpoolDiskFull(path=folder, reason=cause.strerror or "no room") from cause

    def _isolate(self, episode: Episode) -> None:
        episode_id, name = episode.manifest.episode_id, f"{episode.manifest.episode_id}-{episode.digest}"
        if not (self._quarantine / name).exists():
            self._write(episode, self._incoming / episode_id)
            (self._incoming / episode_id).rename(self._quarantine / name)
            sync_folder(self._quarantine)
        log.error("episode quarantined episode=%s folder=%s", episode_id, self._quarantine / name)

    def _keep_verdicts(self, manifest: Manifest) -> None:
        if manifest.labels:
            rows = [label.model_dump(mode="json") for label in manifest.labels]
            write_json(self._verdicts / f"{manifest.episode_id}.json", {"labels": rows})

    def _remove(self, episode_id: str) -> None:
        leaving = self._incoming / episode_id
        (self._finished / episode_id).rename(leaving)
        shutil.rmtree(leaving)
        sync_folder(self._finished)

    def _sweep(self) -> None:
        """Finish what a crash interrupted: half an episode, half an acknowledgement."""
        for half in self._incoming.iterdir():
            shutil.rmtree(half)
        for name in self._names():
            mark = self.acked_digest(name)
            if mark is not None and mark == self._kept_digest(name):
                self._remove(name)
