"""Calls that a station on the wire adds to its session: who waits for whom, headers, both modes, rests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from robot_bridge.callback import PolicyActAnswer, PolicyActRequest, PolicyReadyAnswer, PolicyResetRequest
from robot_bridge.description import StationAnswer
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import NeedsHuman
from robot_bridge.protocol import EpisodeStateAnswer
from robot_bridge.station.durable import write_json
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.spool import Spool
from tests.robot_bridge.builders import forward
from tests.robot_bridge.station.wire import JSON, Wire, a_wire, problem
from tests.waiting import until

WORKERS = 40  # threads that a station answers plain calls with
DEADLINE_S = 20.0


@pytest.fixture
def wire(tmp_path: Path):
    with a_wire(tmp_path / "spool") as wire:
        yield wire


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory):
    """One station with an episode that waits for its first step, for calls that must all be refused."""
    with a_wire(tmp_path_factory.mktemp("ready") / "spool") as wire:
        wire.lease()
        wire.create()
        yield wire


def test_a_stop_needs_none_of_the_worker_threads_that_wait_for_a_motion(wire):
    moving, go_on = threading.Event(), threading.Event()
    wire.driver.at_step = lambda _: moving.set() or go_on.wait(DEADLINE_S)
    wire.lease()
    wire.create()
    with ThreadPoolExecutor(WORKERS + 5) as clients:
        calls = [clients.submit(wire.step, 0, forward(5)) for _ in range(WORKERS + 5)]
        assert moving.wait(DEADLINE_S)
        until(lambda: sum("AnyIO worker" in t.name for t in threading.enumerate()) >= WORKERS)
        stopped = threading.Thread(target=wire.http.post, args=("/v1/estop",), kwargs={"json": {}})
        stopped.start()
        stopped.join(DEADLINE_S)
        was_answered = not stopped.is_alive()
        go_on.set()
        answers = [call.result() for call in calls]
    assert was_answered
    assert wire.driver.moves == 1
    assert {problem(answer).code for answer in answers} == {"estopped"}


def test_a_stop_comes_through_without_a_body_and_whatever_version_its_sender_speaks(wire):
    assert wire.http.post("/v1/estop", headers={"Station-Protocol": "9.0"}).status_code == 200
    assert wire.http.get("/v1/health").json() == {"live": True, "ready": False, "state": "ESTOPPED"}


@pytest.mark.parametrize(
    "raw",
    [
        *(b"{", b"\xff", b"null", b"[]", b'{"reason": 5}', b'{"reason": "x", "torque_off": true}'),
        *(b'{"reason": "\\ud800"}', b'{"reason": "%s"}' % (b"x" * 501), b"[" * 5000),
    ],
)
def test_a_stop_that_nobody_understands_stops_all_the_same(wire, raw):
    answer = wire.http.post("/v1/estop", content=raw, headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["reason"]) == (200, "a stop whose body cannot be read")
    assert wire.http.get("/v1/health").json()["state"] == "ESTOPPED"


@pytest.mark.parametrize("header", ["Fence", "Idempotency-Key", "Station-Protocol"])
def test_a_header_that_decides_something_comes_once(ready, header):
    value = {"Fence": ready.fence, "Idempotency-Key": "k", "Station-Protocol": "1.1"}[header]
    headers = [("Fence", ready.fence), (header, value), ("Content-Type", "application/json")]
    headers += [(header, value)] if header != "Fence" else []
    answer = ready.http.post("/v1/episodes/e1/steps", json={"t": 0, "actions": forward()}, headers=headers)
    assert (problem(answer).code, ready.driver.moves) == ("bad_request", 0)


@pytest.mark.parametrize("fence", ["1.5", "-1", "0x1", "٣", "9" * 30, "9" * 5000, "nan", "1,1", "true"])
def test_a_fence_that_is_no_number_of_ours_is_refused(ready, fence):
    answer = ready.http.post(
        "/v1/episodes/e1/steps",
        json={"t": 0, "actions": forward()},
        headers={"Fence": fence.encode("utf-8")},
    )
    assert problem(answer).code in {"bad_request", "fence_stale"}
    assert ready.driver.moves == 0


MALFORMED = {
    "huge integer": b'{"t": ' + b"9" * 6000 + b', "actions": [[0,0,0,0,0,0,1]]}',
    "huge number": b'{"t": 0, "actions": [[' + b"9" * 400 + b",0,0,0,0,0,1]]}",
    "deep": b'{"t": 0, "actions": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "not UTF-8": b'{"t": 0, "actions": [[0,0,0,0,0,0,1]], "x\xff": 1}',
    "UTF-16": '{"t": 0, "actions": [[0,0,0,0,0,0]]}'.encode("utf-16"),
    "lone surrogate": b'{"t": 0, "actions": [["\\ud800",0,0,0,0,0,1]]}',
    "surrogate key": b'{"t": 0, "actions": [[0,0,0,0,0,0,1]], "\\ud800": 1}',
    "literal null": b"null",
    "number": b"7",
    "string": b'"t"',
    "two objects": b'{"t": 0}{"t": 1}',
    "nothing": b"",
    "zeros": b"\x00" * 50,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_body_that_is_no_command_moves_nothing_and_is_told_so(ready, body):
    for content_type in ("application/json", "text/plain", "application/xml", "%%", ""):
        headers = {"Fence": ready.fence, "Content-Type": content_type}
        answer = ready.http.post("/v1/episodes/e1/steps", content=body, headers=headers)
        assert 400 <= problem(answer).status < 500
    assert ready.driver.moves == 0


@pytest.mark.parametrize(
    "path",
    [
        "/v1/episodes/%zz/state",
        "/v1/episodes/%00",
        "/v1/episodes/%ff%fe/blobs/%c0%80",
        "/v1/episodes/a%2fb",
        "/v1/episodes?after=%ff",
        "/v1/episodes?after=" + "x" * 301,
        "/v1/episodes?limit=99999999999999999999999",
        "/v1/events?after=-1",
        "/v1/events?wait=nan",
        "/v1/events?limit=1e3",
        "/v1/maintenance/dance",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_address_that_is_none_is_a_problem(ready, method, path):
    answer = ready.http.request(method, path, content=b"{}", headers=JSON)
    assert 400 <= problem(answer).status < 500


class Straight:
    """A policy that goes straight ahead."""

    def reset(self, request: PolicyResetRequest) -> PolicyReadyAnswer:
        return PolicyReadyAnswer(session=request.session, policy=PolicyRef(name="straight"), chunk=3)

    def act(self, request: PolicyActRequest) -> PolicyActAnswer:
        return PolicyActAnswer(session=request.session, t=request.t, actions=forward(3), infer_ms=1.0)


def callback_episode(wire: Wire, endpoint: str = "http://localhost:8000"):
    return wire.create(mode="callback", policy_endpoint=endpoint, max_steps=6)


def test_a_callback_episode_over_the_wire_is_started_followed_and_fetched(tmp_path):
    with a_wire(tmp_path / "spool", connect=lambda _: Straight()) as wire:
        wire.lease()
        assert callback_episode(wire).status_code == 200
        answer = wire.post("/v1/episodes/e1/start", {})
        assert answer.status_code == 202
        assert EpisodeStateAnswer.model_validate_json(answer.content).episode_id == "e1"
        until(lambda: wire.http.get("/v1/episodes/e1/state").json()["state"] == "finished")
        found = wire.http.get("/v1/episodes/e1/state").json()
        assert found == {"episode_id": "e1", "state": "finished", "next_step": 6, "outcome": "completed"}
        assert wire.http.get("/v1/episodes/e1").json()["mode"] == "callback"


def test_a_callback_episode_that_would_call_elsewhere_is_refused(wire):
    wire.lease()
    body = problem(callback_episode(wire, "http://192.0.2.7:8000"))
    assert (body.status, body.code) == (422, "endpoint_refused")
    assert "http://127.0.0.1" in body.detail


def test_the_state_of_an_episode_is_told_in_all_its_phases(wire):
    def state() -> tuple[str, object, object]:
        found = wire.http.get("/v1/episodes/e1/state").json()
        return found["state"], found["next_step"], found["outcome"]

    assert problem(wire.http.get("/v1/episodes/e1/state")).code == "unknown_episode"
    wire.lease()
    wire.create()
    assert state() == ("ready", 0, None)
    wire.step(0, forward(2))
    assert state() == ("running", 2, None)
    wire.clock.advance(1.0)
    wire.http.get("/v1/status")
    assert state() == ("held", 2, None)
    manifest = wire.post("/v1/episodes/e1/finish", {})
    assert state() == ("finished", 2, "completed")
    wire.post("/v1/episodes/e1/ack", {"manifest_sha256": manifest.headers["manifest-sha256"]})
    assert state() == ("finished", None, None)


def test_an_episode_that_a_crash_left_behind_is_lost_and_the_journal_says_so(tmp_path):
    Spool(tmp_path / "spool").close()
    write_json(tmp_path / "spool" / "open.json", {"episode_id": "e1", "task_id": "open_drawer"})
    with a_wire(tmp_path / "spool") as wire:
        assert wire.http.get("/v1/episodes/e1/state").json()["state"] == "lost"
        events = wire.http.get("/v1/events").json()["events"]
        assert [e["episode_id"] for e in events if e["kind"] == "episode_lost"] == ["e1"]


def test_motors_that_rest_say_when_to_come_back(tmp_path):
    with a_wire(tmp_path / "spool", policy=StationPolicy(work_s=10.0, rest_s=600.0)) as wire:
        wire.driver.at_step = lambda _: wire.clock.advance(6.0)
        wire.finished()

        def rests() -> bool:
            wire.session.tick()  # does nothing while the station's own tick is at it
            return bool(wire.http.get("/v1/status").json()["state"] == "RESTING")

        until(rests)
        wire.clock.advance(100.0)
        wire.lease()
        answer = wire.create(episode_id="e2")
        assert (problem(answer).status, problem(answer).code) == (503, "resting")
        assert answer.headers["retry-after"] == "500"
        status = wire.http.get("/v1/status").json()
        assert (status["state"], status["resting_s"], status["worked_s"]) == ("RESTING", 500.0, 12.0)


def test_a_reset_over_the_wire_and_what_it_waits_for(wire):
    assert problem(wire.post("/v1/resets", {"task_id": "open_drawer"}, Fence="1")).code == "lease_required"
    wire.lease()
    answer = wire.post("/v1/resets", {"task_id": "open_drawer"})
    assert answer.json() == {"task_id": "open_drawer", "attempts": 1}
    wire.driver.fails["reset"] = [NeedsHuman(reason="jammed")]
    body = problem(wire.post("/v1/resets", {"task_id": "open_drawer"}))
    assert (body.status, body.code) == (409, "needs_human")
    status = wire.http.get("/v1/status").json()
    assert (status["state"], status["waiting_for"]) == ("WAITING_HUMAN", "jammed")
    assert problem(wire.create()).code == "waiting_human"


def test_the_status_tells_motors_cameras_and_times(wire):
    wire.session.tick()
    wire.lease()
    wire.create()
    wire.clock.advance(0.25)
    status = wire.http.get("/v1/status").json()
    assert [motor["name"] for motor in status["motors"]][-1] == "gripper"
    assert all(motor["torque"] and motor["error"] == "" for motor in status["motors"])
    assert status["cameras"] == [{"name": "primary", "seq": 1, "age_ms": 0.0, "dup_frames": 0}]
    assert status["uptime_s"] == 0.25
    assert (status["worked_s"], status["resting_s"], status["waiting_for"]) == (0.0, 0.0, None)


def test_the_description_tells_modes_patience_rest_and_limits(tmp_path):
    policy = StationPolicy(hold_after_ms=300, work_s=60.0, policy_endpoints=("https://gpu.lab",))
    with a_wire(tmp_path / "spool", policy=policy) as wire:
        station = StationAnswer.model_validate_json(wire.http.get("/v1/station").content)
        robot = wire.driver.description
    assert station.modes == ("stepped", "callback")
    assert station.dead_man.model_dump() == {
        "hold_after_ms": 300,
        "abort_after_ms": 5000,
        "park_after_s": 30.0,
    }
    assert station.rest.model_dump() == {"work_s": 60.0, "rest_s": 1200.0}
    assert station.policy_endpoints == ("https://gpu.lab",)
    limits = station.limits
    assert (limits.ee_speed_max, limits.joint_speed_max, limits.effort_max_mA, limits.max_episode_s) == (
        robot.ee_speed_max,
        robot.joint_speed_max,
        robot.effort_max_mA,
        600.0,
    )
    assert limits.tilt_max == robot.tilt_max
    assert {(task.reset, task.judge) for task in station.tasks} == {("auto", "sim")}
    assert {"stepped", "callback", "events", "labels", "dead_man"} <= set(station.capabilities)


def test_a_driver_that_breaks_is_a_silent_arm_and_no_broken_station(wire):
    wire.lease()
    wire.create()
    wire.driver.fails["step"] = [RuntimeError("segfault in the vendor's library")]
    for _ in range(2):
        body = problem(wire.step(0, forward()))
        assert (body.status, body.code) == (504, "unknown_outcome")
    assert wire.http.get("/v1/status").json()["state"] == "FAULT"
    body = problem(wire.create(episode_id="e2"))
    assert (body.status, body.code) == (503, "driver_disconnected")
    assert "segfault" in body.detail
    assert wire.driver.moves == 1


def test_labels_events_and_pages_are_served_too(wire):
    wire.finished()
    label = {"success": True, "source": "human", "judge": "me"}
    assert wire.post("/v1/episodes/e1/labels", label).status_code == 201
    assert wire.http.get("/v1/episodes/e1/labels").json()["effective"]["source"] == "human"
    kinds = [event["kind"] for event in wire.http.get("/v1/events").json()["events"]]
    assert kinds[0] == "station_started"
    assert kinds[-1] == "label_added"
    page = wire.http.get("/v1/episodes?limit=1").json()
    assert [e["episode_id"] for e in page["episodes"]] == ["e1"]
