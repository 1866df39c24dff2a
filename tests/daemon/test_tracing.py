"""Traces: where the standard variables say, or nowhere; one per iteration; and never at the loop's cost."""

from __future__ import annotations

import importlib.util
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from daemon.app import create_app
from daemon.iteration_spans import IterationSpans
from daemon.phases.collect import collect_all
from daemon.settings import Settings
from daemon.tracing import ids_of, iteration_context, on, tracing, wanted
from robot_bridge.spans import span
from storage import iterations, steering
from tests.daemon.test_phase_worker import Lab, OutOfLuck, raising
from tests.traces import traced

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
needs_sdk = pytest.mark.skipif(
    importlib.util.find_spec("opentelemetry.sdk") is None, reason="the extra otel is not installed"
)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(data_dir=tmp_path, worker_count=0, lease_ttl_s=1.0)


@pytest.fixture
def lab(sqlite_database, blobs, settings, now) -> Lab:
    return Lab(sqlite_database, blobs, settings, now)


@pytest.mark.parametrize(
    ("environ", "is_wanted"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({ENDPOINT: "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({ENDPOINT: "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({ENDPOINT: "http://collector:4318", "OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_the_standard_variables_decide(environ, is_wanted) -> None:
    assert wanted(environ) is is_wanted


def test_without_an_endpoint_nothing_is_traced(settings) -> None:
    with tracing(settings, role="serve", environ={}):
        assert not on()
        assert iteration_context(str(uuid4())) is None


def test_a_protocol_that_is_not_spoken_is_said_and_hinders_nothing(settings, caplog) -> None:
    environ = {ENDPOINT: "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with tracing(settings, role="serve", environ=environ):
        assert not on()
    assert "traces are off reason=protocol grpc; expected http/protobuf" in caplog.text


def test_an_extra_that_is_missing_is_said_and_hinders_nothing(settings, caplog, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.delitem(sys.modules, "daemon.trace_export", raising=False)
    with tracing(settings, role="serve", environ={ENDPOINT: "http://collector:4318"}):
        assert not on()
    assert "is not installed: gymnast-daemon[otel]" in caplog.text


def test_an_iteration_is_one_trace_of_several_processes(lab: Lab) -> None:
    """The worker makes the phase runs' spans, the daemon that of the whole, and neither asks the other."""
    with traced() as seen:
        lab.worker(lambda context: {}).work_once()
    (row,) = all_rows(lab)
    phase = seen.named("phase collect")
    assert (phase.context.trace_id, phase.parent.span_id) == ids_of(row.id)
    assert phase.attributes["gymnastd.iteration"] == row.number
    assert phase.attributes["gymnastd.attempt"] == 1
    assert phase.status.is_unset
    with traced() as seen:
        spans = IterationSpans(lab.database)
        with lab.database.write() as session:
            steering.cancel(session, row.id, now=lab.instant + timedelta(seconds=90))
        spans.look(lab.instant)
        spans.look(lab.instant)
    whole = seen.named("iteration")
    assert (whole.context.trace_id, whole.context.span_id) == ids_of(row.id)
    assert whole.parent is None
    assert whole.end_time - whole.start_time == 90e9
    assert dict(whole.attributes) == {
        "gymnastd.iteration": 1,
        "gymnastd.lineage": "main",
        "gymnastd.state": "cancelled",
    }


def all_rows(lab: Lab) -> list[Any]:
    with lab.database.read() as session:
        return iterations.list_iterations(session)[0]


def test_a_phase_that_fails_says_its_code_and_so_does_the_iteration(lab: Lab) -> None:
    with traced() as seen:
        spans = IterationSpans(lab.database)
        lab.worker(raising(OutOfLuck("gmd_0123456789abcdef_" + "s" * 43))).work_once()
        lab.advance()
        spans.look(lab.instant)
    for name in ("phase collect", "iteration"):
        assert seen.named(name).attributes["error.type"] == "out_of_luck"
        assert not seen.named(name).status.is_ok
    assert "sss" not in seen.text()


def test_what_robots_are_asked_in_threads_of_their_own_belongs_to_the_phase() -> None:
    class Robot:
        name = "cell"

        def collect(self, todo, *, stop):
            with span(f"station {threading.current_thread().name.split('_')[0]}", {}):
                pass

    class Done:
        left = 0

    with traced() as seen, span("phase collect", {}):
        collect_all([Robot()], Done())  # type: ignore[list-item, arg-type]
    assert seen.named("station collect").parent.span_id == seen.named("phase collect").context.span_id


@pytest.mark.parametrize(("share", "told"), [("1.0", 2), ("0.0", 0)])
def test_the_sampler_of_the_environment_takes_iterations_whole_or_not_at_all(
    monkeypatch, lab: Lab, share, told
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", share)
    with traced() as seen:
        spans = IterationSpans(lab.database)
        lab.worker(raising(OutOfLuck())).work_once()
        lab.advance()
        spans.look(lab.instant)
    assert len(seen.spans) == told


def test_no_secret_leaves_whoever_puts_it_into_a_span() -> None:
    with traced("open-sesame") as seen, span("asked open-sesame", {"note": "password=correcthorse"}) as begun:
        begun.set_attribute("key", "open-sesame")
        begun.add_event("exception", {"exception.message": "open-sesame"})
    assert seen.spans[0].name == "asked [redacted]"
    assert "sesame" not in seen.text()
    assert "correcthorse" not in seen.text()


@needs_sdk
def test_spans_arrive_with_the_headers_and_the_name_of_the_environment(settings, monkeypatch, caplog) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with collector() as (url, received):
        monkeypatch.setenv(ENDPOINT, url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20sk-collector-key")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "lab-7")
        with tracing(settings, role="worker"), span("phase collect", {"key": "is sk-collector-key"}):
            pass
    ((headers, body),) = received
    assert headers["Authorization"] == "Bearer sk-collector-key"
    (told,) = ExportTraceServiceRequest.FromString(body).resource_spans
    facts = {one.key: one.value.string_value for one in told.resource.attributes}
    assert (facts["service.name"], facts["gymnastd.role"]) == ("lab-7", "worker")
    assert [one.name for one in told.scope_spans[0].spans] == ["phase collect"]
    assert b"sk-collector-key" not in body
    assert "sk-collector-key" not in caplog.text


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[Any, bytes]]]]:
    """A collector that takes everything; gives its address, and what it was sent."""
    received: list[tuple[Any, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.headers, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on standard error."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(params=["refuses", "never answers"])
def dead_endpoint(request, monkeypatch) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{listener.getsockname()[1]}")
    if request.param == "refuses":
        listener.close()
    yield request.param
    listener.close()


MANY = 5000  # spans: more than the queue holds


@needs_sdk
def test_an_endpoint_that_is_dead_neither_slows_the_loop_nor_its_end(
    settings, dead_endpoint, caplog, monkeypatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")  # who waits for it misses both deadlines
    caplog.set_level(logging.INFO)
    begun = time.monotonic()
    with tracing(settings, role="worker"):
        for _ in range(MANY):
            with span("station POST /v1/episodes/{id}/steps", {}):
                pass
        left_at = time.monotonic()
    assert left_at - begun < 60
    assert time.monotonic() - left_at < 60, "what is queued gets two seconds"
    assert len(caplog.records) <= 3, "a lost span is no line of the log"


@needs_sdk
def test_a_dead_endpoint_is_told_once_and_its_return_too(caplog) -> None:
    from opentelemetry.sdk.trace.export import SpanExportResult

    from daemon.redaction import Redactor
    from daemon.trace_export import DiscreetExporter

    class Scripted:
        def __init__(self) -> None:
            bad, good = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
            self.results, self.ended = [bad, bad, bad, good, good], 0

        def export(self, spans):
            return self.results.pop(0)

        def shutdown(self):
            self.ended += 1

    caplog.set_level(logging.INFO)
    inner = Scripted()
    exporter = DiscreetExporter(inner, Redactor())  # type: ignore[arg-type]
    for _ in range(5):
        exporter.export([])
    exporter.shutdown()
    exporter.shutdown()
    assert [record.message for record in caplog.records] == [
        "traces do not arrive; spans are lost until they do, and nothing waits for them",
        "traces arrive again",
    ]
    assert inner.ended == 1


@needs_sdk
def test_a_daemon_with_a_dead_endpoint_works_and_ends(settings, dead_endpoint) -> None:
    with TestClient(create_app(settings)) as client:
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/iterations", json={}).status_code == 201
        left_at = time.monotonic()
    assert time.monotonic() - left_at < 60
    assert not on()


@needs_sdk
def test_a_daemon_tells_its_iterations_and_requests(settings, monkeypatch, now) -> None:
    with collector() as (url, received):
        monkeypatch.setenv(ENDPOINT, url)
        with TestClient(create_app(settings)) as client:
            client.post("/v1/iterations", json={})
            client.post("/v1/iterations/1/cancel")
            deadline = time.monotonic() + 60
            while not any(b"gymnastd.lineage" in body for _, body in received):
                assert time.monotonic() < deadline
                threading.Event().wait(0.2)
    sent = b"".join(body for _, body in received)
    assert b"POST /v1/iterations/{number}/cancel" in sent
