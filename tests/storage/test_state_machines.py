"""A model check: two workers, the reaper, people and crashes, in every order that hypothesis finds.

Time is a number that only grows. A worker that crashed sends no heartbeat any more, and one that its machine
held up for a while comes back with its old fence. After every step the invariants are looked at, and at the
end of every run it is shown that the iterations can still come to their end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from daemon.iteration import advance
from daemon.spec import phases_of
from storage import iterations, phase_runs, steering
from storage.claims import ClaimedRun
from storage.db import Database
from storage.errors import IllegalMove, LeaseLost
from storage.phase_runs import PHASES
from storage.states import ITERATION_MOVES, OVER, PHASE_RUN_MOVES
from storage.tables import IterationRow, LeaseRow, PhaseRunRow

TTL_S = 10.0
WORKERS = ("ann", "bob")
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
STEPS_TO_THE_END = 200

names = st.sampled_from(WORKERS)
numbers = st.sampled_from((0, 0, 0, 1, 2))  # the one whose turn it is gets most of it
LINEAGES = (("main", "main", "main"), ("main", "main", "side"), ("main", "side", "main"))
acts = st.sampled_from(
    (*[steering.pause] * 3, *[steering.resume] * 2, steering.cancel, *[steering.retry] * 2)
)


class Steering(RuleBasedStateMachine):
    """Three iterations in one or two lineages, two workers with claims that may be stale, everybody else."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGINNING
        self.claims: list[ClaimedRun] = []
        self.fences: dict[str, int] = {}
        self.expires: dict[str, datetime] = {}
        self.states: dict[str, str] = {}
        with self.database.write() as session:
            for table in reversed(IterationRow.metadata.sorted_tables):
                if table.name in {"iterations", "phase_runs", "leases"}:
                    session.execute(table.delete())

    @initialize(
        chosen=st.sampled_from([None, ["collect"], ["finetune_world_model", "update_policy"]]),
        named=st.sampled_from(LINEAGES),
    )
    def ask(self, chosen: list[str] | None, named: tuple[str, ...]) -> None:
        self.ids = []
        with self.database.write() as session:
            for number, name in enumerate(named):
                spec = {"seed": number, "lineage": name, **({"phases": chosen} if chosen and number else {})}
                row, _ = iterations.request_iteration(session, spec=spec, idempotency_key=None, now=self.now)
                self.ids.append(row.id)
        self.the_daemon_advances()
        self.a_worker_claims("ann")

    @rule(seconds=st.sampled_from((1.0, 4.0, TTL_S, 60.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def the_daemon_advances(self) -> None:
        with self.database.write() as session:
            advance(session, now=self.now)

    @rule()
    def the_reaper_looks(self) -> None:
        with self.database.write() as session:
            phase_runs.abandon_expired(session, now=self.now)

    @rule(name=names)
    def a_worker_claims(self, name: str) -> None:
        with self.database.write() as session:
            claimed = phase_runs.claim(session, name, ttl_s=TTL_S, now=self.now)
        if claimed is None:
            return
        lease = phase_runs.lease_name(claimed.iteration_id, claimed.phase)
        assert claimed.fence > self.fences.get(lease, 0), "a fence was given twice"
        self.fences[lease] = claimed.fence
        self.expires[claimed.phase_run_id] = self.now + timedelta(seconds=TTL_S)
        with self.database.read() as session:
            row = iterations.get(session, claimed.iteration_id)
        assert (row.state in {"requested", "running"}, row.wish) == (True, None), "nobody wanted this done"
        self.claims.append(claimed)

    @precondition(lambda self: bool(self.claims))
    @rule(back=st.sampled_from((0, 0, 0, 1, 2)), retry=st.booleans(), what=st.sampled_from("bbwwrff!!"))
    def a_worker_says(self, back: int, retry: bool, what: str) -> None:
        """With its last claim or an older one: b(eats), w(rites), r(eleases), f(inishes) or fails (!)."""
        claimed = self.claims[-1 - min(back, len(self.claims) - 1)]
        says: dict[str, Callable[[Any], object]] = {
            "b": lambda session: phase_runs.heartbeat(session, claimed, progress=0.5, text="", now=self.now),
            "w": lambda session: phase_runs.require_held(session, claimed.phase_run_id, fence=claimed.fence),
            "r": lambda session: phase_runs.release(session, claimed, now=self.now),
            "f": lambda session: phase_runs.finish(session, claimed, outcome={}, now=self.now),
            "!": lambda session: phase_runs.fail(
                session, claimed, error_code="rain", message="it rains", retry=retry, now=self.now
            ),
        }
        may = self.holds(claimed)
        try:
            with self.database.write() as session:
                says[what](session)
        except LeaseLost:
            assert not may, "a holder was refused"
        else:
            assert may, "a stale fence wrote"
            if what == "b":
                self.expires[claimed.phase_run_id] = self.now + timedelta(seconds=TTL_S)
            elif what != "w":
                self.a_worker_claims("bob")  # as a worker does that is done with a run

    @rule(act=acts, which=numbers)
    def somebody_steers(self, act: Callable[..., object], which: int) -> None:
        with self.database.write() as session:
            try:
                act(session, self.ids[which], now=self.now)
            except IllegalMove:
                session.rollback()

    @rule(which=numbers, phase=st.sampled_from(PHASES))
    def somebody_skips(self, which: int, phase: str) -> None:
        with self.database.write() as session:
            try:
                steering.skip(session, self.ids[which], phase=phase, now=self.now)
            except IllegalMove:
                session.rollback()

    def holds(self, claimed: ClaimedRun) -> bool:
        """Whether this claim is the one that counts, by the rows alone."""
        with self.database.read() as session:
            query = sa.select(PhaseRunRow.state, PhaseRunRow.fence)
            state, fence = session.execute(query.where(PhaseRunRow.id == claimed.phase_run_id)).one()
        return bool(state == "running" and fence == claimed.fence)

    @invariant()
    def rows_are_as_they_may_be(self) -> None:
        with self.database.read() as session:
            rows = session.execute(sa.select(*IterationRow.__table__.columns)).all()
            runs = session.execute(sa.select(*PhaseRunRow.__table__.columns)).all()
            leases = {row.name: row for row in session.execute(sa.select(*LeaseRow.__table__.columns))}
        self.every_move_was_legal(rows, runs)
        for run in runs:
            if run.error_code in {phase_runs.LEASE_EXPIRED, phase_runs.ATTEMPTS_EXHAUSTED}:
                assert run.finished_at >= self.expires[run.id], "a run was taken from one who was in time"
        begun = [row.lineage for row in rows if row.state not in OVER and row.started_at is not None]
        assert len(begun) == len(set(begun)), "two iterations of a lineage at a time"
        for row in rows:
            own = [run for run in runs if run.iteration_id == row.id]
            running = [run for run in own if run.state == "running"]
            assert len(running) <= 1, "two running phase runs"
            if row.state != "running":
                assert not running, f"a phase runs while its iteration is {row.state}"
            if row.state in OVER:
                assert all(run.state not in {"queued", "running"} for run in own), "a run nobody looks after"
                assert row.finished_at is not None
            for phase in PHASES:
                lease = leases.get(phase_runs.lease_name(row.id, phase))
                holders = [run for run in running if run.phase == phase]
                held = lease is not None and lease.holder is not None
                assert held == bool(holders), "a lease without a run, or a run without a lease"
                assert not holders or (lease is not None and holders[0].fence == lease.fence)
                open_runs = [run for run in own if run.phase == phase and run.state in {"queued", "running"}]
                assert len(open_runs) <= 1, "two attempts at once"

    def every_move_was_legal(self, rows: Any, runs: Any) -> None:
        """Between two looks a row may have moved more than once, but only along its machine."""
        for row, moves in [*((r, ITERATION_MOVES) for r in rows), *((r, PHASE_RUN_MOVES) for r in runs)]:
            before = self.states.get(row.id)
            assert before is None or row.state in reachable(moves, before), (before, row.state)
            self.states[row.id] = row.state

    def teardown(self) -> None:
        """From wherever it is, everything can come to an end: time passes, a worker works, pauses end."""
        if not hasattr(self, "ids"):
            return
        for _ in range(STEPS_TO_THE_END):
            self.now += timedelta(seconds=TTL_S + 1)
            with self.database.write() as session:
                for id_ in self.ids:
                    if iterations.get(session, id_).state not in OVER:
                        steering.resume(session, id_, now=self.now)
                while advance(session, now=self.now) is not None:
                    pass
                self.no_lineage_waits_for_another(session)
                claimed = phase_runs.claim(session, "last", ttl_s=TTL_S, now=self.now)
                if claimed is not None:
                    phase_runs.finish(session, claimed, outcome={}, now=self.now)
            self.rows_are_as_they_may_be()
            if self.all_over():
                return
        raise AssertionError("an iteration came to no end")

    def no_lineage_waits_for_another(self, session: Any) -> None:
        """Once nothing is paused and the daemon did what it can, each unfinished lineage has work out."""
        rows = [iterations.get(session, id_) for id_ in self.ids]
        unfinished = {row.lineage for row in rows if row.state not in OVER}
        at_work = {
            row.lineage
            for row in rows
            if any(run.state in {"queued", "running"} for run in phase_runs.of_iteration(session, row.id))
        }
        assert at_work == unfinished, "a lineage waits for another"

    def all_over(self) -> bool:
        with self.database.read() as session:
            for id_ in self.ids:
                row = iterations.get(session, id_)
                if row.state not in OVER:
                    return False
                if row.state == "finished":
                    newest = [phase_runs.latest(session, id_, phase=phase) for phase in phases_of(row.spec)]
                    assert all(run is not None and run.state in {"finished", "skipped"} for run in newest)
        return True


def reachable(moves: Any, state: str) -> set[str]:
    found, frontier = {state}, [state]
    while frontier:
        new = set(moves[frontier.pop()]) - found
        found |= new
        frontier += new
    return found


@pytest.fixture(scope="module")
def quick_database(_sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A SQLite file that is not flushed to disk at every commit: nothing here outlives the machine."""
    file = tmp_path_factory.mktemp("machines") / "gymnastd.sqlite3"
    shutil.copyfile(_sqlite_template, file)
    database = Database(f"sqlite:///{file}")
    sa.event.listen(database.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF"))
    yield database
    database.dispose()


@pytest.mark.slow
def test_no_order_of_workers_reaper_people_and_crashes_breaks_the_machines(quick_database: Database) -> None:
    machine = type("SteeringHere", (Steering,), {"database": quick_database})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
