"""Hundreds of episodes on a station where everything goes wrong: what was lost, doubled or done twice?

    python -m benchmarks.station_soak --episodes 200 --faults all

A station around the simulated cell runs as a process of its own. Its driver injects every kind of fault at
random, kill -9 of the station in a motion among them; the network loses requests and answers; the collector
dies and forgets its lease; somebody hits the emergency stop. A collector as simple as can be goes on through
it all. Every motion is written down just before it happens, by the driver itself, so the counts below are not
what anybody believes but what the arm did. Exit status 1 when one of the promises is broken.
"""

from __future__ import annotations

import argparse
import logging
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import requests
from requests.adapters import HTTPAdapter

from benchmarks.soak_verdict import Verdict, judge
from daemon.lab import free_port
from robot_bridge.client import StationClient
from robot_bridge.drivers.tasks import TASKS
from robot_bridge.episode import Episode, PolicyRef
from robot_bridge.errors import RobotBridgeError, StationUnreachable
from robot_bridge.protocol import EpisodeRequest
from robot_bridge.station.estop import EStopLatch
from robot_bridge.station.human import HumanCall
from robot_bridge.station.tokens import TokenFile
from storage import episodes
from storage.blobs import BlobStore
from storage.db import Database, default_url

STEPS, CHUNK = 20, 5
LOST_REQUEST, LOST_ANSWER = 0.01, 0.02  # chances of one call
COLLECTOR_DIES, COMMITTED_TWICE, STOPPED = 0.05, 0.1, 0.06  # chances of one episode
HOSTILE = 0.1  # chance of an action that no arm should execute
LOOK_EVERY_S, PATIENCE_S = 0.05, 60.0
PERIOD_S = 0.2  # one control period


class LossyAdapter(HTTPAdapter):
    """A network that loses requests on their way there and answers on their way back."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice
        self.lost = 0

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        if self._dice.random() < LOST_REQUEST:
            self.lost += 1
            raise requests.ConnectionError("injected: the request was lost")
        answer = super().send(request, *args, **more)
        if self._dice.random() < LOST_ANSWER:
            self.lost += 1
            answer.close()
            raise requests.ConnectionError("injected: the answer was lost")
        return answer


@dataclass(slots=True)
class Tally:
    """What happened, as the collector saw it."""

    finished: int = 0
    acknowledged: set[str] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    deaths: int = 0
    stops: list[int] = field(default_factory=list)  # motions that began after each stop was answered
    refusals: Counter[str] = field(default_factory=Counter)


class Soak:
    """The lab: a station process, somebody standing beside the robot, a collector, a store."""

    def __init__(self, folder: Path, *, faults: str, seed: int) -> None:
        self.folder, self.faults = folder, faults
        self.dice = random.Random(seed)
        self.actions = np.random.default_rng(seed)
        self.tally = Tally()
        tokens = TokenFile(folder / "tokens.json")
        self.token = tokens.create("collector", ["observe", "drive", "estop", "label"])
        self.operator = tokens.create("operator", ["observe", "operate"])
        self.database = Database(default_url(folder))
        self.database.upgrade()
        self.blobs = BlobStore(folder / "blobs")
        self.stopping = threading.Event()
        self.port = free_port()
        self.station: subprocess.Popen[bytes] | None = None
        self.finished_there: set[str] = set()
        self.faults_seen: Counter[str] = Counter()
        self.adapter = LossyAdapter(self.dice)
        self.client = self._client()
        self.url = f"http://127.0.0.1:{self.port}"

    def run(self, count: int) -> None:
        """Record `count` episodes, and take home what is left at the end."""
        beside = threading.Thread(target=self._stand_beside, name="operator")
        beside.start()
        try:
            while self.tally.finished < count:
                self._one_episode()
            self._take_home_all()
            self.finished_there = episodes_kept(self.url, self.token)
            self.faults_seen = self._faults_told()
        finally:
            self.stopping.set()
            beside.join()
            self.client.close()
            if self.station is not None:
                self.station.terminate()
                self.station.wait()

    def _client(self) -> StationClient:
        session = requests.Session()
        session.mount("http://", self.adapter)
        return StationClient(f"http://127.0.0.1:{self.port}", token=self.token, session=session)

    def _one_episode(self) -> None:
        episode_id = str(uuid.uuid4())
        try:
            self._hold_lease()
            self._play(episode_id)
            self.tally.finished += 1
        except StationUnreachable:
            self.stopping.wait(LOOK_EVERY_S)
        except RobotBridgeError as refused:
            self.tally.refusals[refused.code] += 1
            self.stopping.wait(LOOK_EVERY_S)
        if self.dice.random() < COLLECTOR_DIES:  # it forgets everything, its lease first of all
            self.tally.deaths += 1
            self.client.close()
            self.client = self._client()
        else:
            with suppress(RobotBridgeError):
                self._take_home()

    def _hold_lease(self) -> None:
        if self.client.lease is not None:
            with suppress(RobotBridgeError):
                self.client.heartbeat()
                return
        self.client.acquire_lease("soak", ttl_s=3.0)

    def _play(self, episode_id: str) -> None:
        task = self.dice.choice(sorted(TASKS))
        request = EpisodeRequest(
            episode_id=episode_id,
            task_id=task,
            max_steps=STEPS,
            policy=PolicyRef(name="soak"),
            seed=self.dice.randrange(2**31),
        )
        self.client.create_episode(request)
        stop_at = self.dice.randrange(STEPS) if self.dice.random() < STOPPED else None
        for t in range(0, STEPS, CHUNK):
            if stop_at is not None and t <= stop_at < t + CHUNK:
                threading.Thread(target=self._hit_the_stop, daemon=True).start()
            self.client.step(episode_id, t, self._chunk(), ttl_ms=2000.0)
        self.client.finish(episode_id)

    def _chunk(self) -> np.ndarray:
        """Small moves that are all different, so that one done twice can be told; sometimes a hostile one."""
        chunk = self.actions.normal(scale=0.006, size=(CHUNK, 7))
        chunk[:, 6] = 1.0
        if self.dice.random() < HOSTILE:
            chunk[self.dice.randrange(CHUNK)] *= 1e4
        return chunk

    def _hit_the_stop(self) -> None:
        with closing(StationClient(self.url, token=self.token)) as client:
            client.estop("soak")
            before = self.motions()
            time.sleep(2 * PERIOD_S)
            self.tally.stops.append(self.motions() - before)
            EStopLatch(self.folder / "spool").clear()

    def _take_home(self) -> None:
        for waiting in self.client.waiting_episodes():
            episode = self.client.fetch_episode(waiting.episode_id)
            for _ in range(2 if self.dice.random() < COMMITTED_TWICE else 1):
                self._commit(episode)
                self.client.ack(episode)
            self.tally.acknowledged.add(waiting.episode_id)

    def _take_home_all(self) -> None:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with suppress(RobotBridgeError):
                if self.client.status().episode is None and not self.client.waiting_episodes():
                    return
                self._take_home()
            time.sleep(LOOK_EVERY_S)

    def _commit(self, episode: Episode) -> None:
        with self.database.write() as session:
            _, new = episodes.commit(
                session,
                self.blobs,
                episode,
                provenance=episodes.Provenance(origin="collect"),
                now=datetime.now(UTC),
            )
        if new:
            self.tally.outcomes[episode.manifest.outcome] += 1

    def _stand_beside(self) -> None:
        """Start the station again when it died, and do what it asks a human to do."""
        life, headers = 0, {"Authorization": f"Bearer {self.operator}"}
        while not self.stopping.wait(LOOK_EVERY_S):
            if self.station is None or self.station.poll() is not None:
                self.tally.restarts += life > 0
                self.station = self._start(life)
                life += 1
            with suppress(requests.RequestException):
                state = requests.get(f"{self.url}/v1/health", timeout=5).json()["state"]
                if state == "WAITING_HUMAN":
                    HumanCall(self.folder / "spool").done()
                if state == "FAULT":
                    requests.post(
                        f"{self.url}/v1/maintenance/reboot_motors", json={}, headers=headers, timeout=5
                    )

    def _start(self, life: int) -> subprocess.Popen[bytes]:
        options = {"folder": self.folder, "port": self.port, "life": life, "faults": self.faults}
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        with (self.folder / "station.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "benchmarks.soak_station", *arguments], stdout=log, stderr=log
            )

    def _faults_told(self) -> Counter[str]:
        told = ("camera_fault", "motor_fault", "human_needed", "hold", "episode_lost")
        with closing(StationClient(self.url, token=self.token)) as client:
            return Counter(event.kind for event in client.all_events() if event.kind in told)

    @property
    def lost_calls(self) -> int:
        """How many requests and answers the network lost."""
        return self.adapter.lost

    def motions(self) -> int:
        """How often the arm was moved so far, as its driver wrote it down."""
        return sum(path.read_text().count("\n") for path in self.folder.glob("motions-*.jsonl"))


def episodes_kept(url: str, token: str) -> set[str]:
    """Episodes that the station's journal says it kept, with at least one step."""
    with closing(StationClient(url, token=token)) as client:
        told = [event for event in client.all_events() if event.kind == "episode_finished"]
    return {str(event.episode_id) for event in told if event.facts.get("steps")}


def report(soak: Soak, verdict: Verdict, injected: Counter[str]) -> str:
    """What a person reads at the end."""
    tally = soak.tally
    late = [count for count in tally.stops if count > 1]
    rows = {
        "episodes asked for and finished": tally.finished,
        "episodes stored, by outcome": dict(sorted(tally.outcomes.items())),
        "episodes acknowledged": len(tally.acknowledged),
        "episodes lost": verdict.lost,
        "episodes duplicated": verdict.duplicated,
        "motions executed": soak.motions(),
        "motions executed twice": verdict.executed_twice,
        "limit violations": verdict.limit_violations,
        "emergency stops": len(tally.stops),
        "emergency stops that more than one motion followed": len(late),
        "kill -9 of the station in a motion": tally.restarts,
        "deaths of the collector": tally.deaths,
        "requests and answers lost by the network": soak.lost_calls,
        "refusals met, by code": dict(sorted(tally.refusals.items())),
        "camera, motor and human events": dict(sorted(injected.items())),
    }
    return "\n".join(f"{name:52} {value}" for name, value in rows.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--faults", choices=["none", "all"], default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="keep everything here")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        soak = Soak(folder, faults=options.faults, seed=options.seed)
        soak.run(options.episodes)
        verdict = judge(
            folder, soak.database, acknowledged=soak.tally.acknowledged, finished=soak.finished_there
        )
        print(report(soak, verdict, soak.faults_seen))
        soak.database.dispose()
    in_time = all(count <= 1 for count in soak.tally.stops)
    return 0 if verdict.clean and in_time else 1


if __name__ == "__main__":
    sys.exit(main())
