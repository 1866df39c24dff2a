"""Spans as a test looks at them: what would have left the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass(slots=True)
class Traces:
    """Whole only after the with block that made it."""

    spans: list[Any] = field(default_factory=list)

    def named(self, name: str) -> Any:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def text(self) -> str:
        return "\n".join(span.to_json() for span in self.spans)


@contextmanager
def traced(*secrets: str) -> Iterator[Traces]:
    """Keep the spans of this process; skips the test where the extra otel is not installed."""
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from daemon.redaction import Redactor
    from daemon.trace_export import Spans
    from daemon.tracing import sent

    memory, found = InMemorySpanExporter(), Traces()
    with sent(Spans(role="test", redactor=Redactor(secrets), exporter=memory)):
        yield found
    found.spans = list(memory.get_finished_spans())
