"""Calls that fetch finished episodes and let the station forget them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Response

from robot_bridge.episode import Manifest
from robot_bridge.errors import BadRequest, UnknownEpisode
from robot_bridge.protocol import AckRequest, EpisodeId, SpoolAnswer
from robot_bridge.station.plain_json import PlainJsonRoute
from robot_bridge.station.routes import manifest_answer, require_version
from robot_bridge.station.session import StationSession
from robot_bridge.station.spool_list import PAGE_MAX

BYTES: Final = "application/octet-stream"
CURSOR_MAX: Final = 300  # characters
ONE_RANGE: Final = re.compile(r"bytes=(\d{1,18})-(\d{0,18})|bytes=-(\d{1,18})")
BLOB: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}},
    206: {
        "description": "The range that was asked for",
        "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
    },
}


def spool_routes(session: StationSession) -> APIRouter:
    """Finished episodes of one station."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(require_version)], route_class=PlainJsonRoute)

    @router.get("/episodes")
    def waiting(
        after: Annotated[str | None, Query(max_length=CURSOR_MAX)] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_MAX,
    ) -> SpoolAnswer:
        session.settle()
        return session.spool.page(after, limit=limit)

    @router.get("/episodes/{episode_id}", response_model=Manifest)
    def manifest(episode_id: EpisodeId) -> Response:
        return manifest_answer(session.spool.manifest(episode_id))

    @router.get("/episodes/{episode_id}/blobs/{sha256}", responses=BLOB, response_class=Response)
    def blob(
        episode_id: EpisodeId, sha256: str, wanted: Annotated[str | None, Header(alias="Range")] = None
    ) -> Response:
        path = session.spool.blob_path(episode_id, sha256)
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # acknowledged a moment ago
            raise UnknownEpisode(episode_id=episode_id) from None
        return _part(content, wanted)

    @router.post("/episodes/{episode_id}/ack", status_code=204)
    def acknowledge(episode_id: EpisodeId, request: AckRequest) -> None:
        session.acknowledge(episode_id, request.manifest_sha256)

    return router


def _part(content: bytes, wanted: str | None) -> Response:
    """The whole, or the one range of it that was asked for.

    Raises:
        BadRequest: not one range of bytes, or one that lies outside.
    """
    if wanted is None:
        return Response(content, media_type=BYTES, headers={"Accept-Ranges": "bytes"})
    match = ONE_RANGE.fullmatch(wanted.strip())
    if match is None:
        raise BadRequest(thing="header Range", reason="it is not one range of bytes, as in bytes=0-99")
    first, last, tail = match.groups()
    begin = max(len(content) - int(tail), 0) if tail is not None else int(first)
    end = len(content) if tail is not None or not last else min(int(last) + 1, len(content))
    if begin >= end:
        raise BadRequest(thing="header Range", reason=f"it is outside of {len(content)} bytes")
    headers = {"Accept-Ranges": "bytes", "Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"}
    return Response(content[begin:end], status_code=206, media_type=BYTES, headers=headers)
