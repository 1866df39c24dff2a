"""Spans of what this process does, through OpenTelemetry's API. They go nowhere until somebody sets a tracer.

What a span says may be read by anybody who sees the traces: no query, no header, no body, and of an error its
code alone. The daemon's own spans come from here too, so that calls of a station are part of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import NoOpTracer, Span, SpanKind, StatusCode, Tracer, get_current_span

ERROR_TYPE: Final = "error.type"

_off: Final[Tracer] = NoOpTracer()
_tracer: Tracer = _off


def use_tracer(tracer: Tracer | None) -> None:
    """Let all spans of this process go to a tracer, or with None nowhere."""
    global _tracer  # noqa: PLW0603 - one per process, as OpenTelemetry's own, but one that can be taken back
    _tracer = tracer or _off


@contextmanager
def span(
    name: str,
    attributes: Mapping[str, str | int],
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    context: Context | None = None,
) -> Iterator[Span]:
    """A span for the length of a with block; an error that leaves the block is told by its code.

    Args:
        context: holds the span that this one is a part of; None: the one that this thread is in.
    """
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=kind,
        attributes=attributes,
        record_exception=False,  # its text and its trace would be in there
        set_status_on_exception=False,
    ) as begun:
        try:
            yield begun
        except BaseException as error:
            mark_failed(str(getattr(error, "code", type(error).__name__)), begun)
            raise


def mark_failed(code: str, failed: Span | None = None) -> None:
    """Say that a span, or without one the current, ended badly."""
    told = failed or get_current_span()
    told.set_attribute(ERROR_TYPE, code)
    told.set_status(StatusCode.ERROR)


def trace_id() -> str | None:
    """The trace that this thread works for, 32 hexadecimal digits; None where nothing is traced."""
    found = get_current_span().get_span_context()
    return f"{found.trace_id:032x}" if found.is_valid else None
