"""Answers that are given again as long as nothing was written to the database.

A dashboard asks for the same lists every second, and between two writes they are the same. An answer is kept
with the mark that the database had before it was made, so it is never older than what a new one would read.
"""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from anyio import CapacityLimiter, move_on_after, to_thread
from fastapi import Depends, Request, Response, params
from sqlalchemy.exc import SQLAlchemyError

from daemon.api.callers import Caller
from daemon.api.security import Mark, scope_of
from storage.change_marks import ChangeMarks

MOST_BYTES: Final = 4_000_000  # of all answers together
LARGEST_SHARE: Final = 4  # one answer may take a quarter of it
OVERHEAD_BYTES: Final = 1000  # of an answer beside its body and its question: headers and what holds it
MARKS_AT_ONCE: Final = 4
PATIENCE_S: Final = 0.5  # for the database to say whether anything was written; the route waits longer itself

Answering: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]


class Keeps(Mark):
    """Of a route whose answer follows from its address, its `Accept` and the database alone."""


def keeps() -> Any:
    """For a route's `dependencies`: its good answers are kept while nothing is written."""
    return Depends(Keeps())


def is_kept(dependencies: Sequence[params.Depends]) -> bool:
    """Whether a route is marked by `keeps`."""
    return any(isinstance(each.dependency, Keeps) for each in dependencies)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    body: bytes
    headers: dict[str, str]
    size: int


class KeptAnswers:
    """The answers of one process, all of one mark: they go together when something was written.

    Of those that do not fit, the ones asked for longest ago go first. For the event loop's thread.
    """

    def __init__(self, marks: ChangeMarks, *, most_bytes: int = MOST_BYTES) -> None:
        self._marks = marks
        self._most_bytes = most_bytes
        self._mark = ""
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0
        self._asking = CapacityLimiter(MARKS_AT_ONCE)  # threads of their own: those of requests may be busy
        self._free = threading.Semaphore(MARKS_AT_ONCE)  # of these threads, those given up on included

    async def answer(self, request: Request, answering: Answering) -> Response:
        """The kept answer to this request, or a new one, which is kept if it is a good one."""
        if not _may_read(request) or (mark := await self._newest()) is None:
            return await answering(request)  # which says what is wrong
        key = f"{request.url.path}?{request.url.query} {request.headers.get('Accept', '')}"
        kept = self._of(mark).get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return Response(kept.body, headers=kept.headers)
        made = await answering(request)
        if made.status_code == HTTPStatus.OK and mark == self._mark:
            self._keep(key, made)
        return made

    async def _newest(self) -> str | None:
        """The newest mark; None where the database does not say it at once."""
        try:
            if not self._marks.waits:
                return self._marks.newest()
            if self._free.acquire(blocking=False):
                return await self._asked()
        except (SQLAlchemyError, sqlite3.Error):
            pass
        return None

    async def _asked(self) -> str | None:
        """The mark, from a thread that is free again once it has ended, or was given up before it began."""
        begun = threading.Lock()  # whoever takes it first: the thread, or who gives up on it

        def ask() -> str | None:
            if not begun.acquire(blocking=False):
                return None
            try:
                return self._marks.newest()
            finally:
                self._free.release()

        try:
            with move_on_after(PATIENCE_S):
                return await to_thread.run_sync(ask, limiter=self._asking, abandon_on_cancel=True)
        finally:
            if begun.acquire(blocking=False):
                self._free.release()
        return None

    def _of(self, mark: str) -> OrderedDict[str, _Kept]:
        """What is kept with this mark; what had another is forgotten."""
        if mark != self._mark:
            self._kept.clear()
            self._mark, self._bytes = mark, 0
        return self._kept

    def _keep(self, key: str, made: Response) -> None:
        self._give_up(key)  # somebody else may have asked the same meanwhile
        headers = {name: value for name, value in made.headers.items() if name != "content-length"}
        body = bytes(made.body)
        size = len(body) + len(key) + OVERHEAD_BYTES
        if size > self._most_bytes // LARGEST_SHARE:
            return
        self._kept[key] = _Kept(body=body, headers=headers, size=size)
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._give_up(next(iter(self._kept)))

    def _give_up(self, key: str) -> None:
        if (former := self._kept.pop(key, None)) is not None:
            self._bytes -= former.size


def _may_read(request: Request) -> bool:
    """Whether the route's own guard would let the caller pass: what is kept is not asked for again."""
    caller: Caller = request.state.caller
    return scope_of(request.method, request.scope["route"].dependencies) in caller.scopes
