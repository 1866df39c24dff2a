"""robot-station/v1, held against any implementation of it: `pytest <this file> --station-url http://…`.

Without an address it starts our own station around the simulated cell. What needs somebody at the robot, or
a hand on the station's process, runs against our own only and is skipped, with the reason, for an address.
Points of the protocol: lease and fence, exactly-once steps, order, dead-man, stop, bad actions, limits,
camera, spool and digests, labels, clock, versions, journal, both modes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from robot_bridge.conventions import achieved_actions
from robot_bridge.drivers.cell import nominal_cell
from robot_bridge.drivers.driver import RobotDriver, Sample
from robot_bridge.drivers.faults import FaultPlan, FaultyDriver
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.episode import Manifest, parse_manifest
from robot_bridge.protocol import (
    DIGEST_HEADER,
    FENCE_HEADER,
    IDEMPOTENCY_HEADER,
    PICTURE_AGE_HEADER,
    PICTURE_NUMBER_HEADER,
    PICTURE_TIME_HEADER,
    PROTOCOL_HEADER,
    SNAPSHOT_MINOR,
)
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.serve import running_station
from robot_bridge.steps import StepArrays
from tests.contracts.station_bench import HOLD_STILL, Bench, policy_on_http, refused
from tests.waiting import until

IMAGE = 64  # pixels of our own station's camera: enough to see motion, quick to draw
QUICK = StationPolicy(hold_after_ms=300, abort_after_ms=1200, park_after_s=0.3)
TRACKING_M = 0.02  # how far a measured gripper may be from where it was told to be


def forward(metres: float) -> list[float]:
    return [metres, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def our_cell() -> RobotDriver:
    return MujocoWidowX(cell=nominal_cell(), renderer="raycast", image_size=IMAGE)


@pytest.fixture(scope="module")
def station_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    given = request.config.getoption("--station-url")
    if given:
        yield given.rstrip("/")
        return
    spool = tmp_path_factory.mktemp("conformance-spool")
    with running_station(our_cell(), spool=spool, station_id="conformance", policy=QUICK) as url:
        yield url


@pytest.fixture
def bench(station_url: str, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A lease on the station, given back afterwards."""
    found = Bench(station_url, token=request.config.getoption("--station-token"))
    until(lambda: found.status().lease is None, "a station that nobody has")
    found.acquire()
    yield found
    found.release()
    found.session.close()


@pytest.fixture
def own_station(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Bench, FaultyDriver]]:
    """A station of the test's own, whose robot can be made to fail and whose folder is at hand."""
    if request.config.getoption("--station-url"):
        pytest.skip("needs a hand on the robot or on the station's own process")
    driver = FaultyDriver(our_cell(), plan=FaultPlan())
    with running_station(driver, spool=tmp_path / "spool", station_id="own", policy=QUICK) as url:
        found = Bench(url)
        found.acquire()
        yield found, driver
        found.session.close()


# ---- versions, description -------------------------------------------------------------------------------


def test_the_station_says_who_it_is_what_it_allows_and_how_fast_it_gives_up(bench: Bench) -> None:
    station = bench.station()
    assert station.protocol.major == 1
    assert {"stepped"} <= set(station.modes)
    assert station.tasks
    assert station.limits.step_xyz_max > 0
    assert station.dead_man is not None
    assert 0 < station.dead_man.hold_after_ms < station.dead_man.abort_after_ms
    assert station.conventions.action == "bridge_v2"


@pytest.mark.parametrize("version", ["2.0", "0.9", "two", ""])
def test_another_major_version_is_refused(bench: Bench, version: str) -> None:
    refused(bench.call("GET", "/v1/status", headers={PROTOCOL_HEADER: version}), "version_mismatch", 426)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.99"])
def test_any_minor_version_of_ours_is_welcome(bench: Bench, version: str) -> None:
    assert bench.call("GET", "/v1/status", headers={PROTOCOL_HEADER: version}).status_code == 200


def test_health_needs_no_lease_and_says_nothing_secret(bench: Bench) -> None:
    answer = bench.call("GET", "/v1/health")
    assert answer.status_code == 200
    assert {"live", "ready", "state"} == set(answer.json())


def test_what_is_not_a_call_of_the_protocol_is_a_problem(bench: Bench) -> None:
    assert bench.call("GET", "/v1/nothing").status_code == 404
    refused(bench.call("GET", "/v1/nothing"), "unknown_call", 404)


# ---- the camera for people who look -----------------------------------------------------------------------


def snapshot(bench: Bench) -> requests.Response:
    answer = bench.call("GET", "/v1/snapshot")
    assert answer.status_code == 200, answer.text
    return answer


def number_of(answer: requests.Response) -> int:
    return int(answer.headers[PICTURE_NUMBER_HEADER])


def shows_its_camera(bench: Bench) -> None:
    protocol = bench.station().protocol
    if protocol.minor < SNAPSHOT_MINOR:
        refused(bench.call("GET", "/v1/snapshot"), "unknown_call", 404)
        pytest.skip(f"speaks {protocol.major}.{protocol.minor}: it shows no camera")


def test_the_newest_picture_of_an_episode_can_be_seen_without_the_lease(bench: Bench) -> None:
    shows_its_camera(bench)
    ready = bench.open()
    stranger = Bench(bench.url, token=bench.token)
    numbers = []
    for t in range(3):
        seen = bench.step(ready.episode_id, t).observation
        answer = snapshot(stranger)
        with Image.open(io.BytesIO(answer.content)) as picture:
            shown = np.asarray(picture.convert("RGB"), dtype=float)
        with Image.open(io.BytesIO(base64.b64decode(seen.jpeg))) as picture:
            observed = np.asarray(picture.convert("RGB"), dtype=float)
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert np.abs(shown - observed).mean() < 2.0, "the episode's own observation"
        assert 0.0 <= float(answer.headers[PICTURE_AGE_HEADER]) < 5000.0
        assert datetime.fromisoformat(answer.headers[PICTURE_TIME_HEADER]).tzinfo is not None
        numbers.append(number_of(answer))
    assert numbers == sorted(set(numbers))
    stranger.session.close()


def test_the_same_picture_keeps_its_number_and_gets_older(bench: Bench) -> None:
    shows_its_camera(bench)
    ready = bench.open()
    bench.step(ready.episode_id, 0)
    first = snapshot(bench)
    time.sleep(0.05)
    second = snapshot(bench)
    assert (number_of(second), second.content) == (number_of(first), first.content)
    assert float(second.headers[PICTURE_AGE_HEADER]) >= float(first.headers[PICTURE_AGE_HEADER]) + 40.0


def test_looking_all_the_time_changes_nothing_about_an_episode(
    own_station: tuple[Bench, FaultyDriver],
) -> None:
    bench, _ = own_station
    done = threading.Event()
    looks = []

    def watch() -> None:
        with requests.Session() as session:
            while not done.is_set():
                looks.append(Bench(bench.url, session=session).call("GET", "/v1/snapshot").status_code)

    def observed() -> list[str]:
        ready = bench.open()
        steps = [bench.step(ready.episode_id, t, forward(0.01)).observation.jpeg for t in range(4)]
        assert bench.finish(ready.episode_id).status_code == 200
        return [ready.observation.jpeg, *steps]

    unseen = observed()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert observed() == unseen
    finally:
        done.set()
        watcher.join()
    assert set(looks) == {200}


def test_nobody_waits_for_a_motion_to_see_the_robot(own_station: tuple[Bench, FaultyDriver]) -> None:
    bench, driver = own_station
    ready = bench.open()
    before = number_of(snapshot(bench))
    moving, go_on = threading.Event(), threading.Event()
    step = driver.inner.step

    def slow(target: Any, gripper: float) -> Any:
        moving.set()
        go_on.wait(30.0)
        return step(target, gripper)

    driver.inner.step = slow  # type: ignore[method-assign]
    stepping = threading.Thread(target=lambda: bench.step(ready.episode_id, 0))
    stepping.start()
    try:
        assert moving.wait(30.0)
        stranger = Bench(bench.url)
        assert number_of(snapshot(stranger)) == before, "the motion is not over"
        assert stepping.is_alive()
    finally:
        go_on.set()
        stepping.join()
    assert number_of(snapshot(stranger)) == before + 1
    stranger.session.close()


def test_between_episodes_a_camera_is_looked_through_only_while_somebody_asks(tmp_path: Path) -> None:
    looks = []

    class Counted(MujocoWidowX):
        def look(self) -> Sample:
            looks.append(time.monotonic())
            return super().look()

    driver = Counted(cell=nominal_cell(), renderer="raycast", image_size=IMAGE)
    with running_station(driver, spool=tmp_path, station_id="own", policy=QUICK) as url:
        bench = Bench(url)
        time.sleep(0.3)
        assert looks == []
        refused(bench.call("GET", "/v1/snapshot"), "no_picture", 503)
        first = until(lambda: seen(bench, 1), "a picture")
        assert bench.status().lease is None
        later = until(lambda: seen(bench, first + 1), "a newer one")
        assert later > first
        bench.session.close()
    assert all(after - before >= 0.4 for before, after in pairwise(looks))


def seen(bench: Bench, least: int) -> int | None:
    answer = bench.call("GET", "/v1/snapshot")
    return number_of(answer) if answer.status_code == 200 and number_of(answer) >= least else None


# ---- lease and fence -------------------------------------------------------------------------------------


def test_one_holder_at_a_time(bench: Bench) -> None:
    second = Bench(bench.url, token=bench.token)
    answer = second.call("POST", "/v1/leases", {"holder": "thief", "ttl_s": 5})
    problem = refused(answer, "lease_conflict", 409)
    assert problem.retryable


def test_the_same_lease_request_again_is_the_same_lease(bench: Bench) -> None:
    bench.release()
    body, key = {"holder": "conformance", "ttl_s": 30}, {IDEMPOTENCY_HEADER: str(uuid.uuid4())}
    first = bench.call("POST", "/v1/leases", body, headers=key).json()
    second = bench.call("POST", "/v1/leases", body, headers=key).json()
    bench.fence, bench.lease_id = first["fence"], first["lease_id"]
    assert (first["lease_id"], first["fence"]) == (second["lease_id"], second["fence"])


def test_every_lease_has_a_higher_fence_than_all_before(bench: Bench) -> None:
    fences = []
    for _ in range(3):
        bench.release()
        fences.append(bench.acquire().fence)
    assert fences == sorted(set(fences))


def test_a_call_without_a_fence_or_with_an_old_one_moves_nothing(bench: Bench) -> None:
    ready = bench.open()
    path, body = f"/v1/episodes/{ready.episode_id}/steps", {"t": 0, "actions": [forward(0.02)]}
    refused(bench.call("POST", path, body), "lease_required", 401, 403)
    refused(bench.call("POST", path, body, headers={FENCE_HEADER: str(bench.fence - 1)}), "fence_stale", 412)
    assert bench.step(ready.episode_id, 0).t == 0  # step 0 is still to be done


def test_a_holder_who_lost_the_robot_cannot_move_it_for_the_next_one(bench: Bench) -> None:
    old = bench.fence
    bench.release()
    bench.acquire(holder="the next one")
    ready = bench.open()
    answer = bench.moving(
        f"/v1/episodes/{ready.episode_id}/steps", {"t": 0, "actions": [HOLD_STILL]}, fence=old
    )
    refused(answer, "fence_stale", 412)


def test_a_lease_that_ran_out_ends_its_episode_and_the_arm_holds(bench: Bench) -> None:
    bench.release()
    bench.acquire(ttl_s=1.0)
    ready = bench.open()
    bench.step(ready.episode_id, 0)
    ended = bench.ended(ready.episode_id)
    assert ended.outcome in {"aborted_lease", "timeout_client"}
    until(lambda: bench.status().lease is None, "the end of the lease")
    answer = bench.post_steps(ready.episode_id, 1, [forward(0.02)])
    assert answer.status_code in {401, 403, 409}


def test_a_heartbeat_keeps_the_lease_and_one_for_another_lease_does_not(bench: Bench) -> None:
    answer = bench.call("POST", f"/v1/leases/{bench.lease_id}/heartbeat", {"seq": 1})
    assert answer.status_code == 200
    refused(bench.call("POST", f"/v1/leases/{uuid.uuid4()}/heartbeat", {"seq": 1}), "unknown_lease", 404)


# ---- exactly once, in order ------------------------------------------------------------------------------


def test_a_step_sent_again_is_answered_the_same_and_moves_nothing(bench: Bench) -> None:
    ready = bench.open()
    first = bench.step(ready.episode_id, 0, forward(0.02))
    for _ in range(3):
        assert bench.step(ready.episode_id, 0, forward(0.02)) == first
    after = bench.step(ready.episode_id, 1, HOLD_STILL)
    np.testing.assert_allclose(after.target_pose[:3], first.target_pose[:3], atol=1e-6)
    assert after.observation.t == 2


def test_many_senders_of_the_same_step_move_the_arm_once(bench: Bench) -> None:
    ready = bench.open()
    start = bench.step(ready.episode_id, 0, HOLD_STILL)
    answers: list[int] = []

    def send() -> None:
        with bench.session.__class__() as session:
            other = Bench(bench.url, token=bench.token, fence=bench.fence, session=session)
            answers.append(other.post_steps(ready.episode_id, 1, [forward(0.01)]).status_code)

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 6
    after = bench.step(ready.episode_id, 2, HOLD_STILL)
    assert after.target_pose[0] - start.target_pose[0] == pytest.approx(0.01, abs=1e-5)


def test_the_same_step_with_other_actions_is_refused(bench: Bench) -> None:
    ready = bench.open()
    bench.step(ready.episode_id, 0, forward(0.01))
    answer = bench.post_steps(ready.episode_id, 0, [forward(0.02)])
    refused(answer, "idempotency_mismatch", 422)


@pytest.mark.parametrize("t", [1, 5])
def test_a_step_out_of_order_is_refused_and_told_which_one_is_next(bench: Bench, t: int) -> None:
    ready = bench.open()
    problem = refused(bench.post_steps(ready.episode_id, t, [forward(0.02)]), "step_out_of_order", 409)
    assert problem.parts["expected_step"] == 0
    assert bench.state(ready.episode_id).next_step == 0


def test_creating_an_episode_again_is_the_same_episode(bench: Bench) -> None:
    wanted = bench.request()
    first = bench.moving("/v1/episodes", wanted).json()
    assert bench.moving("/v1/episodes", wanted).json() == first
    refused(bench.moving("/v1/episodes", {**wanted, "seed": 8}), "idempotency_mismatch", 422)


def test_a_task_that_the_robot_does_not_have_is_refused(bench: Bench) -> None:
    refused(bench.moving("/v1/episodes", bench.request(task_id="make_coffee")), "unknown_task", 404)


def test_a_command_with_an_unknown_field_is_refused(bench: Bench) -> None:
    answer = bench.moving("/v1/episodes", {**bench.request(), "force": 9000})
    assert 400 <= answer.status_code < 500
    assert bench.status().episode is None


# ---- the clock -------------------------------------------------------------------------------------------


def test_a_command_that_is_older_than_its_time_to_live_is_refused(bench: Bench) -> None:
    ready = bench.open()
    then = bench.status().station_time - 10.0
    answer = bench.post_steps(ready.episode_id, 0, [forward(0.02)], issued_at=then, ttl_ms=500)
    refused(answer, "step_stale", 409)
    assert bench.state(ready.episode_id).next_step == 0


def test_a_clock_that_is_ahead_of_the_stations_does_no_harm(bench: Bench) -> None:
    ready = bench.open()
    ahead = bench.status().station_time + 1e6
    assert bench.step(ready.episode_id, 0, HOLD_STILL, issued_at=ahead, ttl_ms=500).t == 0


# ---- dead-man --------------------------------------------------------------------------------------------


def test_a_client_that_falls_silent_makes_the_arm_hold_and_may_come_back(bench: Bench) -> None:
    ready = bench.open()
    bench.step(ready.episode_id, 0)
    until(lambda: bench.status().state == "HOLD", "HOLD")
    assert bench.state(ready.episode_id).state == "held"
    assert bench.step(ready.episode_id, 1).t == 1
    assert {"hold", "resumed"} <= set(bench.kinds_of(ready.episode_id))


def test_a_client_that_stays_silent_loses_the_episode_which_is_kept(bench: Bench) -> None:
    ready = bench.open()
    bench.step(ready.episode_id, 0)
    assert bench.ended(ready.episode_id).outcome == "timeout_client"
    manifest = _manifest(bench, ready.episode_id)
    assert (manifest.T, manifest.valid_for.policy_eval, manifest.valid_for.world_model) == (1, False, True)
    answer = bench.post_steps(ready.episode_id, 1, [forward(0.02)])
    refused(answer, "episode_state", 409)


# ---- actions and limits ----------------------------------------------------------------------------------

BAD_ACTIONS: dict[str, bytes] = {
    "nan": b'{"t":0,"actions":[[NaN,0,0,0,0,0,1]]}',
    "infinity": b'{"t":0,"actions":[[0,Infinity,0,0,0,0,1]]}',
    "beyond float": b'{"t":0,"actions":[[1e999,0,0,0,0,0,1]]}',
    "six numbers": b'{"t":0,"actions":[[0,0,0,0,0,0]]}',
    "eight numbers": b'{"t":0,"actions":[[0,0,0,0,0,0,1,0]]}',
    "words": b'{"t":0,"actions":[["left",0,0,0,0,0,1]]}',
    "no action": b'{"t":0,"actions":[]}',
    "a flat list": b'{"t":0,"actions":[0,0,0,0,0,0,1]}',
    "null": b'{"t":0,"actions":null}',
    "a negative step": b'{"t":-1,"actions":[[0,0,0,0,0,0,1]]}',
    "not JSON": b"left a bit",
    "half a JSON": b'{"t":0,"actions":[[0,0,0',
    "not UTF-8": b"\xff\xfe\x00",
    "nothing": b"",
    "half good": b'{"t":0,"actions":[[0.02,0,0,0,0,0,1],[NaN,0,0,0,0,0,1]]}',
}


@pytest.mark.parametrize("case", sorted(BAD_ACTIONS))
def test_an_action_that_is_not_seven_finite_numbers_moves_nothing(bench: Bench, case: str) -> None:
    ready = bench.open()
    before = ready.observation.proprio
    answer = bench.call(
        "POST",
        f"/v1/episodes/{ready.episode_id}/steps",
        raw=BAD_ACTIONS[case],
        headers={FENCE_HEADER: str(bench.fence)},
    )
    assert 400 <= answer.status_code < 500
    assert answer.json()["code"] in {"bad_action", "bad_request"}
    after = bench.step(ready.episode_id, 0, HOLD_STILL)
    np.testing.assert_allclose(after.observation.proprio[:3], before[:3], atol=2e-3)


def test_a_body_that_is_far_too_large_is_refused_unread(bench: Bench) -> None:
    ready = bench.open()
    answer = bench.call(
        "POST",
        f"/v1/episodes/{ready.episode_id}/steps",
        raw=b'{"t":0,"actions":[[' + b"0," * 4_000_000 + b"1]]}",
        headers={FENCE_HEADER: str(bench.fence)},
    )
    refused(answer, "too_large", 413)


@pytest.mark.parametrize("seed", range(3))
def test_no_sequence_of_actions_takes_the_arm_out_of_its_box_or_over_its_step(
    bench: Bench, seed: int
) -> None:
    station = bench.station()
    task = station.tasks[seed % len(station.tasks)]
    ready = bench.open(task_id=task.task_id)
    rng = np.random.default_rng(seed)
    low, high = np.array(task.box_low), np.array(task.box_high)
    before = np.array(ready.observation.proprio[:3])
    inside = (before >= low - 1e-6).all() and (before <= high + 1e-6).all()
    assert inside, "the home pose of a task lies in its box"
    pull = rng.uniform(-1, 1, 3)
    for t in range(ready.max_steps):
        action = [*(pull * 10.0 ** rng.integers(-2, 6)), *rng.uniform(-3, 3, 3), float(rng.uniform(-5, 5))]
        answer = bench.step(ready.episode_id, t, action)
        target, executed = np.array(answer.target_pose), np.array(answer.executed_action)
        assert (target[:3] >= low - 1e-6).all()
        assert (target[:3] <= high + 1e-6).all()
        assert (np.abs(executed[:3]) <= station.limits.step_xyz_max + 1e-6).all()
        assert 0.0 <= executed[6] <= 1.0
        measured = np.array(answer.observation.proprio[:3])
        assert (measured >= low - TRACKING_M).all()
        assert (measured <= high + TRACKING_M).all()


def test_what_was_cut_is_said_in_the_answer_and_counted(bench: Bench) -> None:
    ready = bench.open()
    answer = bench.step(ready.episode_id, 0, forward(1.0))
    assert "xyz" in answer.clips
    assert answer.flags
    assert abs(answer.executed_action[0]) <= bench.station().limits.step_xyz_max + 1e-6
    episode = bench.status().episode
    assert episode is not None
    assert episode.clips["xyz"] == 1


@pytest.mark.parametrize(
    "wider", [{"step_xyz_max": 10.0}, {"step_rot_max": 3.0}, {"box_low": [-9.0, -9.0, -9.0]}]
)
def test_a_request_cannot_widen_the_stations_limits(bench: Bench, wider: dict[str, Any]) -> None:
    refused(bench.moving("/v1/episodes", bench.request(limits=wider)), "limits_violation", 422)


def test_a_request_can_narrow_them(bench: Bench) -> None:
    ready = bench.open(limits={"step_xyz_max": 0.005})
    assert abs(bench.step(ready.episode_id, 0, forward(0.04)).executed_action[0]) <= 0.005 + 1e-6


# ---- the spool -------------------------------------------------------------------------------------------


def _manifest(bench: Bench, episode_id: str) -> Manifest:
    answer = bench.call("GET", f"/v1/episodes/{episode_id}")
    assert answer.status_code == 200, answer.text
    manifest = parse_manifest(answer.content)
    assert answer.headers[DIGEST_HEADER] == manifest.digest
    return manifest


def _blob(bench: Bench, manifest: Manifest, name: str) -> bytes:
    sha256 = manifest.blob_sha256(name)
    content = bench.call("GET", f"/v1/episodes/{manifest.episode_id}/blobs/{sha256}").content
    assert hashlib.sha256(content).hexdigest() == sha256
    return content


def _played(bench: Bench, steps: int = 3) -> str:
    ready = bench.open(max_steps=steps)
    for t in range(steps):
        bench.step(ready.episode_id, t, forward(0.01))
    assert bench.finish(ready.episode_id).status_code == 200
    return ready.episode_id


def test_a_finished_episode_waits_whole_until_it_is_acknowledged(bench: Bench) -> None:
    episode_id = _played(bench)
    manifest = _manifest(bench, episode_id)
    steps = StepArrays.from_npz(_blob(bench, manifest, "steps.npz"))
    assert manifest.T == steps.count == 3
    assert steps.executed_action is not None
    np.testing.assert_allclose(steps.raw_action[:, 0], 0.01, atol=1e-6)
    np.testing.assert_allclose(steps.achieved_action, achieved_actions(steps.state), atol=1e-5)
    assert len(_blob(bench, manifest, "frames.bin")) > 0
    assert manifest.labels
    assert manifest.valid_for.policy_eval
    refused(
        bench.call("POST", f"/v1/episodes/{episode_id}/ack", {"manifest_sha256": "0" * 64}),
        "idempotency_mismatch",
        422,
    )
    for _ in range(2):
        done = bench.call("POST", f"/v1/episodes/{episode_id}/ack", {"manifest_sha256": manifest.digest})
        assert done.status_code == 204
    refused(bench.call("GET", f"/v1/episodes/{episode_id}"), "unknown_episode", 404)


def test_finishing_twice_gives_the_same_manifest(bench: Bench) -> None:
    episode_id = _played(bench)
    first, second = bench.finish(episode_id), bench.finish(episode_id)
    assert first.content == second.content


def test_the_id_of_a_finished_episode_cannot_be_used_again(bench: Bench) -> None:
    episode_id = _played(bench)
    answer = bench.moving("/v1/episodes", bench.request(episode_id=episode_id))
    refused(answer, "episode_state", 409)


def test_pictures_are_of_the_size_that_the_station_declares(bench: Bench) -> None:
    camera = bench.station().cameras[0]
    ready = bench.open()
    picture = Image.open(io.BytesIO(base64.b64decode(ready.observation.jpeg)))
    assert picture.size == (camera.w, camera.h)


# ---- labels ----------------------------------------------------------------------------------------------


def _verdict(source: str, success: bool | None) -> dict[str, Any]:
    return {"success": success, "source": source, "judge": f"conformance/{source}"}


def test_verdicts_are_added_and_the_best_source_counts(bench: Bench) -> None:
    episode_id = _played(bench)
    path = f"/v1/episodes/{episode_id}/labels"
    given = [("vlm", True), ("classifier", False), ("human", True), ("vlm", False), ("human", None)]
    for source, success in given:
        assert bench.call("POST", path, _verdict(source, success)).status_code in {200, 201}
    found = bench.call("GET", path).json()
    assert [(v["source"], v["success"]) for v in found["labels"][-5:]] == given
    assert (found["effective"]["source"], found["effective"]["success"]) == ("human", True)


def test_a_verdict_of_an_unknown_source_or_on_an_unknown_episode_is_refused(bench: Bench) -> None:
    episode_id = _played(bench, 1)
    answer = bench.call("POST", f"/v1/episodes/{episode_id}/labels", _verdict("horoscope", True))
    assert answer.status_code == 422
    unknown = bench.call("POST", f"/v1/episodes/{uuid.uuid4()}/labels", _verdict("human", True))
    refused(unknown, "unknown_episode", 404)


# ---- the journal -----------------------------------------------------------------------------------------


def test_the_journal_tells_an_episodes_life_in_order_with_rising_cursors(bench: Bench) -> None:
    after = _last_cursor(bench)
    episode_id = _played(bench)
    page = bench.events(after)
    kinds = [event["kind"] for event in page["events"] if event["episode_id"] == episode_id]
    assert kinds.index("episode_opened") < kinds.index("episode_finished")
    cursors = [event["cursor"] for event in page["events"]]
    assert cursors == sorted(set(cursors))
    assert page["next_cursor"] == cursors[-1]


def _last_cursor(bench: Bench) -> int:
    page = bench.events()
    while page["events"]:
        page = bench.events(page["next_cursor"])
    return int(page["next_cursor"])


def test_a_long_poll_answers_as_soon_as_something_happens(bench: Bench) -> None:
    after = _last_cursor(bench)
    heard: list[dict[str, Any]] = []

    def listen() -> None:
        with bench.session.__class__() as session:
            other = Bench(bench.url, token=bench.token, session=session)
            heard.extend(other.events(after, wait_s=25.0)["events"])

    listener = threading.Thread(target=listen)
    began = time.monotonic()
    listener.start()
    episode_id = _played(bench, 1)
    listener.join()
    assert heard
    assert time.monotonic() - began < 25.0
    assert bench.kinds_of(episode_id)


# ---- callback mode ---------------------------------------------------------------------------------------


def run_by_station(bench: Bench, endpoint: str, **changes: Any) -> str:
    ready = bench.open(mode="callback", policy_endpoint=endpoint, **changes)
    answer = bench.moving(f"/v1/episodes/{ready.episode_id}/start", {})
    assert answer.status_code in {200, 202}, answer.text
    return ready.episode_id


@pytest.fixture
def callback_bench(bench: Bench) -> Bench:
    if "callback" not in bench.station().modes:
        pytest.skip("this station does not offer callback mode")
    return bench


def test_the_station_runs_a_whole_episode_by_asking_the_policy(callback_bench: Bench) -> None:
    with policy_on_http(lambda t: [forward(0.01)] * 4) as (endpoint, policy):
        episode_id = run_by_station(callback_bench, endpoint, max_steps=10)
        ended = callback_bench.ended(episode_id)
    assert ended.outcome == "completed"
    manifest = _manifest(callback_bench, episode_id)
    assert (manifest.mode, manifest.T, manifest.valid_for.policy_eval) == ("callback", 10, True)
    assert [act["t"] for act in policy.acts] == [0, 4, 8]  # open loop within a chunk
    assert len(policy.resets) == 1
    steps = StepArrays.from_npz(_blob(callback_bench, manifest, "steps.npz"))
    np.testing.assert_allclose(steps.raw_action[:, 0], 0.01, atol=1e-6)


def test_limits_hold_for_the_policys_actions_too(callback_bench: Bench) -> None:
    with policy_on_http(lambda t: [[9.0, 9.0, 9.0, 3.0, 3.0, 3.0, 7.0]] * 4) as (endpoint, _):
        episode_id = run_by_station(callback_bench, endpoint, max_steps=8)
        callback_bench.ended(episode_id)
    manifest = _manifest(callback_bench, episode_id)
    steps = StepArrays.from_npz(_blob(callback_bench, manifest, "steps.npz"))
    task = next(t for t in callback_bench.station().tasks if t.task_id == manifest.task_id)
    assert steps.target_pose is not None
    assert (steps.target_pose[:, :3] <= np.array(task.box_high) + 1e-6).all()
    assert (steps.target_pose[:, :3] >= np.array(task.box_low) - 1e-6).all()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_policy_that_answers_garbage_moves_nothing_and_ends_the_episode(
    callback_bench: Bench, number: float
) -> None:
    with policy_on_http(lambda t: [[number, 0, 0, 0, 0, 0, 1]] if t else [HOLD_STILL] * 4) as (endpoint, _):
        episode_id = run_by_station(callback_bench, endpoint)
        ended = callback_bench.ended(episode_id)
    assert ended.outcome == "policy_error"
    assert _manifest(callback_bench, episode_id).T == 4


def test_a_policy_that_falls_silent_makes_the_arm_hold_and_ends_the_episode(callback_bench: Bench) -> None:
    with policy_on_http(lambda t: [HOLD_STILL] * 4) as (endpoint, policy):
        ready = callback_bench.open(mode="callback", policy_endpoint=endpoint)
        callback_bench.moving(f"/v1/episodes/{ready.episode_id}/start", {})
        until(lambda: policy.acts, "the first decision")
        policy.asleep.clear()
        ended = callback_bench.ended(ready.episode_id)
    assert ended.outcome in {"policy_error", "completed"}
    if ended.outcome == "policy_error":
        assert "hold" in callback_bench.kinds_of(ready.episode_id)


def test_a_policy_that_fails_once_is_asked_again_for_the_same_step(callback_bench: Bench) -> None:
    with policy_on_http(lambda t: [HOLD_STILL] * 4) as (endpoint, policy):
        policy.fails = 1
        episode_id = run_by_station(callback_bench, endpoint, max_steps=4)
        assert callback_bench.ended(episode_id).outcome == "completed"
    assert [act["t"] for act in policy.acts] == [0, 0]


@pytest.mark.parametrize(
    "endpoint",
    ["http://example.org/policy", "file:///etc/passwd", "http://127.0.0.1.example.org", "nonsense"],
)
def test_the_station_calls_only_addresses_that_it_was_told_at_home(
    callback_bench: Bench, endpoint: str
) -> None:
    answer = callback_bench.moving(
        "/v1/episodes", callback_bench.request(mode="callback", policy_endpoint=endpoint)
    )
    assert answer.status_code == 422
    assert callback_bench.status().episode is None


def test_a_callback_episode_takes_no_steps_from_outside(callback_bench: Bench) -> None:
    with policy_on_http(lambda t: [HOLD_STILL] * 4) as (endpoint, _):
        ready = callback_bench.open(mode="callback", policy_endpoint=endpoint)
        answer = callback_bench.post_steps(ready.episode_id, 0, [forward(0.02)])
        assert 400 <= answer.status_code < 500


# ---- the emergency stop, faults of the robot, the operator -------------------------------------------------

Own = tuple[Bench, FaultyDriver]


def test_a_stop_needs_no_lease_latches_and_ends_everything(own_station: Own) -> None:
    bench, _ = own_station
    ready = bench.open()
    bench.step(ready.episode_id, 0)
    stranger = Bench(bench.url)
    for _ in range(2):
        assert stranger.call("POST", "/v1/estop", {"reason": "smoke"}).status_code == 200
    assert bench.status().state == "ESTOPPED"
    assert bench.ended(ready.episode_id).outcome == "aborted_estop"
    refused(bench.post_steps(ready.episode_id, 1, [forward(0.02)]), "estopped", 423)
    refused(bench.call("POST", "/v1/leases", {"holder": "me", "ttl_s": 5}), "estopped", 423)


def test_a_stop_during_steps_is_honoured_within_one_control_period(own_station: Own) -> None:
    bench, driver = own_station
    ready = bench.open(max_steps=60)
    answers: list[Any] = []

    def drive() -> None:
        with bench.session.__class__() as session:
            other = Bench(bench.url, fence=bench.fence, session=session)
            answers.append(other.post_steps(ready.episode_id, 0, [forward(0.001)] * 60))

    thread = threading.Thread(target=drive)
    thread.start()
    until(lambda: bench.status().state == "RUNNING" and (bench.status().episode or ready).next_step, "motion")
    Bench(bench.url).call("POST", "/v1/estop", {"reason": "test"})
    stopped_at = driver.motions
    thread.join()
    assert driver.motions - stopped_at <= 1
    refused(answers[0], "estopped", 423)


def test_a_stop_cannot_be_cleared_by_whoever_may_only_drive(own_station: Own) -> None:
    bench, _ = own_station
    bench.call("POST", "/v1/estop", {"reason": "test"})
    answer = bench.call("POST", "/v1/estop/clear", {"nonce": "please"})
    assert answer.status_code in {401, 403}
    assert bench.status().state == "ESTOPPED"


def test_a_frozen_camera_ends_the_episode_as_a_fault_of_the_robot(own_station: Own) -> None:
    bench, driver = own_station
    ready = bench.open()
    bench.step(ready.episode_id, 0, forward(0.03))
    driver.inject("frozen_camera")
    refusals = []
    for t in range(1, 10):
        answer = bench.post_steps(ready.episode_id, t, [forward(0.03 * (-1) ** t)])
        if answer.status_code != 200:
            refusals.append(answer)
            break
    assert refusals
    assert refusals[0].status_code == 503
    assert bench.ended(ready.episode_id).outcome == "aborted_hw"


def test_a_connection_to_the_arm_that_breaks_in_a_motion_leaves_the_outcome_unknown(own_station: Own) -> None:
    bench, driver = own_station
    ready = bench.open()
    bench.step(ready.episode_id, 0)
    driver.inject("disconnect")
    assert bench.post_steps(ready.episode_id, 1, [forward(0.02)]).status_code in {503, 504}
    moved = driver.motions
    again = bench.post_steps(ready.episode_id, 1, [forward(0.02)])
    assert 400 <= again.status_code < 600
    assert again.status_code != 500
    assert driver.motions == moved
    assert bench.ended(ready.episode_id).outcome == "aborted_hw"
