"""What a call costs: the policy's own thinking, and everything around it, over the newest calls.

`Timed` measures a call from its arrival to its answer and says so in a Server-Timing header; a route tells it
what of that was thinking. Nothing here knows what a policy is.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final

import numpy as np
from fastapi import Request
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NEWEST: Final = 1000  # calls that percentiles are taken over
THOUGHT: Final = "thought_ms"


class Percentiles(BaseModel):
    """Milliseconds that half of the newest calls, and 99 of 100, stayed within; null before the first."""

    p50: float | None = None
    p99: float | None = None


class Latencies:
    """The newest calls, in milliseconds. Safe to use from any thread."""

    def __init__(self) -> None:
        self.calls = 0
        self._thought: deque[float] = deque(maxlen=NEWEST)
        self._around: deque[float] = deque(maxlen=NEWEST)
        self._lock = threading.Lock()

    def add(self, *, thought_ms: float, total_ms: float) -> None:
        """One answered call; one that was answered without thinking counts for the rest only."""
        with self._lock:
            self.calls += 1
            self._around.append(max(0.0, total_ms - thought_ms))
            if thought_ms > 0:
                self._thought.append(thought_ms)

    def thought(self) -> Percentiles:
        """Of calls in which the policy thought: how long."""
        return self._of(self._thought)

    def around(self) -> Percentiles:
        """Of all calls: what the server took besides."""
        return self._of(self._around)

    def _of(self, values: deque[float]) -> Percentiles:
        with self._lock:
            found = list(values)
        if not found:
            return Percentiles()
        p50, p99 = np.percentile(found, [50, 99])
        return Percentiles(p50=float(p50), p99=float(p99))


def say_thought(request: Request, thought_ms: float) -> None:
    """Mark the call as one to be measured, of which this was the policy's thinking."""
    setattr(request.state, THOUGHT, thought_ms)


class Timed:
    """ASGI middleware: measures the calls that `say_thought` marks."""

    def __init__(self, app: ASGIApp, latencies: Latencies) -> None:
        self._app = app
        self._latencies = latencies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()

        async def measured(message: Message) -> None:
            thought_ms = scope.get("state", {}).get(THOUGHT)
            if message["type"] == "http.response.start" and thought_ms is not None:
                total_ms = 1000.0 * (time.perf_counter() - began)
                self._latencies.add(thought_ms=thought_ms, total_ms=total_ms)
                timing = f"infer;dur={thought_ms:.3f}, total;dur={total_ms:.3f}"
                message["headers"] = [*message["headers"], (b"server-timing", timing.encode())]
            await send(message)

        await self._app(scope, receive, measured)
