"""The calls of robot-station/v1, each a few lines over the session."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import FileResponse

from robot_bridge.conventions import BRIDGE_V2
from robot_bridge.description import (
    CameraAnswer,
    HealthAnswer,
    LimitsAnswer,
    OpenEpisode,
    ProtocolVersion,
    StationAnswer,
    StationState,
    StatusAnswer,
    TaskAnswer,
)
from robot_bridge.episode import Convention
from robot_bridge.errors import VersionMismatch
from robot_bridge.protocol import (
    CHUNK_MAX,
    DIGEST_HEADER,
    FENCE_HEADER,
    IDEMPOTENCY_HEADER,
    PROTOCOL_HEADER,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    STEPS_MAX,
    AckRequest,
    EpisodeId,
    EpisodeReadyAnswer,
    EpisodeRequest,
    EStopAnswer,
    EStopRequest,
    FinishRequest,
    HeartbeatRequest,
    LeaseAnswer,
    LeaseRequest,
    SpoolAnswer,
    SpooledEpisode,
    StepsAnswer,
    StepsRequest,
)
from robot_bridge.station.session import StationSession

CAPABILITIES = ("stepped", "seeded_reset", "sim_predicate", "spool", "narrowed_limits")

Fence: TypeAlias = Annotated[int | None, Header(alias=FENCE_HEADER)]
Key: TypeAlias = Annotated[str | None, Header(alias=IDEMPOTENCY_HEADER, max_length=200)]


def station_routes(session: StationSession) -> APIRouter:
    """All calls of one station."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(_require_version)])
    _add_description(router, session)
    _add_leases(router, session)
    _add_episodes(router, session)
    _add_spool(router, session)
    return router


def _require_version(version: Annotated[str | None, Header(alias=PROTOCOL_HEADER)] = None) -> None:
    """A client that says which version it speaks must speak ours; one that says nothing is let in."""
    if version is not None and version.split(".")[0] != str(PROTOCOL_MAJOR):
        raise VersionMismatch(found=version, expected=f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}")


def _add_description(router: APIRouter, session: StationSession) -> None:
    @router.get("/health")
    def health() -> HealthAnswer:
        state = _state(session)
        return HealthAnswer(live=True, ready=state != "ESTOPPED", state=state)

    @router.get("/station")
    def station() -> StationAnswer:
        return _describe(session)

    @router.get("/status")
    def status() -> StatusAnswer:
        session.settle()
        latched, recording = session.estop.read(), session.recording
        episodes, size = session.spool.size()
        return StatusAnswer(
            state=_state(session),
            lease=session.leases.state(),
            episode=None
            if recording is None
            else OpenEpisode(
                episode_id=recording.request.episode_id,
                task_id=recording.request.task_id,
                state="running" if recording.count else "ready",
                next_step=recording.count,
                clips=dict(recording.pipeline.counts),
            ),
            estop_reason=None if latched is None else latched["reason"],
            spooled_episodes=episodes,
            spooled_bytes=size,
            station_time=session.clock(),
        )

    @router.post("/estop")
    def estop(request: EStopRequest) -> EStopAnswer:
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
        session.leases.release(lease_id)
        session.settle()


def _add_episodes(router: APIRouter, session: StationSession) -> None:
    @router.post("/episodes")
    def create(request: EpisodeRequest, fence: Fence = None) -> EpisodeReadyAnswer:
        return session.create(request, fence)

    @router.post("/episodes/{episode_id}/steps")
    def step(episode_id: EpisodeId, request: StepsRequest, fence: Fence = None) -> StepsAnswer:
        return session.step(episode_id, request, fence)

    @router.post("/episodes/{episode_id}/finish")
    def finish(episode_id: EpisodeId, request: FinishRequest, fence: Fence = None) -> Response:
        manifest = session.finish(episode_id, request.reason, fence)
        return _manifest_answer(manifest.canonical_json(), manifest.digest)


def _add_spool(router: APIRouter, session: StationSession) -> None:
    @router.get("/episodes")
    def waiting() -> SpoolAnswer:
        session.settle()
        return SpoolAnswer(
            episodes=tuple(
                SpooledEpisode(
                    episode_id=manifest.episode_id,
                    manifest_sha256=manifest.digest,
                    task_id=manifest.task_id,
                    outcome=manifest.outcome,
                    T=manifest.T,
                )
                for manifest in session.spool.waiting()
            )
        )

    @router.get("/episodes/{episode_id}")
    def manifest(episode_id: EpisodeId) -> Response:
        found = session.spool.manifest(episode_id)
        return _manifest_answer(found.canonical_json(), found.digest)

    @router.get("/episodes/{episode_id}/blobs/{sha256}")
    def blob(episode_id: EpisodeId, sha256: str) -> FileResponse:
        path = session.spool.blob_path(episode_id, sha256)
        return FileResponse(path, media_type="application/octet-stream")

    @router.post("/episodes/{episode_id}/ack", status_code=204)
    def acknowledge(episode_id: EpisodeId, request: AckRequest) -> None:
        session.acknowledge(episode_id, request.manifest_sha256)


def _manifest_answer(manifest_json: bytes, digest: str) -> Response:
    return Response(manifest_json, media_type="application/json", headers={DIGEST_HEADER: digest})


def _state(session: StationSession) -> StationState:
    if session.estop.read() is not None:
        return "ESTOPPED"
    if session.moving:
        return "RUNNING" if session.recording is not None else "RESETTING"
    if session.recording is None:
        return "IDLE"
    return "RUNNING" if session.recording.count else "READY"


def _describe(session: StationSession) -> StationAnswer:
    robot = session.description
    camera = robot.camera
    return StationAnswer(
        station_id=session.station_id,
        robot_model=robot.robot_model,
        software_digest=robot.software_digest,
        protocol=ProtocolVersion(major=PROTOCOL_MAJOR, minor=PROTOCOL_MINOR),
        capabilities=CAPABILITIES,
        modes=("stepped",),
        conventions=Convention(state=BRIDGE_V2, action=BRIDGE_V2),
        control_hz=robot.control_hz,
        cameras=(
            CameraAnswer(
                name=camera.name, w=camera.width, h=camera.height, fps=camera.fps, renderer=camera.renderer
            ),
        ),
        limits=LimitsAnswer(
            step_xyz_max=robot.step_xyz_max,
            step_rot_max=robot.step_rot_max,
            max_steps=STEPS_MAX,
            max_actions_per_call=CHUNK_MAX,
        ),
        tasks=tuple(
            TaskAnswer(
                task_id=task.task_id,
                instruction=task.instruction,
                box_low=task.box_low,
                box_high=task.box_high,
            )
            for task in robot.tasks
        ),
    )
