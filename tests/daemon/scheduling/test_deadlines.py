"""Deadlines: late is a reason to end, on time is none, and nobody tries again."""

from datetime import timedelta

import pytest

from daemon.iteration import advance
from daemon.retrying import may_retry
from daemon.scheduling.deadlines import DAY_S, DEFAULT_S, deadline_of, in_time, overdue, within
from daemon.scheduling.errors import PhaseOverdue
from daemon.spec import PHASES, parse_spec
from storage import attempts, iterations, phase_runs, steering


@pytest.mark.parametrize(
    ("took_s", "limit_s", "late"),
    [(10.0, None, False), (9.9, 10.0, False), (10.0, 10.0, False), (10.1, 10.0, True)],
)
def test_late_is_after_the_deadline(took_s, limit_s, late):
    assert overdue(took_s=took_s, limit_s=limit_s) is late


def test_a_report_after_the_deadline_ends_the_phase_and_says_what_to_do():
    seconds, told = iter([100.0, 104.0, 111.0]), []
    report = within(
        lambda share, text: told.append(text), phase="collect", limit_s=10.0, clock=lambda: next(seconds)
    )
    report(0.1, "in time")
    with pytest.raises(PhaseOverdue, match=r"deadlines\.collect_s") as late:
        report(0.2, "too late")
    assert told == ["in time", "too late"], "it is still told how far it was"
    assert late.value.code == "phase_overdue"
    assert not may_retry(late.value)


def test_what_earlier_attempts_took_counts():
    seconds = iter([100.0, 103.0, 104.0])
    report = within(
        lambda share, text: None, phase="collect", limit_s=10.0, used_s=6.5, clock=lambda: next(seconds)
    )
    report(0.1, "9.5 s in all")
    with pytest.raises(PhaseOverdue, match="all attempts together"):
        report(0.2, "10.5 s in all")


def test_a_spec_without_deadlines_has_generous_ones_and_its_digest_of_before():
    spec = parse_spec({})
    assert [deadline_of(spec, phase) for phase in PHASES] == [30 * DAY_S, 7 * DAY_S, 7 * DAY_S]
    assert set(DEFAULT_S) == set(PHASES)
    assert spec.document()["deadlines"] == dict.fromkeys(f"{phase}_s" for phase in PHASES)


@pytest.fixture
def collecting(database, now):
    """Begin an attempt at collecting so many seconds after noon; `spec` is what the phase is asked for."""
    with database.write() as session:
        document = parse_spec({"deadlines": {"collect_s": 100.0}}).document()
        row, _ = iterations.request_iteration(session, spec=document, idempotency_key=None, now=now)
        phase_runs.queue(session, row, phase="collect", now=now)

    def begin(at_s: float):
        with database.write() as session:
            return phase_runs.claim(session, "w", ttl_s=1e6, now=now + timedelta(seconds=at_s))

    return begin


def left_s(database, claimed) -> float:
    """How many seconds more the attempt may take."""
    seconds, spec = [0.0], parse_spec(claimed.spec)
    with database.read() as session:
        used_s = attempts.used_s(session, claimed)
    report = within(
        lambda share, text: None,
        phase=claimed.phase,
        limit_s=deadline_of(spec, claimed.phase),
        used_s=used_s,
        clock=lambda: seconds[0],
    )
    with pytest.raises(PhaseOverdue):
        while True:
            report(0.5, "on my way")
            seconds[0] += 1.0
    return seconds[0] - 1.0


def test_a_worker_that_is_stopped_again_and_again_begins_no_new_clock(database, collecting, now):
    for begun, ended in ((0, 30), (1000, 1040)):
        claimed = collecting(begun)
        with database.write() as session:
            phase_runs.release(session, claimed, now=now + timedelta(seconds=ended))
    assert left_s(database, collecting(5000)) == 30.0, "the time between two attempts is nobody's"


def test_an_attempt_of_a_phase_that_used_all_its_time_ends_at_its_first_report(database, collecting, now):
    claimed = collecting(0)
    with database.write() as session:
        phase_runs.release(session, claimed, now=now + timedelta(seconds=101))
    again = collecting(200)
    report = in_time(lambda *_: None, again, spec=parse_spec(again.spec), database=database)
    with pytest.raises(PhaseOverdue, match=r"100 s.*deadlines\.collect_s"):
        report(0.0, "loading")


def test_a_retry_of_people_begins_the_clock_anew(database, collecting, now):
    claimed = collecting(0)
    at = now + timedelta(seconds=101)
    with database.write() as session:
        phase_runs.fail(session, claimed, error_code="phase_overdue", message="late", retry=False, now=at)
        advance(session, now=at)
    with database.write() as session:
        steering.retry(session, claimed.iteration_id, now=at)
    with database.write() as session:
        advance(session, now=at)
    assert left_s(database, collecting(102)) == 100.0


def test_without_a_deadline_a_phase_takes_as_long_as_it_needs():
    seconds = iter([0.0, 1e9])
    within(lambda share, text: None, phase="collect", limit_s=None, clock=lambda: next(seconds))(
        0.1, "at last"
    )


def test_every_phase_has_a_deadline_of_its_own():
    spec = parse_spec(
        {"deadlines": {"collect_s": 1.0, "finetune_world_model_s": 2.0, "update_policy_s": 3.0}}
    )
    found = [deadline_of(spec, phase) for phase in ("collect", "finetune_world_model", "update_policy")]
    assert found == [1.0, 2.0, 3.0]
    assert deadline_of(spec, "a phase of a later release") is None
