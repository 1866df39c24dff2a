"""Deadlines: late is a reason to end, on time is none, and nobody tries again."""

import pytest

from daemon.retrying import may_retry
from daemon.scheduling.deadlines import deadline_of, overdue, within
from daemon.scheduling.errors import PhaseOverdue
from daemon.spec import parse_spec


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
    assert deadline_of(parse_spec({}), "collect") is None
    assert deadline_of(spec, "a phase of a later release") is None
