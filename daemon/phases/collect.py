"""Phase 1: the current policy acts on the station; every episode is stored before the station forgets it.

The order is: the station finishes and keeps the episode, the daemon fetches and commits it, the station is
told. A crash in between leaves the episode in at least one of the two places, and committing it twice
is the same as once. So an attempt begins by taking home what an earlier one left at the station.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.policy.policy import Policy
from daemon.learning.rollout import RolloutPlan, rollout
from daemon.phases.checkpoints import newest
from daemon.phases.context import Outcome, PhaseContext
from daemon.phases.slots import (
    HELD_OUT_KEY,
    ITERATION_KEY,
    SLOT_KEY,
    Slot,
    is_filled,
    slots_of,
    tries_left,
)
from daemon.phases.station_env import StationEnv
from robot_bridge.client import StationClient
from robot_bridge.episode import Episode, PolicyRef
from robot_bridge.errors import LeaseConflict, UnknownTask
from robot_bridge.protocol import EpisodeRequest
from storage import checkpoints, episodes, phase_runs, replay, stations, tasks
from storage.tables import CheckpointRow

log = logging.getLogger(__name__)

LEASE_TTL_S = 20.0  # every accepted step renews it; a killed worker keeps the robot no longer than this
LEASE_WAIT_S = 90.0  # how long to wait for another holder's lease to end
LEASE_RETRY_S = 1.0


def run(context: PhaseContext) -> Outcome:
    """Fill every slot of the iteration with a valid episode, as far as the robot lets us.

    Raises:
        RobotBridgeError: the station cannot be reached or refuses; what was acknowledged is kept.
        StorageError: the store cannot take an episode; the station keeps it.
        LeaseLost: another worker has this phase run by now.
    """
    begun = time.monotonic()
    row = newest(context, "policy")
    device = choose_device()
    policy = Policy.load(
        checkpoints.path(row, context.blobs), device=device, precision=choose_precision(device.type)
    )
    client = StationClient(context.settings.station_url)
    try:
        collector = Collector(
            context=context, client=client, policy=policy, checkpoint=row, slots=plan(context, client)
        )
        acquire(client, context)
        try:
            collector.take_home()
            collector.fill_all()
        finally:
            client.release()
    finally:
        client.close()
    return {
        "read": {"policy": row.id},
        "slots": len(collector.slots),
        "filled": len(collector.slots) - len(collector.unfilled()),
        "seconds": time.monotonic() - begun,
    }


def plan(context: PhaseContext, client: StationClient) -> list[Slot]:
    """The slots of this iteration; station and tasks get their rows here.

    Raises:
        UnknownTask: the spec names a task that this station does not offer.
    """
    described = client.station()
    offered = {task.task_id: task.instruction for task in described.tasks}
    wanted: tuple[str, ...] = context.spec.tasks or tuple(offered)
    for task_id in wanted:
        if task_id not in offered:
            raise UnknownTask(task_id=task_id, known=", ".join(offered))
    with context.database.write() as session:
        phase_runs.require_held(session, context.phase_run_id, fence=context.fence)
        facts = described.model_dump(mode="json")
        stations.ensure(session, described.station_id, description=facts, now=context.now())
        for task_id in wanted:
            tasks.ensure(session, task_id, instruction=offered[task_id], now=context.now())
    return slots_of(
        context.iteration_id,
        wanted,
        episodes_per_task=context.spec.collect.episodes_per_task,
        held_out_every=context.spec.collect.held_out_every,
        seed=context.spec.seed,
    )


def acquire(client: StationClient, context: PhaseContext) -> None:
    """Get the robot; a lease that a killed worker left behind runs out while we wait.

    Raises:
        LeaseConflict: somebody else still had it after LEASE_WAIT_S.
    """
    deadline = time.monotonic() + LEASE_WAIT_S
    while True:
        try:
            client.acquire_lease(f"iteration-{context.iteration_number}", LEASE_TTL_S, purpose="collect")
            return
        except LeaseConflict:
            if time.monotonic() > deadline:
                raise
        context.report(0.0, "waiting for the robot: another holder has its lease")
        time.sleep(LEASE_RETRY_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """One attempt at collecting: the robot is leased, the policy loaded, the slots are known."""

    context: PhaseContext
    client: StationClient
    policy: Policy
    checkpoint: CheckpointRow
    slots: Sequence[Slot]

    def take_home(self) -> None:
        """Commit what earlier attempts of this iteration finished at the station but did not fetch."""
        for waiting in self.client.waiting_episodes():
            episode = self.client.fetch_episode(waiting.episode_id)
            if episode.manifest.metadata.get(ITERATION_KEY) == self.context.iteration_id:
                self.commit(episode)
                log.info("episode taken home episode=%s outcome=%s", waiting.episode_id, waiting.outcome)

    def unfilled(self) -> list[tuple[Slot, list[int]]]:
        """The slots without a valid episode, each with the tries it has left (perhaps none)."""
        query = replay.EpisodeQuery(iteration_ids=(self.context.iteration_id,), valid_for_world_model=None)
        with self.context.database.read() as session:
            valid = {row.id: row.valid_for_policy_eval for row in replay.select(session, query)}
        return [(slot, tries_left(slot, valid)) for slot in self.slots if not is_filled(slot, valid)]

    def fill_all(self) -> None:
        waiting = self.unfilled()
        for place, (slot, tries) in enumerate(waiting):
            done = len(self.slots) - len(waiting) + place
            self.context.report(
                done / len(self.slots), f"episode {done + 1} of {len(self.slots)}: {slot.name}"
            )
            self.fill(slot, tries)

    def fill(self, slot: Slot, tries: Sequence[int]) -> None:
        """Try until an episode is valid; those that were cut short are kept too, and counted apart."""
        for attempt in tries:
            episode = self.act(slot, attempt=attempt)
            self.commit(episode)
            if episode.manifest.valid_for.policy_eval:
                return
        log.warning("slot given up slot=%s tries=%d", slot.name, len(tries))

    def act(self, slot: Slot, *, attempt: int) -> Episode:
        """One episode with the policy, from the reset of the scene to the station's verdict."""
        spec = self.context.spec
        request = EpisodeRequest(
            episode_id=slot.episode_id(attempt),
            task_id=slot.task_id,
            max_steps=spec.steps,
            policy=PolicyRef(
                name="policy", version=self.checkpoint.id, digest=f"sha256:{self.checkpoint.sha256}"
            ),
            seed=slot.seed,
            metadata={
                ITERATION_KEY: slot.iteration_id,
                SLOT_KEY: slot.name,
                HELD_OUT_KEY: str(slot.held_out).lower(),
            },
        )
        env = StationEnv(self.client, self.client.create_episode(request))
        plan = RolloutPlan(
            chunks=spec.steps // self.policy.chunk, temperature=spec.collect.temperature, final_frames=1
        )
        generator = torch.Generator().manual_seed(slot.seed)
        rollout(self.policy, env, env.starts, plan=plan, generator=generator)
        self.client.finish(request.episode_id)
        return self.client.fetch_episode(request.episode_id)

    def commit(self, episode: Episode) -> None:
        """Store first, acknowledge after: the station forgets nothing that is not safe here."""
        manifest = episode.manifest
        provenance = episodes.Provenance(
            origin="collect",
            iteration_id=self.context.iteration_id,
            checkpoint_id=manifest.policy.version,
            held_out=manifest.metadata.get(HELD_OUT_KEY) == "true",
        )
        with self.context.database.write() as session:
            phase_runs.require_held(session, self.context.phase_run_id, fence=self.context.fence)
            episodes.commit(
                session, self.context.blobs, episode, provenance=provenance, now=self.context.now()
            )
        self.client.ack(episode)
        log.info(
            "episode committed episode=%s task=%s outcome=%s",
            manifest.episode_id,
            manifest.task_id,
            manifest.outcome,
        )
