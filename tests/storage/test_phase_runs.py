"""Phase runs: claimed by one worker, kept by heartbeats, taken over when it falls silent, ended once."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from storage import iterations, phase_runs
from storage.claims import ClaimedRun
from storage.db import Database
from storage.errors import LeaseLost, MetricNotFinite, NotJson, RowMissing, UnknownPhase
from storage.phase_runs import MAX_ATTEMPTS, PHASES
from storage.tables import IterationRow, PhaseRunRow

TTL_S = 30.0


def after(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)


def queue(database: Database, iteration: IterationRow, now: datetime, phase: str = "collect") -> PhaseRunRow:
    with database.write() as session:
        return phase_runs.queue(session, iterations.get(session, iteration.id), phase=phase, now=now)


def claim(database: Database, now: datetime, worker: str = "worker-1") -> ClaimedRun | None:
    with database.write() as session:
        return phase_runs.claim(session, worker, ttl_s=TTL_S, now=now)


def claimed_run(database: Database, now: datetime, worker: str = "worker-1") -> ClaimedRun:
    claimed = claim(database, now, worker)
    assert claimed is not None
    return claimed


def heartbeat(database: Database, claimed: ClaimedRun, now: datetime, progress: float = 0.5) -> None:
    with database.write() as session:
        phase_runs.heartbeat(session, claimed, progress=progress, text="episode 5 of 10", now=now)


def row_of(database: Database, claimed: ClaimedRun) -> PhaseRunRow:
    with database.read() as session:
        return phase_runs.get(session, claimed.phase_run_id)


def states(database: Database, iteration: IterationRow) -> list[tuple[int, str]]:
    with database.read() as session:
        return [(run.attempt, run.state) for run in phase_runs.of_iteration(session, iteration.id)]


def fail(database: Database, claimed: ClaimedRun, now: datetime, *, retry: bool) -> PhaseRunRow | None:
    with database.write() as session:
        return phase_runs.fail(
            session, claimed, error_code="station_unreachable", message="no answer", retry=retry, now=now
        )


def test_the_phases_are_those_of_the_cycle_in_its_order() -> None:
    assert PHASES == ("collect", "finetune_world_model", "update_policy")


def test_a_queued_run_waits_with_nothing_done(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    run = queue(database, an_iteration(), now)
    assert (run.phase, run.attempt, run.state, run.progress, run.queued_at) == (
        "collect",
        1,
        "queued",
        0.0,
        now,
    )
    assert (run.worker, run.fence, run.started_at, run.outcome) == (None, None, None, None)


def test_queueing_a_phase_that_is_queued_or_running_finds_that_run(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    first = queue(database, iteration, now)
    assert queue(database, iteration, now).id == first.id
    claimed_run(database, now)
    assert queue(database, iteration, now).id == first.id


def test_queueing_a_phase_that_ended_is_the_next_attempt(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    queue(database, iteration, now)
    fail(database, claimed_run(database, now), now, retry=False)
    assert queue(database, iteration, now).attempt == 2


@pytest.mark.parametrize("phase", ["", "Collect", "evaluate"])
def test_a_phase_that_does_not_exist_is_refused(
    database: Database, an_iteration: Callable, now: datetime, phase: str
) -> None:
    with pytest.raises(UnknownPhase, match="expected one of collect, finetune_world_model, update_policy"):
        queue(database, an_iteration(), now, phase)


def test_there_is_nothing_to_claim_at_first(database: Database, now: datetime) -> None:
    assert claim(database, now) is None


def test_a_claim_hands_over_all_that_the_worker_needs(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration(seed=3)
    run = queue(database, iteration, now)
    assert claim(database, after(now, 1)) == ClaimedRun(
        phase_run_id=run.id,
        iteration_id=iteration.id,
        iteration_number=1,
        phase="collect",
        attempt=1,
        worker="worker-1",
        fence=1,
        ttl_s=TTL_S,
        spec={"seed": 3},
    )


def test_a_claimed_run_is_running_and_says_who_runs_it(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    queue(database, an_iteration(), now)
    run = row_of(database, claimed_run(database, after(now, 1)))
    assert (run.state, run.worker, run.fence) == ("running", "worker-1", 1)
    assert run.started_at == run.heartbeat_at == after(now, 1)


def test_the_oldest_run_is_claimed_first_and_each_once(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    late, early = an_iteration(), an_iteration()
    queue(database, late, after(now, 1))
    queue(database, early, now)
    order = [claimed_run(database, after(now, 2)).iteration_id for _ in range(2)]
    assert order == [early.id, late.id]
    assert claim(database, after(now, 2)) is None


def test_of_runs_queued_at_once_the_lower_iteration_goes_first(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    rows = [an_iteration() for _ in range(4)]
    for row in reversed(rows):
        queue(database, row, now)
    assert [claimed_run(database, now).iteration_number for _ in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("state", "claimable"), [("requested", True), ("running", True), ("finished", False)]
)
def test_only_runs_of_iterations_that_are_not_over_are_claimed(
    database: Database, an_iteration: Callable, now: datetime, state: str, claimable: bool
) -> None:
    iteration = an_iteration()
    queue(database, iteration, now)
    with database.write() as session:
        iterations.get(session, iteration.id).state = state
    assert (claim(database, now) is not None) is claimable


def test_many_workers_never_get_the_same_run(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    for _ in range(3):
        queue(database, an_iteration(), now)
    start = threading.Barrier(6)

    def work(number: int) -> str | None:
        start.wait(timeout=60)
        claimed = claim(database, now, f"worker-{number}")
        return claimed.phase_run_id if claimed else None

    with ThreadPoolExecutor(6) as pool:
        got = [run for run in pool.map(work, range(6)) if run]
    while (claimed := claim(database, now)) is not None:  # a worker may pass by while all are locked
        got.append(claimed.phase_run_id)
    assert len(got) == len(set(got)) == 3


def test_a_heartbeat_reports_progress_and_keeps_the_run(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    queue(database, an_iteration(), now)
    claimed = claimed_run(database, now)
    for beat in range(1, 6):
        heartbeat(database, claimed, after(now, beat * 20), progress=beat / 10)
        assert claim(database, after(now, beat * 20 + TTL_S - 1), "worker-2") is None
    run = row_of(database, claimed)
    assert (run.progress, run.progress_text, run.heartbeat_at) == (0.5, "episode 5 of 10", after(now, 100))


@pytest.mark.parametrize(("reported", "kept"), [(-0.25, 0.0), (0.0, 0.0), (1.0, 1.0), (1.75, 1.0)])
def test_progress_is_a_share_whatever_is_reported(
    database: Database, an_iteration: Callable, now: datetime, reported: float, kept: float
) -> None:
    queue(database, an_iteration(), now)
    claimed = claimed_run(database, now)
    heartbeat(database, claimed, now, progress=reported)
    assert row_of(database, claimed).progress == kept


@pytest.mark.parametrize("progress", [math.nan, math.inf])
def test_progress_that_is_no_number_is_refused(
    database: Database, an_iteration: Callable, now: datetime, progress: float
) -> None:
    queue(database, an_iteration(), now)
    claimed = claimed_run(database, now)
    with pytest.raises(MetricNotFinite, match="metric 'progress'"):
        heartbeat(database, claimed, now, progress=progress)


def test_a_second_worker_waits_until_the_lease_runs_out(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    queue(database, iteration, now)
    silent = claimed_run(database, now)
    assert claim(database, after(now, TTL_S - 0.001), "worker-2") is None
    taken = claimed_run(database, after(now, TTL_S), "worker-2")
    assert (taken.attempt, taken.worker, taken.fence) == (2, "worker-2", silent.fence + 1)
    assert states(database, iteration) == [(1, "abandoned"), (2, "running")]
    assert row_of(database, silent).error_code == "lease_expired"


@pytest.mark.parametrize("act", ["heartbeat", "finish", "fail", "release", "require_held"])
def test_a_worker_that_was_taken_over_is_refused_whatever_it_does(
    database: Database, an_iteration: Callable, now: datetime, act: str
) -> None:
    iteration = an_iteration()
    queue(database, iteration, now)
    stale = claimed_run(database, now)
    fresh = claimed_run(database, after(now, TTL_S), "worker-2")
    with pytest.raises(LeaseLost) as caught, database.write() as session:
        if act == "heartbeat":
            phase_runs.heartbeat(session, stale, progress=0.9, text="", now=now)
        elif act == "finish":
            phase_runs.finish(session, stale, outcome={}, now=now)
        elif act == "fail":
            phase_runs.fail(session, stale, error_code="x", message="", retry=True, now=now)
        elif act == "release":
            phase_runs.release(session, stale, now=now)
        else:
            phase_runs.require_held(session, stale.phase_run_id, fence=stale.fence)
    assert (caught.value.fence, caught.value.current) == (1, 2)
    assert states(database, iteration) == [(1, "abandoned"), (2, "running")]
    heartbeat(database, fresh, after(now, TTL_S))


def test_the_new_fence_does_not_open_the_old_run(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    queue(database, an_iteration(), now)
    stale = claimed_run(database, now)
    fresh = claimed_run(database, after(now, TTL_S), "worker-2")
    with pytest.raises(LeaseLost), database.write() as session:
        phase_runs.require_held(session, stale.phase_run_id, fence=fresh.fence)


def test_a_slow_worker_that_nobody_took_over_goes_on(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    queue(database, an_iteration(), now)
    claimed = claimed_run(database, now)
    heartbeat(database, claimed, after(now, 10 * TTL_S))
    assert claim(database, after(now, 11 * TTL_S - 1), "worker-2") is None


def test_a_finished_run_keeps_its_outcome_and_is_over(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    queue(database, iteration, now)
    claimed = claimed_run(database, now)
    with database.write() as session:
        outcome = {"episodes": ["e1"], "successes": 3, "error": 0.125}
        phase_runs.finish(session, claimed, outcome=outcome, now=after(now, 5))
    run = row_of(database, claimed)
    assert (run.state, run.outcome, run.progress) == ("finished", outcome, 1.0)
    assert run.finished_at == after(now, 5)
    assert claim(database, after(now, 1000)) is None
    with pytest.raises(LeaseLost), database.write() as session:
        phase_runs.finish(session, claimed, outcome={}, now=now)


def test_an_outcome_that_json_cannot_hold_leaves_the_run_running(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    queue(database, an_iteration(), now)
    claimed = claimed_run(database, now)
    sentence = f"the outcome of phase run {claimed.phase_run_id}"
    with pytest.raises(NotJson, match=sentence), database.write() as session:
        phase_runs.finish(session, claimed, outcome={"loss": math.nan}, now=now)
    heartbeat(database, claimed, now)


def test_a_failure_is_kept_with_its_reason_and_tried_again_when_asked(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    queue(database, iteration, now)
    claimed = claimed_run(database, now)
    again = fail(database, claimed, after(now, 1), retry=True)
    assert again is not None
    assert (again.attempt, again.state, again.queued_at) == (2, "queued", after(now, 1))
    run = row_of(database, claimed)
    assert (run.state, run.error_code, run.error_message) == ("failed", "station_unreachable", "no answer")
    assert claimed_run(database, after(now, 2)).fence == claimed.fence + 1


def test_a_failure_that_is_final_is_not_tried_again(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    queue(database, iteration, now)
    assert fail(database, claimed_run(database, now), now, retry=False) is None
    assert states(database, iteration) == [(1, "failed")]
    assert claim(database, after(now, 1000)) is None


def test_failures_are_tried_again_only_so_often(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    queue(database, an_iteration(), now)
    again = [fail(database, claimed_run(database, now), now, retry=True) for _ in range(MAX_ATTEMPTS)]
    assert [run.attempt if run else None for run in again] == [2, 3, 4, 5, None]


def test_a_run_whose_workers_all_fall_silent_fails_in_the_end(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    queue(database, iteration, now)
    for turn in range(MAX_ATTEMPTS):
        claimed_run(database, after(now, turn * TTL_S))
    assert claim(database, after(now, MAX_ATTEMPTS * TTL_S)) is None
    assert states(database, iteration) == [
        (1, "abandoned"),
        (2, "abandoned"),
        (3, "abandoned"),
        (4, "abandoned"),
        (5, "failed"),
    ]
    with database.read() as session:
        last = phase_runs.latest(session, iteration.id, phase="collect")
    assert last is not None
    assert last.error_code == "attempts_exhausted"


def test_abandoning_tells_which_runs_it_ended_and_spares_the_living(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    for _ in range(2):
        queue(database, an_iteration(), now)
    silent, alive = claimed_run(database, now), claimed_run(database, now)
    heartbeat(database, alive, after(now, 20))
    with database.write() as session:
        ended = phase_runs.abandon_expired(session, now=after(now, TTL_S))
        assert [run.id for run in ended] == [silent.phase_run_id]
        assert phase_runs.abandon_expired(session, now=after(now, TTL_S)) == []
    heartbeat(database, alive, after(now, TTL_S))


def test_a_worker_that_is_asked_to_stop_gives_its_run_back_at_no_cost(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    queue(database, iteration, now)
    for _ in range(2 * MAX_ATTEMPTS):
        claimed = claimed_run(database, now)
        with database.write() as session:
            again = phase_runs.release(session, claimed, now=now)
        assert (again.state, again.attempt) == ("queued", claimed.attempt + 1)
    assert row_of(database, claimed).error_code == "released"
    assert fail(database, claimed_run(database, now), now, retry=True) is not None


def test_one_that_has_no_device_hours_left_is_given_back_at_no_cost_and_not_queued(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    code = phase_runs.DEVICE_BUDGET_SPENT
    for attempt in range(1, 2 * MAX_ATTEMPTS + 1):
        queue(database, iteration, now, "update_policy")
        claimed = claimed_run(database, now)
        with database.write() as session:
            assert phase_runs.release(session, claimed, now=now, why="no hours", code=code) is None
        assert states(database, iteration)[-1] == (attempt, "abandoned")
        assert claim(database, now) is None
    assert row_of(database, claimed).error_message == "given back by worker worker-1: no hours"
    queue(database, iteration, now, "update_policy")
    assert fail(database, claimed_run(database, now), now, retry=True) is not None


def test_runs_of_an_iteration_come_in_the_order_of_the_cycle(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration, other = an_iteration(), an_iteration()
    for phase in reversed(PHASES):
        queue(database, iteration, now, phase)
    queue(database, other, now)
    with database.read() as session:
        runs = phase_runs.of_iteration(session, iteration.id)
    assert [run.phase for run in runs] == list(PHASES)


def test_phases_of_one_iteration_are_held_under_leases_of_their_own(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    for phase in PHASES[:2]:
        queue(database, iteration, now, phase)
    first, second = claimed_run(database, now), claimed_run(database, now, "worker-2")
    assert {first.phase, second.phase} == set(PHASES[:2])
    heartbeat(database, first, now)
    heartbeat(database, second, now)


def test_the_latest_attempt_is_the_one_with_the_highest_number(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    with database.read() as session:
        assert phase_runs.latest(session, iteration.id, phase="collect") is None
    queue(database, iteration, now)
    fail(database, claimed_run(database, now), now, retry=True)
    with database.read() as session:
        latest = phase_runs.latest(session, iteration.id, phase="collect")
    assert latest is not None
    assert (latest.attempt, latest.state) == (2, "queued")


def test_a_run_that_is_not_there_is_missed_by_its_id(database: Database) -> None:
    with database.write() as session:
        with pytest.raises(RowMissing, match="no phase run 'nobody'"):
            phase_runs.get(session, "nobody")
        with pytest.raises(RowMissing):
            phase_runs.require_held(session, "nobody", fence=1)


def test_takeover_and_late_heartbeat_at_once_leave_one_holder(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    """Whichever comes first wins: either the old holder is refused, or the new one gets nothing."""
    for turn in range(5):
        queue(database, an_iteration(), now)
        old = claimed_run(database, now)
        start = threading.Barrier(2)

        def beat(claimed: ClaimedRun = old, gate: threading.Barrier = start) -> bool:
            gate.wait(timeout=60)
            try:
                heartbeat(database, claimed, after(now, TTL_S))
            except LeaseLost:
                return False
            return True

        def take(gate: threading.Barrier = start, turn: int = turn) -> ClaimedRun | None:
            gate.wait(timeout=60)
            return claim(database, after(now, TTL_S), f"thief-{turn}")

        with ThreadPoolExecutor(2) as pool:
            kept, taken = pool.submit(beat), pool.submit(take)
            holders = [kept.result(), taken.result() is not None]
        assert sum(holders) == 1
        with database.write() as session:
            iterations.cancel(session, old.iteration_id, now=now)
