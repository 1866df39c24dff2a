"""The client against a real station over real sockets, also when answers are lost on the way."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import requests

from robot_bridge import reader
from robot_bridge.client import StationClient, StillRunning
from robot_bridge.episode import Manifest
from robot_bridge.errors import (
    BadAction,
    EpisodeState,
    EStopped,
    Forbidden,
    LeaseConflict,
    LeaseRequired,
    StationMisbehaved,
    StationUnreachable,
    StepStale,
    Unauthorized,
    UnknownEpisode,
    UnknownLease,
    UnknownTask,
)
from robot_bridge.events import LabelRequest
from robot_bridge.frames import decode_jpeg
from robot_bridge.protocol import LeaseAnswer
from robot_bridge.safety import CLIPPED_XYZ
from robot_bridge.snapshot import LARGEST_SNAPSHOT, NoPicture, SnapshotUnsupported, read_snapshot
from robot_bridge.station.serve import running_station
from robot_bridge.station.spool_list import PAGE_MAX
from robot_bridge.station.tokens import TokenFile
from robot_bridge.transport import Retries
from tests.contracts.station_bench import PolicyOnHttp, policy_on_http
from tests.robot_bridge.builders import NOON, a_request, an_episode, forward
from tests.robot_bridge.lossy import LossyRelay, lossy
from tests.robot_bridge.toy_driver import SIDE, ToyDriver

EPISODE = an_episode()
AT_ONCE = Retries(tries=3, pause=lambda _: None)


@dataclass
class Lab:
    """A running station, a relay that can lose answers, and a client behind it."""

    driver: ToyDriver
    relay: LossyRelay
    client: StationClient
    url: str

    def begun(self, **changes: object) -> None:
        """Lease and episode e1 are there, and the station is known, so that the next call is the only one."""
        self.client.station()
        self.client.acquire_lease("daemon")
        self.client.create_episode(a_request(**{"episode_id": "e1", **changes}))

    def finished(self) -> None:
        self.begun()
        self.client.step("e1", 0, forward(6))
        self.client.finish("e1")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    driver = ToyDriver()
    with running_station(driver, spool=tmp_path / "spool", station_id="bench") as url, lossy(url) as relay:
        client = StationClient(relay.url, retries=AT_ONCE)
        yield Lab(driver, relay, client, url)
        client.close()


def test_an_episode_over_the_wire_arrives_as_it_was_seen(lab):
    lab.client.acquire_lease("daemon")
    ready = lab.client.create_episode(a_request(episode_id="e1", max_steps=4))
    assert (ready.episode_id, ready.instruction, ready.max_steps, ready.next_step) == (
        "e1",
        "open the drawer",
        4,
        0,
    )
    assert ready.observation.image.shape == (SIDE, SIDE, 3)
    assert ready.observation.proprio.dtype == np.float32
    result = lab.client.step("e1", 0, np.array(forward(3), dtype=np.float32), infer_ms=12.5)
    assert [observation.t for observation in result.observations] == [1, 2, 3]
    assert result.last is result.observations[2]
    assert result.executed_actions.shape == (3, 7)
    last = lab.client.step("e1", result.next_step, forward(1))
    manifest = lab.client.finish("e1")
    episode = lab.client.fetch_episode("e1")
    assert episode.digest == manifest.digest
    seen = [ready.observation, *result.observations, *last.observations]
    assert [(episode.frames.decode(t) == o.image).all() for t, o in enumerate(seen)] == [True] * 5
    np.testing.assert_array_equal(episode.steps.state, np.stack([o.proprio for o in seen]))
    np.testing.assert_array_equal(episode.steps.qpos, np.stack([o.qpos for o in seen]))
    np.testing.assert_array_equal(episode.steps.infer_ms, np.float32([12.5, 12.5, 12.5, 0.0]))


def test_the_client_is_told_what_was_cut(lab):
    lab.begun()
    result = lab.client.step("e1", 0, [[0.5, 0, 0, 0, 0, 0, 1], *forward(1)])
    np.testing.assert_array_equal(result.flags, [CLIPPED_XYZ, 0])
    assert result.executed_actions[0, 0] == pytest.approx(0.05)
    assert result.target_poses.shape == (2, 7)


@pytest.mark.parametrize("cut_after", [0, 1, 60, 400])
def test_a_step_whose_answer_was_lost_is_asked_again_and_moves_once(lab, cut_after):
    lab.begun()
    lab.relay.lose, lab.relay.cut_after = 1, cut_after
    result = lab.client.step("e1", 0, forward(2))
    assert lab.relay.lost == 1
    assert result.next_step == 2
    assert lab.driver.moves == 2


def test_every_other_call_can_lose_its_answer_too(lab):
    def losing(call, *args, **kwargs):
        before = lab.relay.lost
        lab.relay.lose = 1
        result = call(*args, **kwargs)
        assert lab.relay.lost == before + 1
        return result

    client = lab.client
    assert losing(client.station).station_id == "bench"
    assert losing(client.acquire_lease, "daemon").fence == 1
    assert losing(client.heartbeat).fence == 1
    assert losing(client.create_episode, a_request(episode_id="e1")).next_step == 0
    client.step("e1", 0, forward(6))
    manifest = losing(client.finish, "e1")
    assert [e.episode_id for e in losing(client.waiting_episodes)] == ["e1"]
    assert losing(client.fetch_episode, "e1").digest == manifest.digest
    losing(client.ack, manifest)
    losing(client.release)
    assert client.status().lease is None
    assert client.waiting_episodes() == ()
    losing(client.estop, "end of the test")
    assert client.status().state == "ESTOPPED"
    assert lab.driver.moves == 6


def test_a_station_that_never_answers_is_unreachable_after_the_last_try(lab):
    lab.begun()
    lab.relay.lose = 99
    with pytest.raises(StationUnreachable, match="within 3 tries") as unreachable:
        lab.client.step("e1", 0, forward(2))
    assert unreachable.value.retryable
    assert lab.driver.moves == 2
    lab.relay.lose = 0
    assert lab.client.step("e1", 0, forward(2)).next_step == 2
    assert lab.driver.moves == 2


def test_a_lost_answer_to_a_lease_does_not_lock_its_holder_out(lab):
    lab.relay.lose = 99
    with pytest.raises(StationUnreachable):
        lab.client.acquire_lease("daemon", ttl_s=0.2)
    lab.relay.lose = 0
    while lab.client.status().lease is not None:
        pass  # the half-granted lease runs out by itself
    assert lab.client.acquire_lease("daemon").fence > 1


@pytest.mark.parametrize(
    "actions",
    [
        [[math.nan] * 7],
        [[0.0] * 6],
        [0.0] * 7,
        [],
        np.zeros((1, 2, 7)),
        [[0.0] * 7, [0.0] * 6 + [math.inf]],
        [["x"] * 7],
    ],
)
def test_a_bad_action_is_refused_before_it_is_sent(lab, actions):
    lab.begun()
    lab.relay.lose = 1
    with pytest.raises((BadAction, ValueError)):
        lab.client.step("e1", 0, actions)
    assert lab.relay.lost == 0
    lab.relay.lose = 0


@pytest.mark.parametrize("call", ["create", "step", "finish", "heartbeat"])
def test_nothing_that_moves_is_sent_without_a_lease(lab, call):
    calls = {
        "create": lambda: lab.client.create_episode(a_request()),
        "step": lambda: lab.client.step("e1", 0, forward()),
        "finish": lambda: lab.client.finish("e1"),
        "heartbeat": lab.client.heartbeat,
    }
    lab.relay.lose = 1
    with pytest.raises(LeaseRequired):
        calls[call]()
    assert lab.relay.lost == 0
    lab.relay.lose = 0


def test_a_lease_in_a_with_block_is_given_back_also_after_an_error(lab):
    with pytest.raises(UnknownTask), lab.client.leased("daemon"):
        lab.client.create_episode(a_request(task_id="fold_cloth"))
    assert lab.client.lease is None
    with lab.client.leased("daemon") as lease:
        assert lease.fence == 2
        assert lab.client.status().lease.holder == "daemon"
    assert lab.client.status().lease is None


def test_a_lease_that_is_over_already_is_released_without_complaint(lab):
    lab.client.acquire_lease("daemon")
    lab.client.estop("test")
    lab.client.release()
    lab.client.release()
    assert lab.client.lease is None


def test_a_heartbeat_for_a_lease_that_is_over_says_so(lab):
    lab.client.acquire_lease("daemon")
    lab.client.estop("test")
    while lab.client.status().lease is not None:
        pass  # the stop waits for nothing, so the lease ends a moment later
    with pytest.raises(UnknownLease, match="Acquire a new one"):
        lab.client.heartbeat()


def test_two_clients_do_not_drive_one_robot(lab):
    lab.begun()
    other = StationClient(lab.url, retries=AT_ONCE)
    with pytest.raises(LeaseConflict, match="daemon"):
        other.acquire_lease("other")
    assert other.status().episode.episode_id == "e1"
    with pytest.raises(LeaseRequired):
        other.step("e1", 0, forward())
    assert lab.driver.moves == 0
    other.close()


def test_refusals_arrive_as_the_errors_they_were(lab):
    lab.begun()
    with pytest.raises(EpisodeState, match="without a step"):
        lab.client.finish("e1")
    with pytest.raises(UnknownEpisode, match="nobody"):
        lab.client.fetch_episode("nobody")
    lab.client.estop("smoke")
    with pytest.raises(EStopped, match="smoke"):
        lab.client.step("e1", 0, forward())


def test_a_command_with_a_time_to_live_is_refused_when_it_was_issued_too_long_ago(lab):
    ticks = [0.0]
    client = StationClient(lab.url, retries=AT_ONCE, clock=lambda: ticks[0])
    client.acquire_lease("daemon")
    client.create_episode(a_request(episode_id="e1"))
    assert client.step("e1", 0, forward(), ttl_ms=60_000).next_step == 1
    ticks[0] = -120.0  # the client's clock says that it decided two minutes before
    with pytest.raises(StepStale, match="step 1"):
        client.step("e1", 1, forward(), ttl_ms=60_000)
    assert client.step("e1", 1, forward()).next_step == 2
    client.close()


def test_a_finished_episode_can_be_fetched_by_a_client_that_never_had_the_lease(lab):
    lab.finished()
    other = StationClient(lab.url, retries=AT_ONCE)
    (waiting,) = other.waiting_episodes()
    episode = other.fetch_episode(waiting.episode_id)
    assert episode.digest == waiting.manifest_sha256
    assert (waiting.outcome, waiting.T, waiting.task_id) == ("completed", 6, "open_drawer")
    other.ack(episode)
    other.ack(episode.manifest)
    assert other.waiting_episodes() == ()
    other.close()


@pytest.fixture
def policy() -> Iterator[tuple[str, PolicyOnHttp]]:
    with policy_on_http(lambda t: forward(2)) as found:
        yield found


def begun_by_itself(lab: Lab, address: str) -> None:
    lab.begun(mode="callback", policy_endpoint=address, max_steps=4)


def test_a_callback_episode_runs_to_its_end_by_itself(lab, policy):
    begun_by_itself(lab, policy[0])
    assert lab.client.state("e1").state == "ready"
    assert lab.client.start("e1").episode_id == "e1"
    over = lab.client.wait_finished("e1", timeout_s=30.0)
    assert (over.state, over.outcome, over.next_step) == ("finished", "completed", 4)
    assert lab.client.fetch_episode("e1").manifest.mode == "callback"
    assert lab.driver.moves == 4


def test_a_start_whose_answer_was_lost_starts_once(lab, policy):
    begun_by_itself(lab, policy[0])
    lab.relay.lose = 1
    lab.client.start("e1")
    assert lab.relay.lost == 1
    assert lab.client.wait_finished("e1", timeout_s=30.0).outcome == "completed"
    assert lab.driver.moves == 4


class Counted(StationClient):
    """Counts how often the lease was prolonged, and says when it was five times."""

    beats = 0

    def __init__(self, url: str) -> None:
        super().__init__(url, retries=AT_ONCE)
        self.alive = threading.Event()

    def heartbeat(self) -> LeaseAnswer:
        lease = super().heartbeat()
        self.beats += 1
        if self.beats == 5:
            self.alive.set()
        return lease


def test_whoever_waits_for_an_episode_keeps_its_lease(lab):
    """The policy decides when the lease has lasted longer than it would by itself."""
    client = Counted(lab.url)

    def decide(_: int) -> list[list[float]]:
        client.alive.wait(20.0)
        return forward(2)

    with policy_on_http(decide) as (address, _):
        client.acquire_lease("daemon", ttl_s=0.6)
        request = a_request(episode_id="e1", mode="callback", policy_endpoint=address, max_steps=2)
        client.create_episode(request)
        client.start("e1")
        assert client.wait_finished("e1", timeout_s=30.0).outcome == "completed"
        client.close()


def test_an_episode_that_goes_on_too_long_is_told_and_can_be_waited_for_again(lab):
    lab.begun()
    with pytest.raises(StillRunning, match="e1 is still ready") as impatient:
        lab.client.wait_finished("e1", timeout_s=0.1)
    assert impatient.value.retryable
    lab.client.step("e1", 0, forward(6))
    lab.client.finish("e1")
    assert lab.client.wait_finished("e1", timeout_s=0.0).outcome == "completed"


def test_an_episode_that_a_stop_ended_is_over_for_who_waits(lab):
    lab.begun()
    lab.client.step("e1", 0, forward(1))
    lab.client.estop("smoke")
    over = lab.client.wait_finished("e1", timeout_s=30.0)
    assert (over.state, over.outcome) == ("finished", "aborted_estop")


def test_the_journal_tells_what_this_client_did(lab):
    lab.finished()
    kinds = [event.kind for event in lab.client.events().events]
    in_order = ("station_started", "lease_acquired", "episode_opened", "episode_finished")
    assert [kind for kind in kinds if kind in in_order] == list(in_order)
    answer = lab.client.events(1, limit=1)
    assert [event.cursor for event in answer.events] == [2] == [answer.next_cursor]


def test_an_event_is_told_to_who_waits_for_it(lab):
    cursor = lab.client.events(2**63 - 1).next_cursor
    told: list[str] = []
    watcher = StationClient(lab.url, retries=AT_ONCE)
    waiting = threading.Thread(
        target=lambda: told.extend(e.kind for e in watcher.events(cursor, wait_s=20.0).events)
    )
    waiting.start()
    lab.client.acquire_lease("daemon")
    waiting.join(20.0)
    assert told == ["lease_acquired"]
    watcher.close()


def test_labels_are_added_once_also_when_the_answer_is_lost(lab):
    lab.finished()
    verdict = LabelRequest(success=True, source="human", judge="anna", confidence=0.9)
    lab.relay.lose = 1
    added = lab.client.add_label("e1", verdict)
    assert lab.relay.lost == 1
    answer = lab.client.labels("e1")
    assert [label.source for label in answer.labels] == ["sim_predicate", "human"]
    assert answer.effective == added
    with pytest.raises(UnknownEpisode):
        lab.client.labels("e2")


def test_a_scene_is_reset_without_an_episode(lab):
    with pytest.raises(LeaseRequired):
        lab.client.reset("open_drawer")
    lab.client.acquire_lease("daemon")
    lab.relay.lose = 1
    answer = lab.client.reset("open_drawer", seed=3)
    assert (answer.task_id, answer.attempts, lab.relay.lost) == ("open_drawer", 1, 1)
    with pytest.raises(UnknownTask):
        lab.client.reset("fold_cloth")


def test_a_stop_does_not_wait_for_another_call_of_the_same_client(lab):
    """A call of this client hangs in a long-poll; another thread stops the arm with the same client."""
    cursor = lab.client.events(2**63 - 1).next_cursor
    told: list[str] = []
    hanging = threading.Thread(
        target=lambda: told.extend(e.kind for e in lab.client.events(cursor, wait_s=25.0).events)
    )
    hanging.start()
    assert lab.client.estop("smoke").reason == "smoke"
    hanging.join(25.0)
    assert "estop" in told


def test_a_stop_needs_no_session_of_the_callers(lab):
    """Its connection is its own: a session that is broken stops nobody from stopping."""

    class Broken(requests.Session):
        def request(self, *args, **kwargs):
            raise requests.ConnectionError

    client = StationClient(lab.url, session=Broken(), retries=AT_ONCE)
    with pytest.raises(StationUnreachable):
        client.status()
    assert client.estop("smoke").reason == "smoke"
    assert lab.client.status().state == "ESTOPPED"


def test_the_quickest_answer_tells_the_stations_clock(lab):
    ticks = iter([10.0, 14.0, 20.0, 20.5, 30.0, 33.0])
    client = StationClient(lab.url, retries=AT_ONCE, clock=lambda: next(ticks))
    at_first = client.acquire_lease("daemon").station_time - 12.0
    assert client.clock_offset == at_first
    better = client.heartbeat().station_time - 20.25
    assert client.clock_offset == better
    client.heartbeat()  # slow: it knows less
    assert client.clock_offset == better
    client.close()


def test_a_long_spool_is_listed_to_its_end(tmp_path):
    with running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench") as url:
        client = StationClient(url, retries=AT_ONCE)
        episodes = tmp_path / "spool" / "episodes"
        for number in range(PAGE_MAX + 3):
            folder = episodes / f"e{number}"
            folder.mkdir()
            manifest = an_episode_manifest(f"e{number}", number)
            (folder / "manifest.json").write_bytes(manifest.canonical_json())
        (episodes / "torn").mkdir()
        found = client.waiting_episodes()
        assert [episode.episode_id for episode in found] == [f"e{n}" for n in range(PAGE_MAX + 3)]
        assert client.spool_page().unreadable == ("torn",)
        client.close()


def an_episode_manifest(episode_id: str, minutes: int) -> Manifest:
    changes = {"episode_id": episode_id, "ended_at": NOON + timedelta(minutes=minutes)}
    return EPISODE.manifest.model_copy(update=changes)


def test_a_token_opens_the_station_and_appears_nowhere(tmp_path, caplog):
    tokens = TokenFile(tmp_path / "tokens.json")
    secret = tokens.create("daemon", ["observe", "drive"])
    with (
        caplog.at_level(logging.DEBUG),
        running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench", tokens=tokens) as url,
    ):
        stranger = StationClient(url, retries=AT_ONCE)
        assert stranger.health().live
        with pytest.raises(Unauthorized, match="found none"):
            stranger.status()
        client = StationClient(url, token=secret, retries=AT_ONCE)
        client.acquire_lease("daemon")
        assert client.status().lease.holder == "daemon"
        with pytest.raises(Forbidden, match="scope estop") as refused:
            client.estop("not mine to press")
        tokens.revoke("daemon")
        with pytest.raises(Unauthorized) as revoked:
            client.status()
        client.close()
        stranger.close()
    for told in (caplog.text, str(refused.value), str(revoked.value), str(refused.value.parts)):
        assert secret not in told


def test_the_camera_is_seen_without_a_lease_and_with_its_age(lab):
    with pytest.raises(NoPicture):
        lab.client.snapshot()
    lab.begun()
    first = lab.client.snapshot()
    lab.client.step("e1", 0, forward(1))
    second = lab.client.snapshot()
    assert (first.number, second.number) == (1, 2)
    assert 0.0 <= second.age_s < 10.0
    assert second.captured_at.tzinfo is not None
    shown = decode_jpeg(second.jpeg, width=SIDE, height=SIDE)
    assert shown.shape == (SIDE, SIDE, 3)


def test_a_station_of_an_older_version_shows_no_camera_and_does_all_else(lab, monkeypatch):
    monkeypatch.setattr(reader, "SNAPSHOT_PATH", "/v1/snapshot-of-later")  # a call that the station lacks
    with pytest.raises(SnapshotUnsupported, match=r"robot-station/v1\.3"):
        lab.client.snapshot()
    lab.begun()
    assert lab.client.step("e1", 0, forward(1)).next_step == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"Content-Type": "text/html"},
        {"Picture-Number": "0"},
        {"Picture-Number": "many"},
        {"Picture-Age-Ms": "nan"},
        {"Picture-Age-Ms": "-1"},
        {"Picture-Captured-At": "today"},
        {"Picture-Captured-At": "2026-01-01T12:00:00"},
        {"Picture-Age-Ms": None},
    ],
    ids=str,
)
def test_a_picture_that_nobody_says_the_age_of_is_not_taken(changes):
    whole = {
        "Content-Type": "image/jpeg",
        "Picture-Number": "3",
        "Picture-Age-Ms": "40",
        "Picture-Captured-At": "2026-01-01T12:00:00+00:00",
    }
    answer = requests.Response()
    answer._content = b"\xff\xd8\xff\xd9"
    answer.headers.update(whole)
    assert (read_snapshot(answer, url="http://cell").number, answer.headers["Picture-Age-Ms"]) == (3, "40")
    for name, value in changes.items():
        answer.headers.pop(name)
        answer.headers.update({} if value is None else {name: value})
    with pytest.raises(StationMisbehaved):
        read_snapshot(answer, url="http://cell")


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xd8" + bytes(LARGEST_SNAPSHOT)], ids=len)
def test_what_is_no_picture_or_too_large_is_not_taken(content):
    answer = requests.Response()
    answer._content = content
    answer.headers["Content-Type"] = "image/jpeg"
    with pytest.raises(StationMisbehaved):
        read_snapshot(answer, url="http://cell")
