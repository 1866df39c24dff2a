"""Sending malformed requests to one app, counting what it answers and what stays behind in memory."""

from __future__ import annotations

import ctypes
import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest
from fastapi import FastAPI

from tests.contracts.malformed import Header, Malformed, ask
from tests.contracts.malformed_station import LIVE


@dataclass(slots=True)
class Tally:
    """What a run of requests was answered: how many were sent, refused, and what should not have been."""

    sent: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)

    def count(self, request: Malformed, status: int) -> None:
        self.sent += 1
        if 400 <= status < 500:
            self.refused += 1
        elif status >= 500 or request.method != "GET":
            shown = (
                f"{request.method} {request.path}?{request.query} {request.headers} {request.body[:300]!r}"
            )
            self.wrong.append(f"{status} for {request.why}: {shown}")


@dataclass(slots=True)
class Growth:
    """Bytes that stayed, over all stretches that were measured."""

    held: int = 0
    occupied: int = 0

    @contextmanager
    def measured(self) -> Iterator[None]:
        before = self._now()
        yield
        held, occupied = self._now()
        self.held += held - before[0]
        self.occupied += occupied - before[1]

    @staticmethod
    def _now() -> tuple[int, int]:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before would hide what is kept later
        return tracemalloc.get_traced_memory()[0], psutil.Process().memory_info().rss


@dataclass(slots=True, kw_only=True)
class Run:
    """One app that is sent everything, and what must stay as it is meanwhile."""

    app: FastAPI
    untouched: Callable[[], Any]
    names: dict[str, str]
    headers: tuple[Header, ...] = ()
    tally: Tally = field(default_factory=Tally)
    growth: Growth = field(default_factory=Growth)

    async def send(self, requests: Sequence[Malformed]) -> None:
        before = self.untouched()
        for request in requests:
            status, _ = await ask(self.app, request.dressed(self.names).under(*self.headers))
            self.tally.count(request, status)
            if self.untouched() != before:
                pytest.fail(f"{request.why} did something: {request}")

    async def send_measured(self, warm: Sequence[Malformed], requests: Sequence[Malformed]) -> None:
        await self.send(warm)
        with self.growth.measured():
            await self.send(requests)

    async def good(self, path: str, tree: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(tree).encode()
        request = Malformed(why="nothing", path=path, headers=LIVE, parts=(body,))
        status, answer = await ask(self.app, request.dressed(self.names).under(*self.headers))
        assert status in {200, 201}, answer
        found: dict[str, Any] = json.loads(answer)
        return found
