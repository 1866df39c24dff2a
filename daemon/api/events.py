"""What happened: in pages, and live as server-sent events that can be resumed."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from daemon.api.event_schemas import EventPage
from daemon.api.pages import Cursor, Limit, OfIteration
from daemon.api.services import Wired
from daemon.events.feed import Feed, stream
from daemon.events.words import event_record
from storage import events

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/events", tags=["events"])

Kinds = Annotated[
    list[Annotated[str, Query(max_length=64)]] | None,
    Query(alias="kind", max_length=50, description="only this kind; may be repeated"),
]
Position = Annotated[
    str | None, Query(max_length=18, description="begin behind this event; without it, with what comes next")
]
LastEventId = Annotated[
    str | None,
    Header(max_length=18, description="as browsers send it when they come back; wins over `after`"),
]


@router.get("", response_model=EventPage)
def list_events(
    services: Wired,
    limit: Limit = 50,
    cursor: Cursor = None,
    kind: Kinds = None,
    iteration: OfIteration = None,
) -> dict[str, Any]:
    """Give a page of events, newest first."""
    with services.database.read() as session:
        rows, next_cursor = events.list_events(
            session, kinds=kind or (), iteration=iteration, cursor=cursor, limit=limit
        )
    return {"items": [event_record(row) for row in rows], "next_cursor": next_cursor}


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
def stream_events(
    services: Wired, kind: Kinds = None, after: Position = None, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Send events as they happen, and the progress of running phases as events without id."""
    wanted = last_event_id or after
    with services.database.read() as session:
        newest = events.newest_position(session)
    position = newest if not wanted else min(newest, events.position_of(wanted))
    services.feed.enter()
    return EventStream(
        stream(services.database, services.feed, position=position, kinds=kind or ()), feed=services.feed
    )


class EventStream(StreamingResponse):
    """A stream that gives its place back however it ends, and leaves a reader that takes nothing."""

    def __init__(self, content: Iterator[bytes], *, feed: Feed) -> None:
        super().__init__(
            _on_a_thread_of_its_own(content),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_time(message: Message) -> None:
            with anyio.fail_after(self._feed.slow_s):
                await send(message)

        try:
            await super().__call__(scope, receive, in_time)
        except TimeoutError:
            log.warning("event stream left reason=slow_reader slow_s=%.0f", self._feed.slow_s)
        finally:
            self._feed.leave()


async def _on_a_thread_of_its_own(frames: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The frames, waited for on a thread that no call is done on."""
    alone = anyio.CapacityLimiter(1)
    while (frame := await anyio.to_thread.run_sync(next, frames, None, limiter=alone)) is not None:
        yield frame
