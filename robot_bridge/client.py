"""The daemon's side of robot-station/v1: one method per call, numpy in and out.

A client holds at most one lease and sends its fence by itself. Retries and errors are in `transport`.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import numpy as np
import requests
from numpy.typing import ArrayLike
from pydantic import ValidationError

from robot_bridge.conventions import checked_action
from robot_bridge.description import StationAnswer, StatusAnswer
from robot_bridge.episode import FRAMES_BLOB, STEPS_BLOB, Episode, Manifest, episode_of_bytes, parse_manifest
from robot_bridge.errors import BadAction, DigestMismatch, LeaseRequired, StationMisbehaved, UnknownLease
from robot_bridge.observation import EpisodeReady, StepResult, read_ready, read_steps
from robot_bridge.protocol import (
    DIGEST_HEADER,
    FENCE_HEADER,
    IDEMPOTENCY_HEADER,
    AckRequest,
    Answer,
    Command,
    EpisodeReadyAnswer,
    EpisodeRequest,
    EStopAnswer,
    EStopRequest,
    FinishReason,
    FinishRequest,
    HeartbeatRequest,
    LeaseAnswer,
    LeaseRequest,
    SpoolAnswer,
    SpooledEpisode,
    StepsAnswer,
    StepsRequest,
)
from robot_bridge.transport import Retries, Transport, require_same_major

READ_TIMEOUT_S: Final = 10.0
MOTION_TIMEOUT_S: Final = 60.0  # a reset of a real arm, or sixty-four steps
FETCH_TRIES: Final = 2  # how often bytes that fail their sha256 are fetched

AnswerT = TypeVar("AnswerT", bound=Answer)


class StationClient:
    """Talks to one station. Use it from one thread at a time.

    Every method may raise StationUnreachable (retryable: asking again never moves the arm twice),
    StationMisbehaved, and the refusals of `robot_bridge.errors` that the station answers with.
    """

    def __init__(
        self,
        base_url: str,
        *,
        session: requests.Session | None = None,
        retries: Retries | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = Transport(base_url, session=session, retries=retries)
        self._clock = clock
        self._station: StationAnswer | None = None
        self._lease: LeaseAnswer | None = None
        self._heartbeats = 0
        self._clock_offset = 0.0

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    @property
    def lease(self) -> LeaseAnswer | None:
        """The lease this client acquired last and did not release."""
        return self._lease

    def close(self) -> None:
        """Close the connections; a lease is left to run out."""
        self._transport.close()

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

    def status(self) -> StatusAnswer:
        """What the station does now."""
        return self._get("/v1/status", StatusAnswer)

    def acquire_lease(self, holder: str, ttl_s: float = 30.0, *, purpose: str = "") -> LeaseAnswer:
        """Get the robot for `ttl_s` seconds from every heartbeat or accepted step on.

        Raises:
            LeaseConflict: somebody else has it.
        """
        request = LeaseRequest(holder=holder, purpose=purpose, ttl_s=ttl_s)
        key = {IDEMPOTENCY_HEADER: str(uuid.uuid4())}
        asked_at = self._clock()
        lease = self._post("/v1/leases", request, LeaseAnswer, headers=key)
        self._clock_offset = lease.station_time - (asked_at + self._clock()) / 2.0
        self._lease, self._heartbeats = lease, 0
        return lease

    def heartbeat(self) -> LeaseAnswer:
        """Prolong the lease.

        Raises:
            LeaseRequired: this client has none.
            UnknownLease: it ran out.
        """
        self._heartbeats += 1
        path = f"/v1/leases/{self._held('heartbeat').lease_id}/heartbeat"
        return self._post(path, HeartbeatRequest(seq=self._heartbeats), LeaseAnswer)

    def release(self) -> None:
        """Give the robot back; a lease that is over already is no error."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            self._transport.call("DELETE", f"/v1/leases/{lease.lease_id}", timeout_s=READ_TIMEOUT_S)
        except UnknownLease:
            return

    @contextmanager
    def leased(self, holder: str, ttl_s: float = 30.0) -> Iterator[LeaseAnswer]:
        """Hold the robot for the length of a with block."""
        lease = self.acquire_lease(holder, ttl_s)
        try:
            yield lease
        finally:
            self.release()

    def create_episode(self, request: EpisodeRequest) -> EpisodeReady:
        """Reset the scene; gives the first observation."""
        answer = self._post("/v1/episodes", request, EpisodeReadyAnswer, headers=self._fence("episodes"))
        width, height = self._picture()
        return read_ready(answer, width=width, height=height)

    def step(
        self,
        episode_id: str,
        t: int,
        actions: ArrayLike,
        *,
        infer_ms: float = 0.0,
        ttl_ms: float | None = None,
    ) -> StepResult:
        """Execute bridge_v2 actions [k, 7] from step t on; gives the k observations they produced.

        Sent again for the same t, it moves nothing and gives the same result. With `ttl_ms`, a command that
        reaches the arm later than that is refused.

        Raises:
            BadAction: not [k, 7] finite numbers with k >= 1; nothing was sent.
        """
        request = StepsRequest(
            t=t,
            actions=_rows(actions),
            infer_ms=infer_ms,
            issued_at=None if ttl_ms is None else self._clock() + self._clock_offset,
            ttl_ms=ttl_ms,
        )
        path = f"/v1/episodes/{episode_id}/steps"
        answer = self._post(path, request, StepsAnswer, headers=self._fence("steps"))
        width, height = self._picture()
        return read_steps(answer, width=width, height=height)

    def finish(self, episode_id: str, reason: FinishReason = "completed") -> Manifest:
        """End the episode: the station judges it when it was completed, and keeps it until `ack`."""
        answer = self._transport.call(
            "POST",
            f"/v1/episodes/{episode_id}/finish",
            body=FinishRequest(reason=reason).model_dump_json(),
            headers=self._fence("finish"),
            timeout_s=MOTION_TIMEOUT_S,
        )
        return _checked_manifest(answer)

    def waiting_episodes(self) -> tuple[SpooledEpisode, ...]:
        """Finished episodes that nobody acknowledged yet, oldest first; also of earlier runs and clients."""
        return self._get("/v1/episodes", SpoolAnswer).episodes

    def fetch_episode(self, episode_id: str) -> Episode:
        """A finished episode, its manifest and both blobs checked against their sha256.

        Raises:
            DigestMismatch, EpisodeInvalid, StepsCorrupt, FramesCorrupt: it did not arrive as it was kept.
        """
        path = f"/v1/episodes/{episode_id}"
        answer = self._transport.call("GET", path, timeout_s=READ_TIMEOUT_S)
        manifest = _checked_manifest(answer)
        return episode_of_bytes(
            manifest.canonical_json(),
            steps=self._blob(episode_id, manifest.blob_sha256(STEPS_BLOB)),
            frames=self._blob(episode_id, manifest.blob_sha256(FRAMES_BLOB)),
        )

    def ack(self, episode: Episode | Manifest) -> None:
        """Tell the station that the episode is safe here: it forgets it. Twice does no harm."""
        manifest = episode.manifest if isinstance(episode, Episode) else episode
        self._transport.call(
            "POST",
            f"/v1/episodes/{manifest.episode_id}/ack",
            body=AckRequest(manifest_sha256=manifest.digest).model_dump_json(),
            timeout_s=READ_TIMEOUT_S,
        )

    def estop(self, reason: str = "") -> EStopAnswer:
        """Stop the arm now; needs no lease, and only somebody at the station can undo it."""
        return self._post("/v1/estop", EStopRequest(reason=reason), EStopAnswer)

    def _get(self, path: str, kind: type[AnswerT]) -> AnswerT:
        answer = self._transport.call("GET", path, timeout_s=READ_TIMEOUT_S)
        return self._read(answer, kind, f"GET {path}")

    def _post(
        self, path: str, command: Command, kind: type[AnswerT], *, headers: dict[str, str] | None = None
    ) -> AnswerT:
        body = command.model_dump_json()
        answer = self._transport.call("POST", path, body=body, headers=headers, timeout_s=MOTION_TIMEOUT_S)
        return self._read(answer, kind, f"POST {path}")

    def _read(self, answer: requests.Response, kind: type[AnswerT], call: str) -> AnswerT:
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as cause:
            raise StationMisbehaved(
                url=self.base_url, call=call, found="another body", expected=kind.__name__
            ) from cause

    def _blob(self, episode_id: str, sha256: str) -> bytes:
        path, found = f"/v1/episodes/{episode_id}/blobs/{sha256}", ""
        for _ in range(FETCH_TRIES):
            content = self._transport.call("GET", path, timeout_s=READ_TIMEOUT_S).content
            found = hashlib.sha256(content).hexdigest()
            if found == sha256:
                return content
        raise DigestMismatch(thing=f"a blob of episode {episode_id}", expected=sha256, found=found)

    def _held(self, call: str) -> LeaseAnswer:
        if self._lease is None:
            raise LeaseRequired(call=call)
        return self._lease

    def _fence(self, call: str) -> dict[str, str]:
        return {FENCE_HEADER: str(self._held(call).fence)}

    def _picture(self) -> tuple[int, int]:
        camera = self.station().cameras[0]
        return camera.w, camera.h


def _rows(actions: ArrayLike) -> list[list[float]]:
    rows = np.asarray(actions)
    if rows.ndim != 2 or len(rows) == 0:
        raise BadAction(thing="actions", expected="an array [k, 7] with k >= 1", found=f"shape {rows.shape}")
    return [[float(number) for number in checked_action(row)] for row in rows]


def _checked_manifest(answer: requests.Response) -> Manifest:
    manifest = parse_manifest(answer.content)
    claimed = answer.headers.get(DIGEST_HEADER, "(none)")
    if manifest.digest != claimed:
        raise DigestMismatch(
            thing=f"the manifest of episode {manifest.episode_id}", expected=claimed, found=manifest.digest
        )
    return manifest
