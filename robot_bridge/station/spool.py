"""Finished episodes on the station's disk, from the end of the episode until somebody acknowledges it.

    lock                         held while a station runs
    incoming/<id>/               being written; swept at start
    episodes/<id>/               manifest.json, steps.npz, frames.bin: finished, not yet acknowledged
    acked/<id>                   sha256 of the manifest that was acknowledged
    open.json                    the episode that runs now; left behind by a crash
    lost/<id>.json               an episode whose station died while it ran

A folder is written whole, synced, and renamed into episodes/: what has its final name is complete.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from robot_bridge.episode import FRAMES_BLOB, STEPS_BLOB, Episode, Manifest, parse_manifest
from robot_bridge.errors import (
    EpisodeInvalid,
    IdempotencyMismatch,
    SpoolBusy,
    SpoolCorrupt,
    SpoolDiskFull,
    UnknownBlob,
    UnknownEpisode,
)
from robot_bridge.station.durable import (
    read_json,
    remove_file,
    replace_file,
    sync_folder,
    write_json,
    write_synced,
)

MANIFEST_FILE: Final = "manifest.json"
BLOBS: Final = (STEPS_BLOB, FRAMES_BLOB)
OUT_OF_ROOM: Final = {errno.ENOSPC, errno.EDQUOT}


class Spool:
    """One station's folder. Taking it locks it; a second station on the same folder is refused.

    Raises:
        SpoolBusy: another station has it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._finished, self._incoming = root / "episodes", root / "incoming"
        self._acked, self._lost = root / "acked", root / "lost"
        for folder in (self._finished, self._incoming, self._acked, self._lost):
            folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:  # a start that fails must not keep the lock
            self._lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            undo.callback(os.close, self._lock)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as cause:
                raise SpoolBusy(path=root) from cause
            for half in self._incoming.iterdir():
                shutil.rmtree(half)
            self._bury_open()
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

    def put(self, episode: Episode) -> None:
        """Keep a finished episode; afterwards it outlives this program.

        Putting the same episode again changes nothing.

        Raises:
            IdempotencyMismatch: another episode was kept under this id.
            SpoolDiskFull: there is no room; what was written of it is gone again.
        """
        episode_id = episode.manifest.episode_id
        final = self._finished / episode_id
        if final.exists():
            if self.manifest(episode_id).digest != episode.digest:
                raise IdempotencyMismatch(thing=f"episode {episode_id}")
        else:
            self._write(episode, self._incoming / episode_id)
            (self._incoming / episode_id).rename(final)
            sync_folder(self._finished)
        self.drop_open()

    def _write(self, episode: Episode, folder: Path) -> None:
        folder.mkdir()
        try:
            write_synced(folder / STEPS_BLOB, episode.steps.to_npz())
            write_synced(folder / FRAMES_BLOB, episode.frames.data)
            write_synced(folder / MANIFEST_FILE, episode.manifest.canonical_json())
            sync_folder(folder)
        except OSError as cause:
            shutil.rmtree(folder, ignore_errors=True)  # the next try finds the place free
            if cause.errno not in OUT_OF_ROOM:
                raise
            raise SpoolDiskFull(path=folder, reason=cause.strerror or "no room") from cause

    def waiting(self) -> list[Manifest]:
        """Manifests of all episodes that nobody acknowledged, oldest first."""
        found = [self.manifest(folder.name) for folder in self._finished.iterdir()]
        return sorted(found, key=lambda manifest: (manifest.ended_at, manifest.episode_id))

    def size(self) -> tuple[int, int]:
        """How many episodes wait, and how many bytes they take."""
        folders = list(self._finished.iterdir())
        return len(folders), sum(file.stat().st_size for folder in folders for file in folder.iterdir())

    def holds(self, episode_id: str) -> bool:
        """Whether this episode waits here."""
        return (self._finished / episode_id).is_dir()

    def is_lost(self, episode_id: str) -> bool:
        """Whether the station died while this episode ran."""
        return (self._lost / f"{episode_id}.json").exists()

    def acked_digest(self, episode_id: str) -> str | None:
        """sha256 of the acknowledged manifest, or None when this episode was never acknowledged."""
        mark = self._acked / episode_id
        return mark.read_text() if mark.exists() else None

    def manifest(self, episode_id: str) -> Manifest:
        """Manifest of a waiting episode.

        Raises:
            UnknownEpisode: none of that id waits here.
            SpoolCorrupt: its manifest does not read back.
        """
        path = self._finished / episode_id / MANIFEST_FILE
        if not self.holds(episode_id):
            raise UnknownEpisode(episode_id=episode_id)
        try:
            return parse_manifest(path.read_bytes())
        except (OSError, EpisodeInvalid) as cause:
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
        before = self.acked_digest(episode_id)
        kept = self.manifest(episode_id).digest if before is None else before
        if kept != manifest_sha256:
            raise IdempotencyMismatch(thing=f"the acknowledgement of episode {episode_id}")
        replace_file(self._acked / episode_id, kept.encode())
        if self.holds(episode_id):
            leaving = self._incoming / episode_id
            (self._finished / episode_id).rename(leaving)
            shutil.rmtree(leaving)
            sync_folder(self._finished)

    def _bury_open(self) -> None:
        left = read_json(self.root / "open.json")
        if left is None:
            return
        episode_id = str(left["episode_id"])
        if not self.holds(episode_id) and self.acked_digest(episode_id) is None:
            write_json(self._lost / f"{episode_id}.json", left)
        self.drop_open()
