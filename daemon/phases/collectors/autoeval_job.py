"""One job at AutoEval, from its row to its last episode. Every step of it can be the first after a crash.

    planned -> submitting -> queued -> running -> draining -> joined | partial | failed | cancelled | lost

The row moves before the world does: a job that AutoEval may have is never forgotten, and submitting it again
finds it. Which slots a job is for is the collector's business.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from daemon.phases.collectors.autoeval_link import PORT_IN_ADDRESS, AutoEvalLink
from daemon.phases.collectors.autoeval_recordings import Recordings
from daemon.phases.human_wait import HumanWait
from daemon.phases.sink import EpisodeSink
from daemon.phases.slots import scene_seed
from daemon.phases.telling import Spell
from daemon.redaction import redactor_of
from daemon.scheduling.errors import HumanAwaited
from robot_bridge.autoeval.errors import (
    JobInvalid,
    JobRejected,
    RobotOffline,
    SchedulerUnreachable,
    UnknownJob,
)
from robot_bridge.autoeval.gateway import GatewayJob
from robot_bridge.autoeval.join import Joined
from robot_bridge.autoeval.scheduler import TERMINAL, JobRequest, JobRow
from robot_bridge.episode import Episode
from storage import autoeval_jobs
from storage.autoeval_jobs import GATEWAY_OPEN, JobFailure

log = logging.getLogger(__name__)

OUTAGE_S: Final = 900.0  # how long the scheduler may be silent before the phase gives up; the job goes on
ENDING_S: Final = 60.0  # how long a cancelled job may take to end
JITTER: Final = 0.25  # of the poll interval, so that installations do not ask in step
LOG_TAIL: Final = 600  # characters of AutoEval's log that say why a job failed
NEEDED: Final = "somebody at AutoEval must put the scene in order"
LOST: Final = "lost"
OVER: Final = (*TERMINAL, LOST)

Tell = Callable[[str], None]
Commit = Callable[[Sequence[Episode]], None]


class JobRun:
    """Sees one job through. `tell` says what it does, and raises when the phase run is lost."""

    def __init__(self, job_id: str, link: AutoEvalLink, sink: EpisodeSink, *, tell: Tell) -> None:
        self._link, self._sink, self._tell = link, sink, tell
        self._scheduler = link.scheduler()
        with sink.writing() as session:
            self._row = autoeval_jobs.adopt(session, job_id, phase_run_id=sink.context.phase_run_id)
        self._recordings = Recordings(link, self._row.robot, tell=tell)
        self._told = Spell(sink.context, begins="station_needs_human", ends="station_goes_on")
        self._human = HumanWait(self._row.robot, limit_s=link.settings.human_wait_s)
        self._nobody_came: HumanAwaited | None = None

    def see_through(self, commit: Commit, *, stop: threading.Event) -> None:
        """Go on from wherever the job is; once `stop` is set, it goes on without us.

        Args:
            commit: keeps the episodes; one that is kept already is not kept twice.

        Raises:
            JobRejected, JobInvalid, RobotOffline: AutoEval does not want it; the row says so.
            SchedulerError: AutoEval cannot be followed any further now; the row stays open.
            HumanAwaited: nobody came to the robot; the job is taken back, and what it recorded is kept.
            LeaseLost, StorageError: as the sink.
        """
        if self._row.state in GATEWAY_OPEN:
            policy = self._link.policies[str(self._row.checkpoint_id)]
            self._link.gateway.open(self._gateway_job(), policy)
        if self._row.state in {"planned", "submitting"}:
            self._submit(stop)
        if self._row.state in {"queued", "running"}:
            self._follow(stop)
        self._drain(commit, stop)
        if self._nobody_came is not None:
            raise self._nobody_came

    def abandon(self, commit: Commit, *, stop: threading.Event) -> None:
        """End a job that nobody waits for any more, and keep what there is of it."""
        if self._row.state in GATEWAY_OPEN:
            self._cancel()
            self._move("draining" if self._row.remote_job_id else "cancelled")
        self._drain(commit, stop)

    def _gateway_job(self) -> GatewayJob:
        row, seed = self._row, self._sink.context.spec.seed
        return GatewayJob(
            job_id=row.id,
            capability=str(row.capability),
            task_id=row.task_id,
            instruction=self._link.task(row.task_id).instruction,
            max_steps=row.max_steps,
            seed=scene_seed(seed, task=row.id, index=0),
            rotation=self._link.settings.autoeval_rotation,
        )

    def _submit(self, stop: threading.Event) -> None:
        """Put the job into AutoEval's queue, waiting for a robot that is switched off."""
        if self._row.state == "planned":
            self._recordings.leave_out_present()
            self._move("submitting")
        deadline = time.monotonic() + self._link.settings.autoeval_job_wait_s
        while not stop.is_set():
            try:
                self._move("queued", remote_job_id=self._scheduler.submit(self._request()))
                return
            except RobotOffline as offline:
                if time.monotonic() > deadline:
                    self._give_up(offline)
                    raise
                self._tell(f"waiting for {self._row.robot}: {offline}")
            except (JobRejected, JobInvalid) as refused:
                self._give_up(refused)
                raise
            self._wait(stop)

    def _request(self) -> JobRequest:
        row = self._row
        return JobRequest(
            description=row.description,
            robot=row.robot,
            task=row.task_id,
            policy_server_ip=self._link.policy_address(str(row.capability)),
            policy_server_port=PORT_IN_ADDRESS,
            num_episodes=row.num_episodes,
            max_steps=row.max_steps,
            submitter_id=self._link.submitter_id,
            policy_name="gymnastd",
        )

    def _follow(self, stop: threading.Event) -> None:
        """Look at the job until it is over. Time in which it waits for people counts apart from its own."""
        left_s = self._link.settings.autoeval_job_wait_s
        heard = time.monotonic()
        while not stop.is_set():
            began = time.monotonic()
            try:
                status, counts = self._look()
                heard = time.monotonic()
            except SchedulerUnreachable as silent:
                if time.monotonic() - heard > OUTAGE_S:
                    raise
                status, counts = "unheard of", True
                self._tell(f"{self._row.task_id}: {silent}")
            except HumanAwaited as awaited:
                self._nobody_came, left_s, status, counts = awaited, -1.0, "running", False
            if left_s < 0:
                log.warning("autoeval job takes too long job=%s", self._row.id)
                self._cancel()
            if status in OVER or left_s < 0:
                self._link.gateway.close(self._row.id)
                self._move("draining")
                return
            self._wait(stop)
            left_s -= (time.monotonic() - began) * counts

    def _look(self) -> tuple[str, bool]:
        """The job's status, LOST where AutoEval has forgotten it, and whether it is the job that is slow."""
        row = self._row
        try:
            status = self._scheduler.status(str(row.remote_job_id))
        except UnknownJob:
            return LOST, True
        if row.state == "queued" and self._link.gateway.begun(row.id):
            self._move("running")
        if status in TERMINAL or status == "queued":
            self._tell(f"{row.task_id} at {row.robot}: {status}")
            return status, True
        live = self._scheduler.live(self._link.task(row.task_id).robot_index)
        if live.waiting_for_human:
            self._tell(f"waiting for {row.robot}: {NEEDED}")
            self._told.on(station=row.robot, reason=NEEDED)
            self._human.goes_on(NEEDED)
        else:
            self._told.off(station=row.robot)
            self._human.is_over()
            self._tell(f"{row.task_id} at {row.robot}: episode {live.episode + 1} of {row.num_episodes}")
        return status, not live.waiting_for_human

    def _cancel(self) -> None:
        """Take the job back, as far as AutoEval has it; what it recorded stays published."""
        self._link.gateway.close(self._row.id)
        if self._row.remote_job_id is None:
            listed = self._scheduler.find(self._row.description)
            if listed is None:
                return
            self._move("queued", remote_job_id=listed.job_id)
        try:
            self._scheduler.cancel(str(self._row.remote_job_id), self._link.submitter_id)
        except UnknownJob:
            log.warning("autoeval does not know the job any more job=%s", self._row.id)

    def _drain(self, commit: Commit, stop: threading.Event) -> None:
        """Of a job that is over: wait for the recordings, join them, keep all of it, and close the row."""
        if self._row.state != "draining":
            return
        listed = self._listed(stop)
        attempts = self._link.gateway.attempts(self._row.id)
        now = self._sink.context.now()
        joined = self._recordings.joined(self._row, attempts, listed=listed, at=now, stop=stop)
        if joined is not None:
            commit(joined.episodes)
            self._end(listed, joined)
            self._link.gateway.forget(self._row.id)

    def _listed(self, stop: threading.Event) -> JobRow | None:
        """The job as AutoEval lists it now that it is over; None when it is not there any more."""
        deadline = time.monotonic() + ENDING_S
        while True:
            try:
                row = self._scheduler.row(str(self._row.remote_job_id))
            except UnknownJob:
                return None
            if row.is_over or time.monotonic() > deadline or stop.is_set():
                return row
            self._tell(f"{self._row.task_id}: the job comes to its end")
            self._wait(stop)

    def _end(self, listed: JobRow | None, joined: Joined) -> None:
        """Close the row with what AutoEval and the join say."""
        if listed is not None and listed.status == "completed":
            with self._sink.writing() as session:
                self._row = autoeval_jobs.record_join(
                    session,
                    self._row.id,
                    state=joined.state,
                    success_rate=joined.success_rate,
                    checks=joined.checks,
                    now=self._sink.context.now(),
                )
            log.info("autoeval job ended job=%s state=%s", self._row.id, self._row.state)
        elif listed is None:
            failure = JobFailure(code="autoeval_unknown_job", message="AutoEval lists the job no more")
            self._move(LOST, failure=failure)
        else:
            new = "failed" if listed.status == "failed" else "cancelled"
            output = self._scheduler.output(listed.job_id)[-LOG_TAIL:].strip()
            self._move(new, failure=JobFailure(code=f"autoeval_job_{new}", message=output or "no log"))

    def _give_up(self, error: RobotOffline | JobRejected | JobInvalid) -> None:
        self._link.gateway.close(self._row.id)
        self._move("failed", failure=JobFailure(code=error.code, message=str(error)))

    def _move(self, new: str, *, remote_job_id: str | None = None, failure: JobFailure | None = None) -> None:
        if failure is not None:  # AutoEval's log may say how it called us
            failure = replace(failure, message=redactor_of(self._link.settings).clean(failure.message))
        with self._sink.writing() as session:
            self._row = autoeval_jobs.move(
                session,
                self._row.id,
                new,
                now=self._sink.context.now(),
                remote_job_id=remote_job_id,
                failure=failure,
            )
        log.info("autoeval job moved job=%s state=%s", self._row.id, new)

    def _wait(self, stop: threading.Event) -> None:
        stop.wait(self._link.settings.autoeval_poll_s * random.uniform(1 - JITTER, 1 + JITTER))
