"""Spans on their way out: cleaned of secrets, queued, sent in batches by a thread of their own.

The queue is bounded (`OTEL_BSP_MAX_QUEUE_SIZE`); while the endpoint is away spans are lost, and nobody waits.
All there is to set is in OpenTelemetry's own variables, which the SDK reads itself. Importing this module
needs the extra `otel`.
"""

import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from importlib.metadata import version
from threading import Thread
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Status, Tracer

from daemon.redaction import Redactor
from robot_bridge.spans import mark_failed

log = logging.getLogger(__name__)

SCOPE: Final = "gymnastd"
LAST_WORDS_S: Final = 2.0  # what is queued when a process ends gets so long

_given: ContextVar[tuple[int, int] | None] = ContextVar("ids of the next span", default=None)


class Spans:
    """Where the spans of one process go, from now on until `stop`.

    Args:
        exporter: OTLP over HTTP, to where the environment says, unless it is given.
    """

    def __init__(self, *, role: str, redactor: Redactor, exporter: SpanExporter | None = None) -> None:
        # it tells of each lost batch; `DiscreetExporter` tells it once
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = DiscreetExporter(exporter or OTLPSpanExporter(), redactor)
        ours = Resource(
            {
                "service.name": "gymnastd",
                "service.version": version("gymnast-daemon"),
                "gymnastd.role": role,
            }
        )
        self._provider = TracerProvider(
            resource=ours.merge(OTELResourceDetector().detect()),
            id_generator=GivenIds(),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))

    @property
    def tracer(self) -> Tracer:
        return self._provider.get_tracer(SCOPE)

    def samples(self, trace_id: int) -> bool:
        """Whether the sampler takes a trace."""
        found = self._provider.sampler.should_sample(Context(), trace_id, "iteration")
        return found.decision is Decision.RECORD_AND_SAMPLE

    def tell(
        self,
        name: str,
        attributes: Mapping[str, str | int],
        *,
        ids: tuple[int, int],
        times: tuple[int, int],
        error: str | None,
    ) -> None:
        """A span that is over: its trace's id and its own, when it began and ended in ns since 1970."""
        token = _given.set(ids)
        try:
            span = self.tracer.start_span(name, Context(), attributes=attributes, start_time=times[0])
        finally:
            _given.reset(token)
        if error is not None:
            mark_failed(error, span)
        span.end(times[1])

    def stop(self) -> None:
        """Send what is queued, as far as that goes within LAST_WORDS_S."""
        ending = Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        ending.start()
        ending.join(LAST_WORDS_S)
        self._exporter.shutdown()  # a batch that waits to be sent again gives up


class DiscreetExporter(SpanExporter):
    """Cleans what goes out, and tells the log once when it does not arrive, and once when it does again."""

    def __init__(self, inner: SpanExporter, redactor: Redactor) -> None:
        self._inner, self._redactor = inner, redactor
        self._arrives, self._over = True, False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        found = self._inner.export([cleaned(span, self._redactor) for span in spans])
        arrives = found is SpanExportResult.SUCCESS
        if arrives != self._arrives and not self._over:
            self._arrives = arrives
            if arrives:
                log.info("traces arrive again")
            else:
                log.warning("traces do not arrive; spans are lost until they do, and nothing waits for them")
        return found

    def shutdown(self) -> None:
        if not self._over:
            self._over = True
            self._inner.shutdown()


def cleaned(span: ReadableSpan, redactor: Redactor) -> ReadableSpan:
    """The same span, no text of which holds a secret; without events, which hold texts of errors."""
    attributes = {
        name: redactor.clean(value) if isinstance(value, str) else value
        for name, value in (span.attributes or {}).items()
    }
    return ReadableSpan(
        name=redactor.clean(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


class GivenIds(IdGenerator):
    """Chance, but for a span that `Spans.tell` gives its ids."""

    def __init__(self) -> None:
        self._chance = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        given = _given.get()
        return self._chance.generate_trace_id() if given is None else given[0]

    def generate_span_id(self) -> int:
        given = _given.get()
        return self._chance.generate_span_id() if given is None else given[1]
