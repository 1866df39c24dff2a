"""A robot station as a collector, whoever runs its episodes: lease, tries, spool, and going away.

The order is: the station finishes and keeps the episode, the daemon fetches and commits it, the station is
told. A crash in between leaves the episode in at least one of the two places, and committing it twice is the
same as once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from daemon.events.stations import StationsTold, needs_human
from daemon.learning.policy.contract import ActionContract
from daemon.phases.arms import Arms, require_contract
from daemon.phases.human_wait import HumanWait
from daemon.phases.robot_time import RobotTime
from daemon.phases.sink import EpisodeSink, holder_name, slot_metadata
from daemon.phases.slots import ENDED_BY_KEY, Slot
from daemon.phases.todo import Todo, Wanted
from robot_bridge.client import StationClient
from robot_bridge.episode import Episode
from robot_bridge.errors import (
    DriverError,
    FenceStale,
    LeaseConflict,
    LeaseRequired,
    PolicyError,
    RobotBridgeError,
    StationRefused,
    StationUnreachable,
    UnknownEpisode,
    UnknownLease,
    VersionMismatch,
)
from robot_bridge.protocol import EARLY_END_MINOR, EpisodeMode, EpisodeRequest

log = logging.getLogger(__name__)

LEASE_TTL_S = 20.0  # every accepted step renews it; a killed worker keeps the robot no longer than this
LEASE_WAIT_S = 90.0  # how long to wait for another holder's lease to end
PATIENCE_S = 60.0  # how long a station that went away is waited for
LOOK_EVERY_S = 0.5
RETURNS_MAX = 20  # how often a station may go away and come back in one phase

LOST_LEASE = (UnknownLease, LeaseRequired, FenceStale)


class Drive(Protocol):
    """How one episode is run, from its creation to its end at the station."""

    @property
    def mode(self) -> EpisodeMode: ...

    @property
    def endpoint(self) -> str | None:
        """Where the station asks for actions; None when they are sent to it."""
        ...

    def ended_by(self, task_id: str) -> str | None:
        """Checkpoint of the judge that may end episodes of a task early; None: all have full length."""
        ...

    def run(self, client: StationClient, request: EpisodeRequest, *, stop: threading.Event) -> None:
        """Create the episode, see it through, and let the station judge it.

        Raises:
            RobotBridgeError: it ended otherwise, or goes on without us.
        """
        ...


class StationCollector:
    """One station under one lease. Obeys `Collector`.

    Raises:
        StationUnreachable: it does not answer.
        VersionMismatch: episodes may end early, and it is of a version whose do not.
        ContractMismatch: an action means something else there than to one of the policies.
    """

    def __init__(self, client: StationClient, sink: EpisodeSink, *, drive: Drive, arms: Arms) -> None:
        self._client = client
        self._sink = sink
        self._drive = drive
        self._arms = arms
        self._described = client.station()
        spoken = self._described.protocol
        early = any(drive.ended_by(task) is not None for task in self.offers)
        if early and spoken.minor < EARLY_END_MINOR:
            asked = f"{spoken.major}.{EARLY_END_MINOR} (stop_on_success)"
            raise VersionMismatch(found=asked, expected=f"{spoken.major}.{spoken.minor}")
        require_contract(arms, ActionContract.at(self._described), station=self._described.station_id)
        self._time = RobotTime(sink, self._described.station_id)
        limit_s = sink.context.settings.human_wait_s
        self._human = HumanWait(self._described.station_id, limit_s=limit_s)
        self._told = StationsTold(sink.context.database, iteration_id=sink.context.iteration_id)

    @property
    def name(self) -> str:
        return self._described.station_id

    @property
    def offers(self) -> Mapping[str, str]:
        return {task.task_id: task.instruction for task in self._described.tasks}

    @property
    def facts(self) -> Mapping[str, object]:
        return self._described.model_dump(mode="json")

    def collect(self, todo: Todo, *, stop: threading.Event) -> None:
        try:
            for _ in range(RETURNS_MAX):
                try:
                    return self._collect(todo, stop=stop)
                except StationUnreachable as gone:
                    self._await_return(todo, stop=stop, gone=gone)
                except LOST_LEASE as lost:
                    log.warning("lease lost station=%s reason=%s", self.name, lost.code)
        finally:
            with suppress(RobotBridgeError):  # a station that is gone lets the lease run out
                self._client.release()

    def _collect(self, todo: Todo, *, stop: threading.Event) -> None:
        while self._time.wait(todo, self.offers, stop=stop):
            if not self._hold_lease(todo, stop=stop):
                return
            self._empty_spool()  # what ended while we waited for the lease, or while the station was away
            if self._while_open(todo, stop=stop):
                return
            self._client.release()  # people may have the robot until it is our time again

    def _while_open(self, todo: Todo, *, stop: threading.Event) -> bool:
        """Fill slots as long as the robot may move; whether that was all there is to do."""
        while not stop.is_set():
            if self._time.closed() is not None:
                return False
            wanted = todo.take(self.offers)
            if wanted is None:
                return True
            self._sink.tell(todo, f"episode {todo.place} of {todo.total}: {wanted.slot.name} on {self.name}")
            self.fill(wanted, todo, stop=stop)
        return True

    def take_home(self) -> None:
        self._empty_spool()
        for episode_id in self._judged_late():
            with suppress(UnknownEpisode):
                self._sink.add_labels(episode_id, self._client.labels(episode_id).labels)

    def _empty_spool(self) -> None:
        """Commit what was finished at the station but not fetched."""
        for waiting in self._client.waiting_episodes():
            episode = self._client.fetch_episode(waiting.episode_id)
            if self._sink.is_ours(episode.manifest):
                self._bring(episode)
                log.info("episode taken home episode=%s outcome=%s", waiting.episode_id, waiting.outcome)

    def _judged_late(self) -> set[str]:
        """Episodes of the station's journal that somebody gave a verdict on."""
        told = self._client.all_events()
        return {event.episode_id for event in told if event.kind == "label_added" and event.episode_id}

    def fill(self, wanted: Wanted, todo: Todo, *, stop: threading.Event) -> None:
        """Try until an episode is valid; those that were cut short are kept too, and counted apart."""
        tries = list(wanted.tries)
        if self._sink.is_filled(wanted.slot):  # by what was taken home when the station came back
            todo.settle()
            return
        try:
            while tries and not stop.is_set() and self._time.closed() is None:
                self._until_it_may_move(todo, stop=stop)
                if self._try(wanted.slot, attempt=tries.pop(0), stop=stop):
                    todo.settle()
                    return
        except BaseException:
            todo.put_back(Wanted(slot=wanted.slot, tries=tuple(tries)))
            raise
        if tries or stop.is_set():
            todo.put_back(Wanted(slot=wanted.slot, tries=tuple(tries)))
            return
        log.warning("slot given up slot=%s tries=%d", wanted.slot.name, len(wanted.tries))
        todo.settle()

    def _try(self, slot: Slot, *, attempt: int, stop: threading.Event) -> bool:
        episode = self.act(slot, attempt=attempt, stop=stop)
        if episode is None:
            return False
        self._bring(episode)
        return episode.manifest.valid_for.policy_eval

    def act(self, slot: Slot, *, attempt: int, stop: threading.Event) -> Episode | None:
        """One episode with the policy, from the reset of the scene to the station's verdict.

        None: it ended without leaving anything, before its first step or in a crash of the station.
        """
        ended_by = self._drive.ended_by(slot.task_id)
        request = EpisodeRequest(
            episode_id=slot.episode_id(attempt),
            task_id=slot.task_id,
            mode=self._drive.mode,
            policy_endpoint=self._drive.endpoint,
            max_steps=self._sink.context.spec.steps,
            policy=self._arms.named(slot.arm).ref,
            seed=slot.seed,
            may_end_early=ended_by is not None,
            metadata={**slot_metadata(slot), **({} if ended_by is None else {ENDED_BY_KEY: ended_by})},
        )
        try:
            self._drive.run(self._client, request, stop=stop)
        except (StationRefused, DriverError, PolicyError) as error:
            if not self._ended(request.episode_id):
                raise
            log.warning("episode cut short episode=%s reason=%s", request.episode_id, error.code)
        if stop.is_set():  # what still runs ends with our lease, and is taken home by the next attempt
            return None
        try:
            return self._client.fetch_episode(request.episode_id)
        except UnknownEpisode:
            return None

    def _ended(self, episode_id: str) -> bool:
        try:
            return self._client.state(episode_id).state in {"finished", "lost"}
        except UnknownEpisode:
            return False

    def _bring(self, episode: Episode) -> None:
        """Store first, acknowledge after: the station forgets nothing that is not safe here."""
        episode_id = episode.manifest.episode_id
        self._sink.commit(episode)
        self._sink.add_labels(episode_id, self._client.labels(episode_id).labels)
        self._client.ack(episode)

    def _hold_lease(self, todo: Todo, *, stop: threading.Event) -> bool:
        """Go on with the lease we have, or get one; a killed worker's runs out while we wait.

        An iteration of another lineage that collects with the robot is waited for until it is done, or until
        other robots have left nothing to do: then there is no lease.
        """
        if self._client.lease is not None:
            with suppress(*LOST_LEASE):
                self._client.heartbeat()
                return True
        holder = holder_name(self._sink.context.iteration_number)
        deadline = time.monotonic() + LEASE_WAIT_S
        while True:
            try:
                self._client.acquire_lease(holder, LEASE_TTL_S, purpose="collect")
                return True
            except LeaseConflict as held:
                has_it = held.parts.get("holder")
                if has_it in {holder_name(other.number) for other in self._sink.others()}:
                    deadline = time.monotonic() + LEASE_WAIT_S  # its phase run is looked after, and ends
                elif time.monotonic() > deadline:
                    raise
                if stop.is_set():
                    raise
            if not any(slot.task_id in self.offers for slot in todo.left):
                return False
            self._sink.tell(todo, f"waiting for {self.name}: another holder, {has_it}, has its lease")
            stop.wait(LOOK_EVERY_S)

    def _until_it_may_move(self, todo: Todo, *, stop: threading.Event) -> None:
        """Wait while the motors rest, or while somebody is needed at the robot.

        Raises:
            HumanAwaited: nobody came.
        """
        while not stop.is_set():
            status = self._client.status()
            needed, now = needs_human(status), self._sink.context.now()
            self._told.tell(self._client.base_url, needed, name=lambda: self.name, now=now)
            if status.state not in {"RESTING", "WAITING_HUMAN"}:
                self._human.is_over()
                return
            why = needed or f"its motors rest for {status.resting_s:.0f} s"
            if needed is None:
                self._human.is_over()
            else:
                self._human.goes_on(needed)
            self._sink.tell(todo, f"waiting for {self.name}: {why}")
            self._client.heartbeat()
            stop.wait(LOOK_EVERY_S)

    def _await_return(self, todo: Todo, *, stop: threading.Event, gone: StationUnreachable) -> None:
        log.warning("station went away station=%s reason=%s", self.name, gone)
        deadline = time.monotonic() + PATIENCE_S
        while not stop.is_set() and time.monotonic() < deadline:
            self._sink.tell(todo, f"waiting for {self.name}: it does not answer")
            with suppress(StationUnreachable):
                self._client.status()
                return
            stop.wait(LOOK_EVERY_S)
        raise gone
