"""Where the robots of a collect phase put their episodes, and where the phase sees how far it is.

Everything is written under the fence of the phase run. Safe to use from the robots' threads.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.orm import Session

from daemon.phases.context import PhaseContext
from daemon.phases.slots import HELD_OUT_KEY, ITERATION_KEY, MAX_TRIES, SLOT_KEY, Slot, is_filled, tries_left
from daemon.phases.todo import Todo, Wanted
from robot_bridge.episode import Episode, Manifest
from robot_bridge.events import LabelAnswer
from storage import episodes, labels, phase_runs, replay, station_hours
from storage.station_hours import Collecting
from storage.tables import EpisodeRow, IterationRow

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0  # while the disk is too full to keep another episode


class EpisodeSink:
    """Commits episodes and verdicts for one attempt at collecting, and reports its progress."""

    def __init__(self, context: PhaseContext) -> None:
        self.context = context
        self.slots: Sequence[Slot] = ()  # of this iteration, once the robots told which tasks they offer
        self.beside: str | None = None  # what is told beside every step of the progress
        self._telling = threading.Lock()
        self._pause = threading.Event()

    def wanted(self) -> list[Wanted]:
        """The slots without a valid episode, in order, each with the tries it has left (perhaps none)."""
        query = replay.EpisodeQuery(iteration_ids=(self.context.iteration_id,), valid_for_world_model=None)
        with self.context.database.read() as session:
            rows = replay.select(session, query)
            filled = {_slot_of(row) for row in rows if row.valid_for_policy_eval}
            valid = {row.id: row.valid_for_policy_eval for row in rows}
        return [
            Wanted(slot=slot, tries=tuple(tries_left(slot, valid)))
            for slot in self.slots
            if slot.name not in filled and not is_filled(slot, valid)
        ]

    def is_filled(self, slot: Slot) -> bool:
        """Whether one of the slot's own tries is stored and valid: the quick question about a single slot."""
        with self.context.database.read() as session:
            tried = [session.get(EpisodeRow, slot.episode_id(attempt)) for attempt in range(1, MAX_TRIES + 1)]
            return any(row is not None and row.valid_for_policy_eval for row in tried)

    def is_ours(self, manifest: Manifest) -> bool:
        """Whether an iteration of this store asked for the episode, and no other phase run looks after it."""
        iteration_id = manifest.metadata.get(ITERATION_KEY)
        if iteration_id is None or iteration_id in {other.iteration_id for other in self.others()}:
            return False
        with self.context.database.read() as session:
            return session.get(IterationRow, iteration_id) is not None

    def others(self) -> list[Collecting]:
        """Iterations of other lineages that collect now, in the order in which they began to."""
        with self.context.database.read() as session:
            found = station_hours.collecting(session)
        return [one for one in found if one.iteration_id != self.context.iteration_id]

    def ahead(self) -> list[Collecting]:
        """Those of the others that began before this phase run."""
        with self.context.database.read() as session:
            found = station_hours.collecting(session)
        own = [place for place, one in enumerate(found) if one.phase_run_id == self.context.phase_run_id]
        return found[: own[0]] if own else []

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that only the holder of the phase run gets.

        Raises:
            LeaseLost: another worker has it by now.
        """
        context = self.context
        with context.database.write() as session:
            phase_runs.require_held(session, context.phase_run_id, fence=context.fence)
            yield session

    def has(self, episode_id: str) -> bool:
        """Whether an episode is stored."""
        with self.context.database.read() as session:
            return session.get(EpisodeRow, episode_id) is not None

    def commit(self, episode: Episode) -> None:
        """Store an episode once; the same again changes nothing.

        Raises:
            LeaseLost: another worker has this phase run by now.
            StorageError: it cannot be kept.
        """
        manifest, context = episode.manifest, self.context
        provenance = episodes.Provenance(
            origin="collect",
            iteration_id=manifest.metadata.get(ITERATION_KEY, context.iteration_id),
            checkpoint_id=manifest.policy.version or None,
            held_out=manifest.metadata.get(HELD_OUT_KEY) == "true",
        )
        with self.writing() as session:
            _, new = episodes.commit(
                session, context.blobs, episode, provenance=provenance, now=context.now()
            )
        if new:
            log.info(
                "episode committed episode=%s task=%s outcome=%s",
                *(manifest.episode_id, manifest.task_id, manifest.outcome),
            )

    def add_labels(self, episode_id: str, given: Sequence[LabelAnswer]) -> int:
        """Keep the verdicts on a stored episode that are not here yet; how many were new."""
        with self.writing() as session:
            if session.get(EpisodeRow, episode_id) is None:
                return 0
            known = {(row.source, row.judge, row.labelled_at) for row in labels.history(session, episode_id)}
            new = [label for label in given if (label.source, label.judge, label.at) not in known]
            for label in new:
                labels.append(session, episode_id, _verdict(label), now=self.context.now())
        return len(new)

    def tell(self, todo: Todo, text: str) -> None:
        """Say how far all robots together are, and what this one does; wait here while the disk is too full.

        Raises:
            LeaseLost: another worker has this phase run by now.
        """
        with self._telling:
            while shortage := self.context.shortage():
                self.context.report(todo.share, shortage)
                self._pause.wait(LOOK_EVERY_S)
            self.context.report(todo.share, f"{text}; {self.beside}" if self.beside else text)


def holder_name(number: int) -> str:
    """As whom an iteration leases robots."""
    return f"iteration-{number}"


def slot_metadata(slot: Slot) -> dict[str, str]:
    """What an episode carries with it, so that it finds home from wherever it is left."""
    return {
        ITERATION_KEY: slot.iteration_id,
        SLOT_KEY: slot.name,
        HELD_OUT_KEY: str(slot.held_out).lower(),
    }


def _slot_of(row: EpisodeRow) -> str:
    return str(json.loads(row.manifest)["metadata"].get(SLOT_KEY, ""))


def _verdict(label: LabelAnswer) -> labels.Verdict:
    return labels.Verdict(
        success=label.success,
        source=label.source,
        at=label.at,
        judge=label.judge,
        answer=label.answer,
        confidence=label.confidence,
    )
