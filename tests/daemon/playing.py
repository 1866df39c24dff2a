"""Judged episodes of one policy, brought in round after round: what success is counted and watched in."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from storage import checkpoints, episodes, iterations, trials
from storage.blobs import BlobStore
from storage.db import Database
from tests.daemon.conftest import build_episode


@dataclass(slots=True, kw_only=True)
class Players:
    """Brings in episodes; every episode begins a minute after the one before it, from `now` on."""

    database: Database
    blobs: BlobStore
    folder: Path
    now: datetime
    policy: str = ""
    rounds: int = 0
    number: int = 0

    def play(self, *rounds: str, promoted: bool = False, early: tuple[int, ...] = ()) -> str:
        """One iteration for each string of + and -, all with the first call's policy, whose id this is.

        Args:
            promoted: the first round was the trial that chose the policy.
            early: rounds whose episodes may end early.
        """
        with self.database.write() as session:
            if not self.policy:
                (self.folder / "policy").write_text("policy")
                new = checkpoints.NewCheckpoint(kind="policy", spec_digest="5" * 64)
                made = checkpoints.save(session, self.blobs, new, file=self.folder / "policy", now=self.now)
                self.policy = made.id
            for turn, outcomes in enumerate(rounds):
                self.rounds += 1
                spec = {"seed": self.rounds, **({"stop_on_success": True} if turn in early else {})}
                row, _ = iterations.request_iteration(session, spec=spec, idempotency_key=None, now=self.now)
                iterations.cancel(session, row.id, now=self.now)
                if promoted and turn == 0:
                    self._promote(session, row.id)
                for outcome in outcomes:
                    self._commit(session, row.id, success=outcome == "+")
        return self.policy

    def _promote(self, session: Session, iteration_id: str) -> None:
        trial = trials.NewTrial(
            iteration_id=iteration_id,
            champion_id=self.policy,
            candidate_id=self.policy,
            decision="promoted",
            evidence={},
        )
        trials.save(session, trial, now=self.now)

    def _commit(self, session: Session, iteration_id: str, *, success: bool) -> None:
        self.number += 1
        built = build_episode(self.number, success=success)
        begun = self.now + timedelta(minutes=self.number)
        manifest = built.manifest.model_copy(update={"started_at": begun, "ended_at": begun})
        origin = episodes.Provenance(origin="collect", iteration_id=iteration_id, checkpoint_id=self.policy)
        episodes.commit(
            session, self.blobs, replace(built, manifest=manifest), provenance=origin, now=self.now
        )
