"""Spans: nowhere without a tracer; with one, what was asked and how it ended, and nothing that is secret."""

from __future__ import annotations

import pytest
from opentelemetry.trace import NoOpTracer, get_current_span

from robot_bridge.errors import FenceStale, StationUnreachable
from robot_bridge.spans import mark_failed, span, trace_id, use_tracer
from robot_bridge.transport import Retries, Transport, template_of
from tests.robot_bridge.test_transport import Canned, as_json, as_problem
from tests.traces import traced

NO_PAUSE = Retries(tries=2, pause=lambda seconds: None)


def test_without_a_tracer_nothing_is_recorded_and_there_is_no_trace() -> None:
    with span("anything", {"a": 1}) as begun:
        assert not begun.is_recording()
        assert trace_id() is None
        mark_failed("whatever")


def test_a_tracer_can_be_taken_back() -> None:
    with traced() as seen:
        with span("first", {}):
            assert trace_id() is not None
        use_tracer(None)
        with span("second", {}):
            assert trace_id() is None
        use_tracer(NoOpTracer())
    assert [one.name for one in seen.spans] == ["first"]


def test_a_span_within_another_is_a_part_of_it() -> None:
    with traced() as seen, span("whole", {}), span("part", {"n": 3}):
        assert get_current_span().is_recording()
    assert seen.named("part").parent.span_id == seen.named("whole").context.span_id
    assert dict(seen.named("part").attributes) == {"n": 3}


def test_an_error_is_told_by_its_code_and_not_by_its_text() -> None:
    with traced() as seen, pytest.raises(FenceStale), span("call", {}):
        raise FenceStale(found=3, current=4)
    with traced() as other, pytest.raises(ValueError, match="hunter22"), span("call", {}):
        raise ValueError("hunter22")
    assert seen.named("call").attributes["error.type"] == "fence_stale"
    assert other.named("call").attributes["error.type"] == "ValueError"
    assert not seen.named("call").status.is_ok
    assert "hunter22" not in other.text()


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/v1/health", "/v1/health"),
        ("/v1/events?after=12&wait_s=5", "/v1/events"),
        ("/v1/episodes/0b5c2a1e-7f4e-4b52-9d0c-3a1b8f2f6c11/steps", "/v1/episodes/{id}/steps"),
        ("/v1/episodes/e-1/blobs/" + "ab" * 32, "/v1/episodes/{id}/blobs/{id}"),
    ],
)
def test_calls_of_one_kind_have_one_name(path: str, template: str) -> None:
    assert template_of(path) == template


def test_a_call_of_a_station_is_one_span_however_often_it_is_tried() -> None:
    station = Canned(None, as_json({}))
    try:
        with traced() as seen:
            transport = Transport(station.url, token="sk-123456789", retries=NO_PAUSE)
            transport.call("GET", "/v1/events?secret=hunter22", timeout_s=5)
            transport.close()
    finally:
        station.close()
    call = seen.named("station GET /v1/events")
    assert dict(call.attributes) == {
        "http.request.method": "GET",
        "url.path": "/v1/events",
        "server.address": "127.0.0.1",
        "http.response.status_code": 200,
    }
    assert call.kind.name == "CLIENT"
    assert len(seen.spans) == 1
    assert "hunter22" not in seen.text()
    assert "sk-1234" not in seen.text()


@pytest.mark.parametrize(
    ("answers", "error", "code"),
    [
        ([as_problem(parts={"found": 1, "current": 2})], FenceStale, "fence_stale"),
        ([None], StationUnreachable, "station_unreachable"),
    ],
)
def test_a_call_that_fails_says_why_by_its_code(answers, error, code) -> None:
    station = Canned(*answers)
    try:
        with traced() as seen, pytest.raises(error):
            Transport(station.url, retries=NO_PAUSE).call("POST", "/v1/resets", body="{}", timeout_s=5)
    finally:
        station.close()
    assert seen.named("station POST /v1/resets").attributes["error.type"] == code
