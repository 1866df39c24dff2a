"""What can be asked of a station without its lease: how it stands, what happened, what it keeps, and labels.

Driving it is in `client`.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlencode

import requests

from robot_bridge.calls import READ_TIMEOUT_S, StationCalls
from robot_bridge.description import HealthAnswer, StationAnswer, StatusAnswer
from robot_bridge.episode import FRAMES_BLOB, STEPS_BLOB, Episode, Manifest, episode_of_bytes, parse_manifest
from robot_bridge.errors import DigestMismatch, UnknownCall
from robot_bridge.events import EVENTS_MAX, EventAnswer, EventsAnswer, LabelAnswer, LabelRequest, LabelsAnswer
from robot_bridge.protocol import (
    DIGEST_HEADER,
    IDEMPOTENCY_HEADER,
    PROTOCOL_MAJOR,
    SNAPSHOT_MINOR,
    AckRequest,
    EpisodeStateAnswer,
    SpoolAnswer,
    SpooledEpisode,
)
from robot_bridge.snapshot import SNAPSHOT_PATH, Snapshot, SnapshotUnsupported, read_snapshot
from robot_bridge.transport import Transport, require_same_major

log = logging.getLogger(__name__)

FETCH_TRIES: Final = 2  # how often bytes that fail their sha256 are fetched


class StationReader(StationCalls):
    """Reads one station, and takes its finished episodes over."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self._station: StationAnswer | None = None

    def health(self) -> HealthAnswer:
        """Whether it is there; needs no token."""
        return self._get("/v1/health", HealthAnswer)

    def station(self) -> StationAnswer:
        """Who the station is; asked once, then remembered.

        Raises:
            VersionMismatch: it speaks another major version.
        """
        if self._station is None:
            found = self._get("/v1/station", StationAnswer)
            require_same_major(found.protocol.major)
            self._station = found
        return self._station

    def status(self, *, timeout_s: float = READ_TIMEOUT_S) -> StatusAnswer:
        """What the station does now."""
        return self._get("/v1/status", StatusAnswer, timeout_s=timeout_s)

    def snapshot(self, *, timeout_s: float = READ_TIMEOUT_S) -> Snapshot:
        """What the camera showed last; it waits for no motion and disturbs none.

        Raises:
            SnapshotUnsupported: the station is older than robot-station/v1.3.
            NoPicture: the camera has shown nothing yet; ask again.
        """
        try:
            answer = self._transport.call("GET", SNAPSHOT_PATH, timeout_s=timeout_s)
        except UnknownCall as cause:
            expected = f"robot-station/v{PROTOCOL_MAJOR}.{SNAPSHOT_MINOR}"
            raise SnapshotUnsupported(url=self.base_url, expected=expected) from cause
        return read_snapshot(answer, url=self.base_url)

    def events(self, after: int = 0, *, wait_s: float = 0.0, limit: int = EVENTS_MAX) -> EventsAnswer:
        """Events after a cursor, oldest first; when there is none, the station waits `wait_s` s for one.

        Start at 0 and go on with `next_cursor`; an `oldest` above your cursor + 1 says that some are lost.
        """
        query = urlencode({"after": after, "wait": wait_s, "limit": limit})
        return self._get(f"/v1/events?{query}", EventsAnswer, timeout_s=READ_TIMEOUT_S + wait_s)

    def all_events(self) -> Iterator[EventAnswer]:
        """Everything that the station's journal still holds, oldest first."""
        page = self.events()
        while page.events:
            yield from page.events
            page = self.events(page.next_cursor)

    def state(self, episode_id: str) -> EpisodeStateAnswer:
        """Where an episode is.

        Raises:
            UnknownEpisode: it never was on this station.
        """
        return self._get(f"/v1/episodes/{episode_id}/state", EpisodeStateAnswer)

    def labels(self, episode_id: str) -> LabelsAnswer:
        """All verdicts on an episode, and the one that counts; also after its acknowledgement.

        Raises:
            UnknownEpisode: it never was finished on this station.
        """
        return self._get(f"/v1/episodes/{episode_id}/labels", LabelsAnswer)

    def add_label(self, episode_id: str, label: LabelRequest) -> LabelAnswer:
        """Add a verdict; a lost answer does not add it twice.

        Raises:
            UnknownEpisode: it never was finished on this station.
        """
        key = {IDEMPOTENCY_HEADER: str(uuid.uuid4())}
        return self._post(f"/v1/episodes/{episode_id}/labels", label, LabelAnswer, headers=key)

    def spool_page(self, after: str | None = None) -> SpoolAnswer:
        """One page of the spool, oldest first; go on with its `next_cursor` until that is None."""
        query = "" if after is None else f"?{urlencode({'after': after})}"
        return self._get(f"/v1/episodes{query}", SpoolAnswer)

    def waiting_episodes(self) -> tuple[SpooledEpisode, ...]:
        """Finished episodes that nobody acknowledged yet, oldest first; also of earlier runs and clients.

        Those that do not read back on the station's disk are only logged: somebody must look at them there.
        """
        page = self.spool_page()
        found = list(page.episodes)
        for name in page.unreadable:
            log.error("episode unreadable at the station url=%s episode=%s", self.base_url, name)
        while page.next_cursor is not None and page.episodes:
            page = self.spool_page(page.next_cursor)
            found += page.episodes
        return tuple(found)

    def fetch_episode(self, episode_id: str) -> Episode:
        """A finished episode, its manifest and both blobs checked against their sha256.

        Raises:
            DigestMismatch, EpisodeInvalid, StepsCorrupt, FramesCorrupt: it did not arrive as it was kept.
        """
        path = f"/v1/episodes/{episode_id}"
        answer = self._transport.call("GET", path, timeout_s=READ_TIMEOUT_S)
        manifest = checked_manifest(answer)
        return episode_of_bytes(
            manifest.canonical_json(),
            steps=self._blob(episode_id, manifest.blob_sha256(STEPS_BLOB)),
            frames=self._blob(episode_id, manifest.blob_sha256(FRAMES_BLOB)),
        )

    def ack(self, episode: Episode | Manifest) -> None:
        """Tell the station that the episode is safe here: it forgets it. Twice does no harm."""
        manifest = episode.manifest if isinstance(episode, Episode) else episode
        request = AckRequest(manifest_sha256=manifest.digest)
        self._send(f"/v1/episodes/{manifest.episode_id}/ack", request, timeout_s=READ_TIMEOUT_S)

    def _blob(self, episode_id: str, sha256: str) -> bytes:
        path, found = f"/v1/episodes/{episode_id}/blobs/{sha256}", ""
        for _ in range(FETCH_TRIES):
            content = self._transport.call("GET", path, timeout_s=READ_TIMEOUT_S).content
            found = hashlib.sha256(content).hexdigest()
            if found == sha256:
                return content
        raise DigestMismatch(thing=f"a blob of episode {episode_id}", expected=sha256, found=found)


def checked_manifest(answer: requests.Response) -> Manifest:
    """The manifest in an answer.

    Raises:
        DigestMismatch: it is not the one whose sha256 the answer's header names.
    """
    manifest = parse_manifest(answer.content)
    claimed = answer.headers.get(DIGEST_HEADER, "(none)")
    if manifest.digest != claimed:
        raise DigestMismatch(
            thing=f"the manifest of episode {manifest.episode_id}", expected=claimed, found=manifest.digest
        )
    return manifest
