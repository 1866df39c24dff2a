"""Whether and where traces go: OpenTelemetry's own variables say it, and without an endpoint nothing happens.

One iteration is one trace, made by several processes that never speak with each other: its id, and that of
its first span, follow from the iteration's own id.
"""

import importlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from daemon.redaction import Redactor, secrets_of
from daemon.settings import Settings
from robot_bridge.spans import use_tracer

log = logging.getLogger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN: Final = "http/protobuf"
EXPORTER: Final = "daemon.trace_export"  # brings the SDK, which an extra installs

_spans: Any = None  # of this process: `daemon.trace_export.Spans`, or None while nothing is traced


@contextmanager
def tracing(settings: Settings, *, role: str, environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Let the spans of this process go to the endpoint that the environment names, until the block ends.

    What keeps them from going there is said once in the log; nothing else depends on it.

    Args:
        role: what this process is, "serve" or "worker".
    """
    export = _export_of(environ)
    if export is None:
        yield
        return
    with sent(export.Spans(role=role, redactor=Redactor(secrets_of(settings, environ)))):
        log.info("traces are sent role=%s", role)
        yield


@contextmanager
def sent(spans: Any) -> Iterator[None]:
    """Let all spans of this process go to these `Spans` until the block ends, and what is queued out."""
    global _spans  # noqa: PLW0603
    _spans = spans
    use_tracer(spans.tracer)
    try:
        yield
    finally:
        use_tracer(None)
        _spans = None
        spans.stop()


def _export_of(environ: Mapping[str, str]) -> Any:
    """The module that sends, or None where nothing is to be sent, or cannot be."""
    if not wanted(environ):
        return None
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), SPOKEN)
    if protocol != SPOKEN:
        log.warning("traces are off reason=protocol %s; expected %s", protocol, SPOKEN)
        return None
    try:
        return importlib.import_module(EXPORTER)
    except ModuleNotFoundError as missing:
        if not str(missing.name).startswith("opentelemetry"):
            raise
        log.warning("traces are off reason=%s is not installed: gymnast-daemon[otel]", missing.name)
        return None


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment names an endpoint and switches nothing off."""
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    exporters = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    return any(environ.get(name) for name in ENDPOINTS) and not off and "otlp" in exporters.split(",")


def on() -> bool:
    """Whether spans of this process go anywhere."""
    return _spans is not None


def iteration_context(iteration_id: str) -> Context | None:
    """What spans of an iteration are a part of; None while nothing is traced."""
    if _spans is None:
        return None
    trace_id, span_id = ids_of(iteration_id)
    flags = TraceFlags.SAMPLED if _spans.samples(trace_id) else TraceFlags.DEFAULT
    first = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(first), Context())


def tell_iteration(
    iteration_id: str,
    attributes: Mapping[str, str | int],
    *,
    begun: datetime,
    ended: datetime,
    error: str | None,
) -> None:
    """The span of a whole iteration, once it is over; `error` is the code of what it failed with."""
    if _spans is not None:
        times = nanoseconds(begun), nanoseconds(ended)
        _spans.tell("iteration", attributes, ids=ids_of(iteration_id), times=times, error=error)


def ids_of(iteration_id: str) -> tuple[int, int]:
    """The ids of an iteration's trace (its own, 16 bytes) and of the trace's first span (8 bytes)."""
    return UUID(iteration_id).int, int.from_bytes(sha256(iteration_id.encode()).digest()[:8])


def nanoseconds(at: datetime) -> int:
    """An instant as traces have it."""
    return round(at.timestamp() * 1e6) * 1000
