"""The calls of robot-station/v1 that drive it, a few lines each over the session.

Finished episodes have `spool_routes`, an operator has `operator_routes`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import ValidationError

from robot_bridge.description import HealthAnswer, StationAnswer, StatusAnswer
from robot_bridge.episode import Manifest
from robot_bridge.errors import BadRequest, VersionMismatch
from robot_bridge.protocol import (
    AUTHORIZATION_HEADER,
    DIGEST_HEADER,
    FENCE_HEADER,
    IDEMPOTENCY_HEADER,
    PICTURE_AGE_HEADER,
    PICTURE_NUMBER_HEADER,
    PICTURE_TIME_HEADER,
    PROTOCOL_HEADER,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
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
    ResetAnswer,
    ResetRequest,
    StartRequest,
    StepsAnswer,
    StepsRequest,
)
from robot_bridge.snapshot import SNAPSHOT_TYPE, Snapshot
from robot_bridge.station.describe import description_of, health_of, status_of
from robot_bridge.station.operations import Operations
from robot_bridge.station.plain_json import PlainJsonRoute
from robot_bridge.station.session import StationSession

Fence: TypeAlias = Annotated[int | None, Header(alias=FENCE_HEADER, ge=0, lt=2**63)]
Key: TypeAlias = Annotated[str | None, Header(alias=IDEMPOTENCY_HEADER, max_length=200)]

JSON: Final = "application/json"
PICTURE: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {SNAPSHOT_TYPE: {}}}}
STOP_SCHEMA: Final = EStopRequest.model_json_schema()
UNREADABLE_STOP: Final = "a stop whose body cannot be read"
ONCE: Final = (FENCE_HEADER, IDEMPOTENCY_HEADER, PROTOCOL_HEADER, AUTHORIZATION_HEADER)


def station_routes(session: StationSession) -> APIRouter:
    """Description, leases, resets and episodes of one station."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(require_version)], route_class=PlainJsonRoute)
    _add_description(router, session)
    _add_leases(router, session)
    _add_episodes(router, session)
    return router


def stop_route(session: StationSession) -> APIRouter:
    """The emergency stop: no lease, no version, no body needed, no worker thread, nothing to wait for."""
    router = APIRouter(prefix="/v1")

    @router.post("/estop", openapi_extra={"requestBody": {"content": {JSON: {"schema": STOP_SCHEMA}}}})
    async def estop(request: Request) -> EStopAnswer:
        latched = session.stop(_reason_of(await request.body()))
        return EStopAnswer(since=latched["since"], reason=latched["reason"])

    return router


def _reason_of(body: bytes) -> str:
    """What the caller of a stop says. A stop that says it in a way nobody understands stops all the same."""
    try:
        return EStopRequest.model_validate_json(body or b"{}").reason
    except ValidationError:
        return UNREADABLE_STOP


async def require_version(
    request: Request, version: Annotated[str | None, Header(alias=PROTOCOL_HEADER)] = None
) -> None:
    """A client that says which version it speaks must speak ours; one that says nothing is let in.

    A header that decides something comes once or not at all: of two, nobody knows which one is meant.

    Raises:
        BadRequest: one came twice.
        VersionMismatch: another major version.
    """
    for name in ONCE:
        if len(request.headers.getlist(name)) > 1:
            raise BadRequest(thing=f"header {name}", reason="it came more than once")
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

    @router.get("/snapshot", response_class=Response, responses=PICTURE)
    def snapshot() -> Response:
        return picture_answer(session.keeper.view.snapshot())


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
    def start(
        episode_id: EpisodeId, request: StartRequest | None = None, fence: Fence = None
    ) -> EpisodeStateAnswer:
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
        return manifest_answer(session.finish(episode_id, request.reason, fence))


def picture_answer(picture: Snapshot) -> Response:
    """A picture with its number, and how old it is."""
    headers = {
        PICTURE_NUMBER_HEADER: str(picture.number),
        PICTURE_AGE_HEADER: f"{picture.age_s * 1000.0:.0f}",
        PICTURE_TIME_HEADER: picture.captured_at.isoformat(),
        "Cache-Control": "no-store",
    }
    return Response(picture.jpeg, media_type=SNAPSHOT_TYPE, headers=headers)


def manifest_answer(manifest: Manifest) -> Response:
    """The manifest's own bytes, with their digest beside them."""
    content = manifest.canonical_json()
    return Response(content, media_type="application/json", headers={DIGEST_HEADER: manifest.digest})
