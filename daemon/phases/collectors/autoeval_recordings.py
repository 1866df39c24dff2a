"""What AutoEval published of a job, waited for and joined with what our gateway saw of it.

How two recordings become episodes is in `robot_bridge.autoeval.join`; here is how long the public one is
waited for, and what is made of a job that has none that can be used.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from daemon.phases.collectors.autoeval_link import AutoEvalLink
from robot_bridge.autoeval.attempt import Attempt
from robot_bridge.autoeval.errors import DatasetError, DatasetUnavailable, JoinMismatch
from robot_bridge.autoeval.join import Joined, JoinJob, join, unjoined
from robot_bridge.autoeval.runs import RunRef
from robot_bridge.autoeval.scheduler import JobRow
from storage.tables import AutoEvalJobRow

log = logging.getLogger(__name__)


class Recordings:
    """The published recordings of one robot's jobs. `tell` says what is waited for; it may raise."""

    def __init__(self, link: AutoEvalLink, robot: str, *, tell: Callable[[str], None]) -> None:
        self._settings, self._tell = link.settings, tell
        self._dataset = link.dataset(robot)
        self._task = link.task

    def leave_out_present(self) -> None:
        """Whatever is published by now is of other jobs.

        Raises:
            DatasetUnavailable: the hub cannot be read now.
        """
        self._dataset.leave_out_present()

    def joined(
        self,
        row: AutoEvalJobRow,
        attempts: Sequence[Attempt],
        *,
        listed: JobRow | None,
        at: datetime,
        stop: threading.Event,
    ) -> Joined | None:
        """Everything that both recordings tell together; None when `stop` came before they were there.

        A job that is never published, or not as AutoEval writes, gives episodes that nothing verifies.

        Args:
            listed: the job as AutoEval lists it, None when it forgot it.
            at: the date of episodes that only AutoEval saw.
        """
        job = JoinJob(
            job_id=row.id,
            task=self._task(row.task_id),
            station_id=row.station_id,
            max_steps=row.max_steps,
            success_rate=listed.success_rate if listed else None,
            hub_only_at=at,
        )
        run = self._published(row, expected=expected_of(row, attempts, listed=listed), stop=stop)
        if stop.is_set():
            return None
        if run is None:
            return unjoined(job, attempts)
        try:
            return join(job, attempts, self._dataset.stream(run))
        except (DatasetError, JoinMismatch) as unusable:
            log.warning("autoeval recordings cannot be used job=%s reason=%s", row.id, unusable)
            alone = unjoined(job, attempts)
            return replace(alone, reasons=(*alone.reasons, str(unusable)))

    def _published(self, row: AutoEvalJobRow, *, expected: int, stop: threading.Event) -> RunRef | None:
        """The run, as soon as all that is expected of it is there, or with what there is in the end."""
        deadline = time.monotonic() + self._settings.autoeval_join_wait_s
        run: RunRef | None = None
        while expected and not stop.is_set():
            count = 0
            try:
                run = self._dataset.find_run(row.description)
                count = len(self._dataset.indices(run)) if run else 0
            except DatasetUnavailable as unavailable:
                log.warning("autoeval dataset cannot be read job=%s reason=%s", row.id, unavailable)
            if count >= expected or time.monotonic() > deadline:
                return run
            self._tell(f"{row.task_id}: {count} of {expected} recordings are published")
            stop.wait(self._settings.autoeval_poll_s)
        return run


def expected_of(row: AutoEvalJobRow, attempts: Sequence[Attempt], *, listed: JobRow | None) -> int:
    """How many recordings are to come: one per episode of a whole job, else one per attempt that is whole."""
    if listed is not None and listed.status == "completed":
        return row.num_episodes
    return sum(attempt.steps >= row.max_steps for attempt in attempts)
