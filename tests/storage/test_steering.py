"""Steering: what people may do to an iteration, from every state, once or twice, beside a worker."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from storage import iterations, phase_runs, steering
from storage.claims import ClaimedRun
from storage.db import Database
from storage.errors import IllegalMove, LeaseLost, RowMissing, UnknownPhase
from storage.phase_runs import MAX_ATTEMPTS, PHASES
from storage.states import move
from storage.tables import IterationRow, PhaseRunRow
from tests.waiting import until

TTL_S = 30.0


class Steered:
    """One iteration and a worker for it."""

    def __init__(self, database: Database, row: IterationRow, now: datetime) -> None:
        self.database, self.id, self.now = database, row.id, now

    def do(self, act: Callable, **arguments: object) -> IterationRow:
        with self.database.write() as session:
            act(session, self.id, now=self.now, **arguments)
        return self.row

    def skip(self, phase: str = "collect") -> PhaseRunRow:
        with self.database.write() as session:
            return steering.skip(session, self.id, phase=phase, now=self.now)

    @property
    def row(self) -> IterationRow:
        with self.database.read() as session:
            return iterations.get(session, self.id)

    @property
    def runs(self) -> list[tuple[str, int, str]]:
        with self.database.read() as session:
            found = phase_runs.of_iteration(session, self.id)
        return [(run.phase, run.attempt, run.state) for run in found]

    def begin(self, phase: str = "collect") -> None:
        with self.database.write() as session:
            row = iterations.get(session, self.id)
            if row.state == "requested":
                move(row, "running", now=self.now)
            phase_runs.queue(session, row, phase=phase, now=self.now)

    def claim(self) -> ClaimedRun | None:
        with self.database.write() as session:
            return phase_runs.claim(session, "worker-1", ttl_s=TTL_S, now=self.now)

    def claimed(self) -> ClaimedRun:
        found = self.claim()
        assert found is not None
        return found

    def heartbeat(self, claimed: ClaimedRun) -> bool:
        with self.database.write() as session:
            return phase_runs.heartbeat(session, claimed, progress=0.5, text="half", now=self.now)

    def give_back(self, claimed: ClaimedRun) -> None:
        with self.database.write() as session:
            phase_runs.release(session, claimed, now=self.now, why="the iteration is to be paused")

    def fail(self, claimed: ClaimedRun, *, retry: bool) -> None:
        with self.database.write() as session:
            phase_runs.fail(
                session, claimed, error_code="rain", message="it rains", retry=retry, now=self.now
            )

    def fail_for_good(self) -> None:
        """The collect phase fails, and its iteration with it."""
        self.begin()
        self.fail(self.claimed(), retry=False)
        with self.database.write() as session:
            row = iterations.get(session, self.id)
            iterations.fail(session, row, error_code="rain", message="it rains", now=self.now)

    def bring_to(self, state: str) -> None:
        if state == "failed":
            self.fail_for_good()
        elif state == "paused":
            self.do(steering.pause)
        elif state == "cancelled":
            self.do(steering.cancel)
        elif state != "requested":
            self.begin()
            if state == "finished":
                with self.database.write() as session:
                    move(iterations.get(session, self.id), "finished", now=self.now)


@pytest.fixture
def steered(database: Database, an_iteration: Callable, now: datetime) -> Steered:
    return Steered(database, an_iteration(), now)


ACTS = {
    "pause": steering.pause,
    "resume": steering.resume,
    "cancel": steering.cancel,
    "retry": steering.retry,
}
BECOMES = {  # by act and state; what is missing is refused
    "pause": {"requested": "paused", "running": "paused", "paused": "paused"},
    "resume": {"requested": "requested", "running": "running", "paused": "requested"},
    "cancel": {
        "requested": "cancelled",
        "running": "cancelled",
        "paused": "cancelled",
        "cancelled": "cancelled",
    },
    "retry": {"failed": "requested"},
}
STATES = ("requested", "running", "paused", "finished", "failed", "cancelled")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("act", ACTS)
def test_an_act_does_what_the_state_allows_or_refuses_and_changes_nothing(
    steered: Steered, act: str, state: str
) -> None:
    steered.bring_to(state)
    before = steered.runs
    if state in BECOMES[act]:
        assert steered.do(ACTS[act]).state == BECOMES[act][state]
        return
    with pytest.raises(IllegalMove, match=f"from {state}"):
        steered.do(ACTS[act])
    assert (steered.row.state, steered.runs) == (state, before)


@pytest.mark.parametrize("act", ["pause", "resume", "cancel"])
def test_an_act_that_is_repeated_changes_nothing_more(steered: Steered, act: str) -> None:
    steered.begin()
    steered.claimed()
    once, runs = steered.do(ACTS[act]), steered.runs
    again = steered.do(ACTS[act])
    assert (again.state, again.wish, steered.runs) == (once.state, once.wish, runs)


@pytest.mark.parametrize("act", [*ACTS.values()])
def test_what_is_not_there_cannot_be_steered(database: Database, now: datetime, act: Callable) -> None:
    with pytest.raises(RowMissing), database.write() as session:
        act(session, "nobody", now=now)


def test_a_queued_run_of_a_paused_iteration_waits_until_it_is_resumed(steered: Steered) -> None:
    steered.begin()
    assert steered.do(steering.pause).state == "paused"
    assert steered.claim() is None
    assert steered.runs == [("collect", 1, "queued")]
    assert steered.do(steering.resume).state == "running"
    assert steered.claimed().attempt == 1


def test_a_running_phase_is_asked_to_stop_and_keeps_its_lease_until_it_does(steered: Steered) -> None:
    steered.begin()
    claimed = steered.claimed()
    assert steered.heartbeat(claimed) is False
    row = steered.do(steering.pause)
    assert (row.state, row.wish) == ("running", "pause")
    assert steered.heartbeat(claimed) is True
    steered.give_back(claimed)
    assert steered.runs == [("collect", 1, "abandoned"), ("collect", 2, "queued")]
    assert steered.claim() is None, "nobody takes it up again before it is resumed"


def test_a_pause_that_is_taken_back_in_time_stops_nothing(steered: Steered) -> None:
    steered.begin()
    claimed = steered.claimed()
    steered.do(steering.pause)
    assert steered.do(steering.resume).wish is None
    assert steered.heartbeat(claimed) is False


def test_pausing_does_not_use_up_attempts(steered: Steered) -> None:
    steered.begin()
    for _ in range(MAX_ATTEMPTS + 1):
        claimed = steered.claimed()
        steered.do(steering.pause)
        steered.give_back(claimed)
        steered.do(steering.pause)
        steered.do(steering.resume)
    steered.fail(steered.claimed(), retry=True)
    assert steered.runs[-1] == ("collect", MAX_ATTEMPTS + 3, "queued")


def test_cancelling_takes_the_lease_of_the_running_phase(steered: Steered) -> None:
    steered.begin()
    claimed = steered.claimed()
    steered.do(steering.pause)
    assert steered.do(steering.cancel).wish is None
    with pytest.raises(LeaseLost):
        steered.heartbeat(claimed)
    assert steered.runs == [("collect", 1, "abandoned")]


def test_a_retry_gives_the_failed_phase_all_its_attempts_again(steered: Steered) -> None:
    steered.fail_for_good()
    row = steered.do(steering.retry)
    assert (row.state, row.error_code, row.error_message) == ("requested", None, None)
    assert (row.started_at, row.finished_at) == (None, None)
    steered.begin()
    for _ in range(MAX_ATTEMPTS):
        steered.fail(steered.claimed(), retry=True)
    assert steered.claim() is None
    assert [attempt for _, attempt, _ in steered.runs] == list(range(1, MAX_ATTEMPTS + 2))


def test_a_retry_forgives_failures_and_repeats_nothing_that_finished(steered: Steered) -> None:
    steered.begin()
    with steered.database.write() as session:
        phase_runs.finish(session, steered_claim(session, steered), outcome={}, now=steered.now)
    steered.begin("finetune_world_model")
    steered.fail(steered.claimed(), retry=False)
    with steered.database.write() as session:
        row = iterations.get(session, steered.id)
        iterations.fail(session, row, error_code="rain", message="it rains", now=steered.now)
    steered.do(steering.retry)
    with steered.database.read() as session:
        found = phase_runs.of_iteration(session, steered.id)
    assert [(run.state, run.forgiven) for run in found] == [("finished", False), ("failed", True)]


def steered_claim(session, steered: Steered) -> ClaimedRun:
    claimed = phase_runs.claim(session, "worker-1", ttl_s=TTL_S, now=steered.now)
    assert claimed is not None
    return claimed


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_that_was_not_reached_is_skipped_in_advance(steered: Steered, phase: str) -> None:
    run = steered.skip(phase)
    assert (run.state, run.attempt, run.finished_at) == ("skipped", 1, steered.now)
    assert steered.row.state == "requested"


def test_a_queued_phase_is_skipped_where_it_stands(steered: Steered) -> None:
    steered.begin()
    assert steered.skip().attempt == 1
    assert steered.claim() is None


def test_a_running_phase_that_is_skipped_loses_its_lease(steered: Steered) -> None:
    steered.begin()
    claimed = steered.claimed()
    steered.skip()
    with pytest.raises(LeaseLost):
        steered.heartbeat(claimed)
    with pytest.raises(LeaseLost):
        steered.fail(claimed, retry=True)
    assert steered.runs == [("collect", 1, "skipped")]


def test_a_failed_iteration_goes_on_without_the_phase_that_failed(steered: Steered) -> None:
    steered.fail_for_good()
    steered.skip("update_policy")
    assert steered.row.state == "failed", "what failed is still there"
    steered.skip("collect")
    row = steered.row
    assert (row.state, row.error_code) == ("requested", None)
    assert steered.runs[:2] == [("collect", 1, "failed"), ("collect", 2, "skipped")]


def test_a_skip_that_is_repeated_finds_the_first(steered: Steered) -> None:
    assert steered.skip().id == steered.skip().id


def test_a_finished_phase_is_not_skipped(steered: Steered) -> None:
    steered.begin()
    with steered.database.write() as session:
        phase_runs.finish(session, steered_claim(session, steered), outcome={}, now=steered.now)
    with pytest.raises(IllegalMove, match="finished to skipped"):
        steered.skip()


@pytest.mark.parametrize("state", ["finished", "cancelled"])
def test_nothing_is_skipped_in_an_iteration_that_is_over(steered: Steered, state: str) -> None:
    steered.bring_to(state)
    with pytest.raises(IllegalMove):
        steered.skip("update_policy")


def test_only_phases_that_there_are_can_be_skipped(steered: Steered) -> None:
    with pytest.raises(UnknownPhase):
        steered.skip("rest")


ENDS: dict[str, Callable] = {
    "cancel": lambda session, id_, now: iterations.cancel(session, id_, now=now),
    "skip": lambda session, id_, now: steering.skip(session, id_, phase="collect", now=now),
    "pause": lambda session, id_, now: steering.pause(session, id_, now=now),
}


def waiting_for_a_lock(database: Database) -> bool:
    with database.read() as session:
        return bool(session.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


@pytest.mark.parametrize("act", ENDS)
def test_an_attempt_that_fails_at_the_same_moment_leaves_no_run_that_nobody_looks_after(
    steered: Steered, act: str
) -> None:
    """The worker's transaction adds the next attempt while the act waits for it."""
    steered.begin()
    claimed, failing, go_on = steered.claimed(), threading.Event(), threading.Event()

    def fail() -> None:
        with steered.database.write() as session:
            phase_runs.fail(
                session, claimed, error_code="rain", message="it rains", retry=True, now=steered.now
            )
            failing.set()
            assert go_on.wait(20)

    def end() -> None:
        with steered.database.write() as session:
            ENDS[act](session, steered.id, steered.now)

    with ThreadPoolExecutor(2) as pool:
        worker = pool.submit(fail)
        assert failing.wait(20)
        person = pool.submit(end)
        if not steered.database.is_sqlite:  # there, one writer at a time waits for the other as it begins
            until(lambda: waiting_for_a_lock(steered.database), "somebody who waits for the worker")
        go_on.set()
        worker.result()
        person.result()
    assert steered.claim() is None
    last = {"cancel": "abandoned", "skip": "skipped", "pause": "queued"}[act]
    assert steered.runs == [("collect", 1, "failed"), ("collect", 2, last)]


def test_time_alone_ends_no_pause(steered: Steered) -> None:
    steered.begin()
    steered.do(steering.pause)
    steered.now += timedelta(days=365)
    assert steered.claim() is None
    assert steered.row.state == "paused"
