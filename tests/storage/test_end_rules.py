"""By which rule episodes ended: what the spec asked for, and the tasks that a phase left out of it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import pytest

from storage import end_rules, phase_runs
from storage.db import Database
from storage.end_rules import EndRule, same_rule
from storage.tables import IterationRow

Iteration = Callable[..., IterationRow]


def collected(database: Database, row: IterationRow, now: datetime, *, state: str, **outcome: Any) -> None:
    with database.write() as session:
        run = phase_runs.queue(session, session.get_one(IterationRow, row.id), phase="collect", now=now)
        run.state, run.outcome = state, outcome


@pytest.mark.parametrize(
    ("spec", "state", "outcome", "early"),
    [
        ({}, "finished", {}, (False, False)),
        ({"stop_on_success": False}, "finished", {}, (False, False)),
        ({"stop_on_success": True}, "finished", {}, (True, True)),
        ({"stop_on_success": True}, "finished", {"full_length": {"lid": "the judge errs"}}, (False, True)),
        ({"stop_on_success": True}, "running", {"full_length": {"lid": "the judge errs"}}, (True, True)),
        ({"stop_on_success": False}, "finished", {"full_length": {"lid": "old"}}, (False, False)),
    ],
)
def test_the_spec_says_whether_episodes_may_end_early_and_the_phase_where_they_did_not(
    database: Database,
    now: datetime,
    an_iteration: Iteration,
    spec: Mapping[str, Any],
    state: str,
    outcome: Mapping[str, Any],
    early: tuple[bool, bool],
) -> None:
    row = an_iteration(**spec)
    collected(database, row, now, state=state, **outcome)
    with database.read() as session:
        rule = end_rules.of_iterations(session, [row.id])[row.id]
        assert end_rules.of_numbers(session, [row.number]) == {row.number: rule}
    assert (rule.ends_early("lid"), rule.ends_early("drawer"), rule.number) == (*early, row.number)


def test_an_iteration_that_is_not_there_has_no_rule_and_what_no_iteration_collected_full_length(
    database: Database,
) -> None:
    with database.read() as session:
        assert end_rules.of_iterations(session, ["nobody"]) == {}
        assert end_rules.of_numbers(session, []) == {}
    assert not EndRule().ends_early("lid")


def test_rates_are_compared_where_both_ended_alike_at_the_task() -> None:
    whole, early = EndRule(), EndRule(early=True, full_length=frozenset({"lid"}))
    assert same_rule(whole, early, task="lid")
    assert not same_rule(whole, early, task="drawer")
    assert same_rule(early, early, task="drawer")
