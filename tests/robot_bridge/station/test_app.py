"""robot-station/v1 on the wire: status codes, problem bodies, headers, and what a stranger may send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot_bridge import errors
from robot_bridge.body_limit import MAX_BODY_BYTES
from robot_bridge.description import StationAnswer
from robot_bridge.episode import parse_manifest
from robot_bridge.errors import RobotBridgeError
from robot_bridge.frames import decode_jpeg
from robot_bridge.observation import read_ready
from robot_bridge.protocol import EpisodeReadyAnswer, Problem
from robot_bridge.station.problems import STATUS
from robot_bridge.transport import error_of_problem
from tests.robot_bridge.builders import a_request, forward
from tests.robot_bridge.station.wire import JSON, Wire, a_wire, problem
from tests.robot_bridge.toy_driver import SIDE


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    with a_wire(tmp_path / "spool") as wire:
        yield wire


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """One station with an episode that waits for its first step, for calls that must all be refused."""
    with a_wire(tmp_path_factory.mktemp("ready") / "spool") as wire:
        wire.lease()
        wire.create()
        yield wire


def test_a_station_describes_itself(wire):
    answer = StationAnswer.model_validate_json(wire.http.get("/v1/station").content)
    assert (answer.station_id, answer.robot_model, answer.control_hz) == ("bench", "toy", 5.0)
    assert (answer.protocol.major, answer.protocol.minor) == (1, 3)
    assert answer.conventions.action == "bridge_v2"
    assert (answer.cameras[0].w, answer.cameras[0].h) == (SIDE, SIDE)
    assert {task.task_id: task.instruction for task in answer.tasks} == {
        "open_drawer": "open the drawer",
        "close_drawer": "close the drawer",
    }
    assert answer.limits.step_xyz_max == 0.05
    assert answer.modes == ("stepped", "callback")


def test_the_status_follows_what_the_station_does(wire):
    def state() -> tuple[str, str]:
        status, health = wire.http.get("/v1/status").json(), wire.http.get("/v1/health").json()
        assert health["state"] == status["state"]
        return status["state"], health["ready"]

    assert state() == ("IDLE", True)
    wire.lease()
    wire.create()
    assert state() == ("READY", True)
    wire.step(0, [*forward(1), [9.0] * 7])
    assert state() == ("RUNNING", True)
    status = wire.http.get("/v1/status").json()
    assert status["lease"] == {"holder": "daemon", "fence": 1, "remaining_s": 30.0}
    assert status["episode"]["next_step"] == 2
    cut = {stage for stage, times in status["episode"]["clips"].items() if times}
    assert cut == {"xyz", "rot", "gripper"}
    wire.post("/v1/episodes/e1/finish", {"reason": "completed"})
    assert state() == ("IDLE", True)
    status = wire.http.get("/v1/status").json()
    assert status["episode"] is None
    assert status["spooled_episodes"] == 1
    wire.http.post("/v1/estop", json={"reason": "test"})
    assert state() == ("ESTOPPED", False)


def test_the_picture_on_the_wire_is_the_one_that_is_kept(wire):
    wire.lease()
    ready = EpisodeReadyAnswer.model_validate_json(wire.create().content)
    wire.step(0, forward(1))
    manifest = wire.post("/v1/episodes/e1/finish", {}).json()
    frames = wire.http.get(f"/v1/episodes/e1/blobs/{manifest['blobs']['frames.bin'][7:]}").content
    seen = read_ready(ready, width=SIDE, height=SIDE).observation.image
    start = frames.index(b"\xff\xd8")
    kept = decode_jpeg(frames[start : frames.index(b"\xff\xd9", start) + 2], width=SIDE, height=SIDE)
    assert (seen == kept).all()


def test_manifests_come_with_their_digest_and_blobs_in_ranges(wire):
    wire.finished()
    answer = wire.http.get("/v1/episodes/e1")
    manifest = parse_manifest(answer.content)
    assert answer.headers["manifest-sha256"] == manifest.digest
    path = f"/v1/episodes/e1/blobs/{manifest.blob_sha256('frames.bin')}"
    whole = wire.http.get(path).content
    part = wire.http.get(path, headers={"Range": "bytes=8-19"})
    assert part.status_code == 206
    assert part.content == whole[8:20]


def test_an_acknowledged_episode_is_forgotten_and_the_acknowledgement_can_be_repeated(wire):
    wire.finished()
    digest = wire.http.get("/v1/episodes/e1").headers["manifest-sha256"]
    for _ in range(2):
        assert wire.post("/v1/episodes/e1/ack", {"manifest_sha256": digest}).status_code == 204
    assert wire.http.get("/v1/episodes").json()["episodes"] == []
    assert problem(wire.http.get("/v1/episodes/e1")).code == "unknown_episode"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/leases", {"holder": "x", "surprise": 1}),
        ("/v1/leases", {"holder": ""}),
        ("/v1/leases", {"holder": "x", "ttl_s": 61}),
        ("/v1/leases", {"holder": "x", "ttl_s": 0}),
        ("/v1/leases", []),
        ("/v1/episodes", {**a_request().model_dump(mode="json"), "speed": 9}),
        ("/v1/episodes", {**a_request().model_dump(mode="json"), "max_steps": 0}),
        ("/v1/episodes", {**a_request().model_dump(mode="json"), "mode": "telepathy"}),
        ("/v1/episodes", {**a_request().model_dump(mode="json"), "episode_id": "../e1"}),
        ("/v1/episodes", {**a_request().model_dump(mode="json"), "limits": {"box": 1}}),
        ("/v1/episodes/e1/steps", {"t": 0, "actions": forward(), "speed": 2}),
        ("/v1/episodes/e1/steps", {"t": -1, "actions": forward()}),
        ("/v1/episodes/e1/steps", {"t": 0, "actions": []}),
        ("/v1/episodes/e1/steps", {"t": 0, "actions": forward(65)}),
        ("/v1/episodes/e1/steps", {"t": 0, "actions": [["a"] * 7]}),
        ("/v1/episodes/e1/steps", {"t": 0.5, "actions": forward()}),
        ("/v1/episodes/e1/finish", {"reason": "bored"}),
        ("/v1/episodes/e1/ack", {"manifest_sha256": "abc"}),
    ],
)
def test_a_command_that_is_not_exactly_a_command_is_refused_and_nothing_moves(ready, path, body):
    body = problem(ready.post(path, body))
    assert (body.status, body.code) == (422, "bad_request")
    assert ready.driver.moves == 0


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_a_bad_action(wire, number):
    wire.lease()
    wire.create()
    raw = json.dumps({"t": 0, "actions": forward()}).replace("0.01", number)
    answer = wire.http.post("/v1/episodes/e1/steps", content=raw, headers={**JSON, "Fence": wire.fence})
    assert (problem(answer).status, problem(answer).code) == (422, "bad_action")
    assert wire.driver.moves == 0
    assert wire.step(0, forward()).status_code == 200


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b'{"t": 0, "actions": [[0.1', b"[" * 5000])
def test_a_body_that_is_no_json_is_refused(ready, raw):
    answer = ready.http.post("/v1/episodes/e1/steps", content=raw, headers={**JSON, "Fence": ready.fence})
    assert problem(answer).code == "bad_request"


def test_a_body_over_the_limit_is_refused_by_its_declared_and_by_its_real_length(wire):
    wire.lease()
    big = json.dumps({"reason": "x" * MAX_BODY_BYTES}).encode()
    declared = wire.http.post("/v1/estop", content=big, headers=JSON)
    assert (problem(declared).status, problem(declared).code) == (413, "too_large")
    streamed = wire.http.post("/v1/estop", content=iter([big[:1000], big[1000:]]), headers=JSON)
    assert problem(streamed).code == "too_large"
    assert wire.http.get("/v1/health").json()["state"] == "IDLE"


@pytest.mark.parametrize(
    ("fence", "status", "code"),
    [("", 403, "lease_required"), ("7", 412, "fence_stale"), ("x", 422, "bad_request")],
)
def test_motion_needs_the_fence_header(wire, fence, status, code):
    wire.lease()
    wire.create()
    headers = {"Fence": fence} if fence else {}
    answer = wire.http.post("/v1/episodes/e1/steps", json={"t": 0, "actions": forward()}, headers=headers)
    assert (problem(answer).status, problem(answer).code) == (status, code)
    assert wire.driver.moves == 0


@pytest.mark.parametrize(
    ("version", "status"), [("1.0", 200), ("1.9", 200), ("1", 200), ("2.0", 426), ("x", 426), ("", 426)]
)
def test_a_client_of_another_major_version_is_turned_away_before_anything_happens(wire, version, status):
    answer = wire.http.get("/v1/station", headers={"Station-Protocol": version})
    assert answer.status_code == status
    if status == 426:
        assert problem(answer).code == "version_mismatch"
        refused = wire.http.post("/v1/leases", json={"holder": "x"}, headers={"Station-Protocol": version})
        assert problem(refused).code == "version_mismatch"
        assert wire.http.get("/v1/status").json()["lease"] is None


def test_a_second_holder_is_told_who_has_the_robot(wire):
    wire.lease()
    body = problem(wire.http.post("/v1/leases", json={"holder": "other"}))
    assert (body.status, body.code, body.retryable) == (409, "lease_conflict", True)
    assert body.parts == {"holder": "daemon", "remaining_s": 30.0}


def test_a_lease_is_granted_again_to_the_same_idempotency_key(wire):
    ask = {"json": {"holder": "daemon"}, "headers": {"Idempotency-Key": "k1"}}
    first = wire.http.post("/v1/leases", **ask)
    assert first.status_code == 201
    assert wire.http.post("/v1/leases", **ask).json() == first.json()


def test_a_lease_is_prolonged_and_released_by_its_id(wire):
    lease = wire.lease()
    path = f"/v1/leases/{lease['lease_id']}"
    assert wire.post(f"{path}/heartbeat", {"seq": 1}).json()["fence"] == lease["fence"]
    assert problem(wire.post("/v1/leases/other/heartbeat", {"seq": 1})).status == 404
    assert wire.http.delete(path).status_code == 204
    assert problem(wire.http.delete(path)).code == "unknown_lease"


def test_releasing_the_lease_ends_the_open_episode(wire):
    lease = wire.lease()
    wire.create()
    wire.step(0, forward(2))
    wire.http.delete(f"/v1/leases/{lease['lease_id']}")
    spooled = wire.http.get("/v1/episodes").json()["episodes"]
    assert [(e["episode_id"], e["outcome"], e["T"]) for e in spooled] == [("e1", "aborted_lease", 2)]


def test_the_emergency_stop_needs_nothing_and_nothing_on_the_wire_clears_it(wire):
    wire.lease()
    wire.create()
    first = wire.http.post("/v1/estop", json={"reason": "smoke"})
    assert first.status_code == 200
    assert wire.http.post("/v1/estop", json={"reason": "again"}).json() == first.json()
    assert (problem(wire.step(0, forward())).status, problem(wire.step(0, forward())).code) == (
        423,
        "estopped",
    )
    assert problem(wire.http.post("/v1/leases", json={"holder": "x"})).code == "estopped"
    refused = problem(wire.http.post("/v1/estop/clear", json={"nonce": "please"}))
    assert (refused.status, refused.code) == (403, "forbidden")
    assert wire.driver.moves == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/station", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/episodes/../../x", 404),
        ("PUT", "/v1/leases", 405),
        ("GET", "/v1/estop", 405),
        ("TRACE", "/v1/status", 405),
    ],
)
def test_a_call_that_is_not_in_the_protocol_is_a_problem_too(ready, method, path, status):
    answer = ready.http.request(method, path)
    assert (problem(answer).status, problem(answer).code) == (status, "unknown_call")
    assert ("allow" in answer.headers) is (status == 405)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/episodes", "GET, POST"),  # two routes in two routers
        ("DELETE", "/v1/episodes/e1/labels", "GET, POST"),
        ("GET", "/v1/leases/any", "DELETE"),
        ("PATCH", "/v1/health", "GET"),
    ],
)
def test_a_wrong_method_says_every_right_one(wire, method, path, allowed):
    answer = wire.http.request(method, path)
    assert (problem(answer).status, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("name", ["..%2fopen.json", ".hidden", "a%00b", "a" * 101])
def test_names_that_are_no_episode_ids_are_refused_before_they_reach_the_disk(wire, name):
    wire.finished()
    assert wire.http.get(f"/v1/episodes/{name}").status_code in {404, 422}
    assert problem(wire.http.get(f"/v1/episodes/{name}")).code in {"bad_request", "unknown_call"}


def test_step_problems_say_how_to_go_on(wire):
    wire.lease()
    wire.create()
    body = problem(wire.step(3, forward()))
    assert (body.status, body.code) == (409, "step_out_of_order")
    assert body.parts["expected_step"] == 0
    body = problem(wire.create(task_id="fold_cloth", episode_id="e2"))
    assert (body.status, body.code) == (404, "unknown_task")
    assert "open_drawer" in body.detail


def every_refusal() -> list[type[RobotBridgeError]]:
    def below(root: type[RobotBridgeError]) -> Iterator[type[RobotBridgeError]]:
        for child in root.__subclasses__():
            if child.__module__ == errors.__name__:
                yield child
                yield from below(child)

    return [*below(errors.StationRefused), *below(errors.DriverError), errors.BadAction]


@pytest.mark.parametrize("error", every_refusal(), ids=lambda error: error.code)
def test_every_refusal_has_a_status_of_its_own_choice(error):
    assert error.code in STATUS


def test_a_client_raises_the_class_the_station_raised(wire):
    wire.lease()
    error = error_of_problem(problem(wire.http.post("/v1/leases", json={"holder": "other"})))
    assert isinstance(error, errors.LeaseConflict)
    assert error.parts["holder"] == "daemon"
    error = error_of_problem(problem(wire.step(3, forward())))
    assert isinstance(error, errors.UnknownEpisode)


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("from_the_future", {}),
        ("fence_stale", {}),
        ("lease_conflict", {"holder": "x", "remaining_s": "soon"}),
    ],
)
def test_a_problem_that_cannot_be_rebuilt_still_says_what_it_said(code, parts):
    body = Problem(type="t", title="t", status=409, detail="the reason", code=code, parts=parts)
    error = error_of_problem(body)
    assert type(error) is errors.StationRefused
    assert str(error) == f"{code}: the reason"
