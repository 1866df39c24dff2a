"""One of AutoEval's robots as a collector: slots of one task become a job, its episodes fill them.

AutoEval decides on the scenes, so a slot's seed means nothing there; what a slot keeps is its place in the
iteration and whether it is held out. A job that an earlier attempt at the phase submitted goes on; one of an
iteration that is over is taken back.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from uuid import UUID, uuid5

from daemon.learning.policy.contract import ActionContract
from daemon.phases.arms import Arms, require_contract
from daemon.phases.collectors.autoeval_job import JobRun, Tell
from daemon.phases.collectors.autoeval_link import AutoEvalLink
from daemon.phases.robot_time import RobotTime
from daemon.phases.sink import EpisodeSink, slot_metadata
from daemon.phases.slots import CHAMPION, ITERATION_KEY, MAX_TRIES, Slot
from daemon.phases.todo import Todo, Wanted
from robot_bridge.autoeval.scheduler import RobotStatus, description_of
from robot_bridge.autoeval.tasks import EPISODES_MAX, TASKS
from robot_bridge.episode import Episode
from storage import autoeval_jobs, iterations
from storage.autoeval_jobs import JobPlan
from storage.tables import AutoEvalJobRow

log = logging.getLogger(__name__)


class AutoEvalCollector:
    """One robot behind AutoEval's scheduler. Obeys `Collector`.

    Raises:
        ContractMismatch: one of the policies is not of Bridge V2, which AutoEval's gateway speaks.
    """

    def __init__(self, robot: RobotStatus, link: AutoEvalLink, sink: EpisodeSink, *, arms: Arms) -> None:
        self._robot, self._link, self._sink, self._arms = robot, link, sink, arms
        require_contract(arms, ActionContract(), station=self.name)

    @property
    def name(self) -> str:
        return f"autoeval-{self._robot.robot}"

    @property
    def offers(self) -> Mapping[str, str]:
        return {task.task_id: task.instruction for task in TASKS if task.robot == self._robot.robot}

    @property
    def facts(self) -> Mapping[str, object]:
        settings = self._link.settings
        return {
            "station_id": self.name,
            "robot_model": "widowx",
            "mode": "autoeval",
            "scheduler": settings.autoeval_url,
            "dataset": settings.autoeval_dataset,
            "rotation": settings.autoeval_rotation,
            "online": self._robot.is_online,
            "message": self._robot.message,
        }

    def take_home(self) -> None:
        """End the jobs that nobody waits for; those of this iteration's policies go on in `collect`."""
        acting = {arm.row.id for arm in self._arms.every}
        for row in self._open_jobs():
            with self._sink.context.database.read() as session:
                iteration = iterations.get(session, row.iteration_id)
            own = row.iteration_id == self._sink.context.iteration_id
            if iteration.state not in iterations.UNFINISHED or (own and row.checkpoint_id not in acting):
                log.warning("autoeval job that nobody waits for is taken back job=%s", row.id)
                self._job(row.id, self._quietly).abandon(
                    _Filler(self._sink, row, ()).keep, stop=threading.Event()
                )

    def collect(self, todo: Todo, *, stop: threading.Event) -> None:
        for row in self._open_jobs():
            if row.iteration_id == self._sink.context.iteration_id:
                arm = self._arms.version(str(row.checkpoint_id)).name
                taken = todo.take_task({row.task_id}, at_most=row.num_episodes, arm=arm)
                self._fill(row, taken, todo, stop=stop)
        time = RobotTime(self._sink, self.name)
        while time.wait(todo, self.offers, stop=stop):
            taken = todo.take_task(self.offers, at_most=time.room(EPISODES_MAX))
            if not taken:
                return
            number = self._next_number(taken[0].slot)
            if number > MAX_TRIES:
                self._give_up(taken, todo)
            else:
                self._fill(self._planned(taken, number), taken, todo, stop=stop)

    def _fill(
        self, row: AutoEvalJobRow, taken: Sequence[Wanted], todo: Todo, *, stop: threading.Event
    ) -> None:
        """Let a job fill these slots; what it leaves open is put back for the next one."""
        filler = _Filler(self._sink, row, [wanted.slot for wanted in taken])
        try:
            self._job(row.id, lambda text: self._sink.tell(todo, text)).see_through(filler.keep, stop=stop)
        finally:
            for wanted in reversed(taken):
                if wanted.slot in filler.open:
                    todo.put_back(wanted)
                else:
                    todo.settle()

    def _job(self, job_id: str, tell: Tell) -> JobRun:
        return JobRun(job_id, self._link, self._sink, tell=tell)

    def _planned(self, taken: Sequence[Wanted], number: int) -> AutoEvalJobRow:
        """The row of a new job, there before anything is sent."""
        slot, context = taken[0].slot, self._sink.context
        policy = self._arms.named(slot.arm).ref
        name = f"autoeval/{slot.task_id}/{number}" + ("" if slot.arm == CHAMPION else f"/{slot.arm}")
        job_id = str(uuid5(UUID(slot.iteration_id), name))
        job = JobPlan(
            id=job_id,
            iteration_id=slot.iteration_id,
            phase_run_id=context.phase_run_id,
            station_id=self.name,
            task_id=slot.task_id,
            checkpoint_id=policy.version,
            description=description_of(job_id, policy.digest),
            robot=self._robot.robot,
            num_episodes=len(taken),
            max_steps=context.spec.steps,
            capability=secrets.token_urlsafe(16),
            gateway_folder=job_id,
        )
        with self._sink.writing() as session:
            return autoeval_jobs.plan(session, job, now=context.now())

    def _open_jobs(self) -> list[AutoEvalJobRow]:
        with self._sink.context.database.read() as session:
            return [row for row in autoeval_jobs.open_jobs(session) if row.station_id == self.name]

    def _next_number(self, slot: Slot) -> int:
        policy = self._arms.named(slot.arm).row.id
        with self._sink.context.database.read() as session:
            rows = autoeval_jobs.of_iteration(session, self._sink.context.iteration_id)
        return 1 + sum((row.task_id, row.checkpoint_id) == (slot.task_id, policy) for row in rows)

    def _give_up(self, taken: Sequence[Wanted], todo: Todo) -> None:
        for wanted in taken:
            log.warning("slot given up slot=%s jobs=%d", wanted.slot.name, MAX_TRIES)
            todo.settle()

    def _quietly(self, text: str) -> None:
        self._sink.context.report(0.0, text)


class _Filler:
    """Keeps the episodes of one job; each that counts for the policy fills the next open slot."""

    def __init__(self, sink: EpisodeSink, row: AutoEvalJobRow, slots: Sequence[Slot]) -> None:
        self._sink, self._row = sink, row
        self.open = list(slots)

    def keep(self, episodes: Sequence[Episode]) -> None:
        """Commit what is not here yet, in order; after a crash it goes on where it stopped."""
        for episode in episodes:
            if not self._sink.has(episode.manifest.episode_id):
                self._sink.commit(self._placed(episode))

    def _placed(self, episode: Episode) -> Episode:
        """The same recording, with where it belongs."""
        manifest = episode.manifest
        place = {ITERATION_KEY: self._row.iteration_id}
        if manifest.valid_for.policy_eval and self.open:
            place = slot_metadata(self.open.pop(0))
        placed = manifest.model_copy(update={"metadata": {**manifest.metadata, **place}})
        return Episode(manifest=placed, steps=episode.steps, frames=episode.frames)
