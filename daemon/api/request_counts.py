"""Counts requests by route and status, measures how long the first byte of an answer takes, and traces them.

Routes are told by their template, so that the numbers of iterations do not become names of series.
"""

import bisect
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate

from opentelemetry.trace import Span, SpanKind
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.exposition import Family, Sample
from robot_bridge.spans import mark_failed, span

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN = "other"
NO_ANSWER = "none"  # the client left, or the answer never began
FAULT = 500  # this status and those above it are ours

Series = tuple[str, str]  # method, route


@dataclass(slots=True)
class Latencies:
    """How many answers came within each bound; the last place is of those that took longer."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, took_s: float) -> None:
        self.counts[bisect.bisect_left(BOUNDS_S, took_s)] += 1
        self.sum_s += took_s


class RequestCounts:
    """The counts of one process. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._latencies: dict[Series, Latencies] = {}

    def add(self, series: Series, status: str, *, took_s: float) -> None:
        with self._lock:
            self._requests[*series, status] += 1
            self._latencies.setdefault(series, Latencies()).add(took_s)

    def families(self) -> list[Family]:
        with self._lock:
            requests = tuple(
                Sample(value=count, labels={"method": method, "route": route, "status": status})
                for (method, route, status), count in sorted(self._requests.items())
            )
            latencies = tuple(
                sample
                for series, own in sorted(self._latencies.items())
                for sample in _histogram(series, own)
            )
        return [
            Family(
                name="gymnastd_http_requests_total",
                kind="counter",
                meaning="Requests by route and status.",
                samples=requests,
            ),
            Family(
                name="gymnastd_http_request_seconds",
                kind="histogram",
                meaning="Seconds until an answer began.",
                samples=latencies,
            ),
        ]


def _histogram(series: Series, own: Latencies) -> list[Sample]:
    labels = {"method": series[0], "route": series[1]}
    bounds = [*(str(bound) for bound in BOUNDS_S), "+Inf"]
    below = list(accumulate(own.counts))
    buckets = [
        Sample(value=count, labels={**labels, "le": bound}, suffix="_bucket")
        for bound, count in zip(bounds, below, strict=True)
    ]
    return [
        *buckets,
        Sample(value=own.sum_s, labels=labels, suffix="_sum"),
        Sample(value=below[-1], labels=labels, suffix="_count"),
    ]


class CountRequests:
    """ASGI middleware around everything else: what it refuses is counted too."""

    def __init__(self, app: ASGIApp, *, counts: RequestCounts) -> None:
        self._app, self._counts = app, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with span(UNKNOWN, {}, kind=SpanKind.SERVER) as told:
            await self._watched(scope, receive, send, told=told)

    async def _watched(self, scope: Scope, receive: Receive, send: Send, *, told: Span) -> None:
        began = time.perf_counter()
        status, took_s = NO_ANSWER, 0.0

        async def noting(message: Message) -> None:
            nonlocal status, took_s
            if message["type"] == "http.response.start":
                status, took_s = str(message["status"]), time.perf_counter() - began
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            series = series_of(scope)
            self._counts.add(series, status, took_s=took_s or time.perf_counter() - began)
            tell(told, series, status=status)


def tell(told: Span, series: Series, *, status: str) -> None:
    """What the span of a request says: its route and not its path, because anything can stand in one."""
    method, route = series
    told.update_name(f"{method} {route}")
    told.set_attribute("http.request.method", method)
    told.set_attribute("http.route", route)
    if status.isdecimal():
        told.set_attribute("http.response.status_code", int(status))
    if not status.isdecimal() or int(status) >= FAULT:
        mark_failed(status, told)


def series_of(scope: Scope) -> Series:
    """Method and template of a request; what the application does not know is one series together."""
    method = scope["method"] if scope["method"] in METHODS else UNKNOWN
    template = getattr(scope.get("route"), "path", UNKNOWN)
    return method, str(template)
