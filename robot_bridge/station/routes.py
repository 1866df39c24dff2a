"""The calls of robot-station/v1, a few lines each over the session. An operator has `operator_routes`."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import FileResponse

from robot_bridge.description import HealthAnswer, StationAnswer, StatusAnswer
from robot_bridge.episode import Manifest
from robot_bridge.errors import VersionMismatch
from robot_bridge.protocol import (
    DIGEST_HEADER,
    FENCE_HEADER,
    IDEMPOTENCY_HEADER,
    PROBLEM_TYPE,
    PROTOCOL_HEADER,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    AckRequest,
    EpisodeId,
    EpisodeReadyAnswer,
    EpisodeRequest,
    EpisodeStateAnswer,
    EStopAnswer,
    EStopRequest,
    FinishRequest,
    HeartbeatRequest,
    LeaseAnswer,
    LeaseRequest,
    Problem,
    ResetAnswer,
    ResetRequest,
    SpoolAnswer,
    StartRequest,
    StepsAnswer,
    StepsRequest,
)
from robot_bridge.station.describe import description_of, health_of, status_of
from robot_bridge.station.operations import Operations
from robot_bridge.station.session import StationSession
from robot_bridge.station.spool_list import PAGE_MAX

Fence: TypeAlias = Annotated[int | None, Header(alias=FENCE_HEADER, ge=0, lt=2**63)]
Key: TypeAlias = Annotated[str | None, Header(alias=IDEMPOTENCY_HEADER, max_length=200)]

REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Problem, "content": {PROBLEM_TYPE: {}}, "description": "refused; `code` says why"}
    for status in ("4XX", "5XX")
}


def station_routes(session: StationSession) -> APIRouter:
    """All calls of one station but those of an operator."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(require_version)], responses=REFUSALS)
    _add_description(router, session)
    _add_leases(router, session)
    _add_episodes(router, session)
    _add_spool(router, session)
    return router


def require_version(version: Annotated[str | None, Header(alias=PROTOCOL_HEADER)] = None) -> None:
    """A client that says which version it speaks must speak ours; one that says nothing is let in."""
    if version is not None and version.split(".")[0] != str(PROTOCOL_MAJOR):
        raise VersionMismatch(found=version or "(empty)", expected=f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}")


def _add_description(router: APIRouter, session: StationSession) -> None:
    @router.get("/health")
    def health() -> HealthAnswer:
        return health_of(session)

    @router.get("/station")
    def station() -> StationAnswer:
        return description_of(session)

    @router.get("/status")
    def status() -> StatusAnswer:
        session.settle()
        return status_of(session)

    @router.post("/estop")
    async def estop(request: EStopRequest) -> EStopAnswer:
        """Async, and it only touches the latch: no busy worker thread and no motion can hold it up."""
        latched = session.stop(request.reason)
        return EStopAnswer(since=latched["since"], reason=latched["reason"])


def _add_leases(router: APIRouter, session: StationSession) -> None:
    @router.post("/leases", status_code=201)
    def acquire(request: LeaseRequest, key: Key = None) -> LeaseAnswer:
        session.settle()
        session.estop.require_clear()
        return session.leases.acquire(request, key=key)

    @router.post("/leases/{lease_id}/heartbeat")
    def heartbeat(lease_id: str, request: HeartbeatRequest) -> LeaseAnswer:
        return session.leases.heartbeat(lease_id, request.seq)

    @router.delete("/leases/{lease_id}", status_code=204)
    def release(lease_id: str) -> None:
        session.release(lease_id)

    @router.post("/resets")
    def reset(request: ResetRequest, fence: Fence = None) -> ResetAnswer:
        return Operations(session).reset(request, fence)


def _add_episodes(router: APIRouter, session: StationSession) -> None:
    @router.post("/episodes")
    def create(request: EpisodeRequest, fence: Fence = None) -> EpisodeReadyAnswer:
        return session.create(request, fence)

    @router.post("/episodes/{episode_id}/start", status_code=202)
    def start(episode_id: EpisodeId, request: StartRequest, fence: Fence = None) -> EpisodeStateAnswer:
        return session.begin_run(episode_id, fence)

    @router.get("/episodes/{episode_id}/state")
    def state(episode_id: EpisodeId) -> EpisodeStateAnswer:
        session.settle()
        return session.progress(episode_id)

    @router.post("/episodes/{episode_id}/steps")
    def step(episode_id: EpisodeId, request: StepsRequest, fence: Fence = None) -> StepsAnswer:
        return session.step(episode_id, request, fence)

    @router.post("/episodes/{episode_id}/finish", response_model=Manifest)
    def finish(episode_id: EpisodeId, request: FinishRequest, fence: Fence = None) -> Response:
        return _manifest_answer(session.finish(episode_id, request.reason, fence))


def _add_spool(router: APIRouter, session: StationSession) -> None:
    @router.get("/episodes")
    def waiting(
        after: Annotated[str | None, Query(max_length=300)] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_MAX,
    ) -> SpoolAnswer:
        session.settle()
        return session.spool.page(after, limit=limit)

    @router.get("/episodes/{episode_id}", response_model=Manifest)
    def manifest(episode_id: EpisodeId) -> Response:
        return _manifest_answer(session.spool.manifest(episode_id))

    @router.get(
        "/episodes/{episode_id}/blobs/{sha256}",
        response_class=FileResponse,
        responses={200: {"content": {"application/octet-stream": {}}}},
    )
    def blob(episode_id: EpisodeId, sha256: str) -> FileResponse:
        path = session.spool.blob_path(episode_id, sha256)
        return FileResponse(path, media_type="application/octet-stream")

    @router.post("/episodes/{episode_id}/ack", status_code=204)
    def acknowledge(episode_id: EpisodeId, request: AckRequest) -> None:
        session.acknowledge(episode_id, request.manifest_sha256)


def _manifest_answer(manifest: Manifest) -> Response:
    content = manifest.canonical_json()
    return Response(content, media_type="application/json", headers={DIGEST_HEADER: manifest.digest})
