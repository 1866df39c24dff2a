"""Gains between iterations: against which one, over whose robot hours. No database: books are values."""

import pytest

from daemon.comparison import mean_difference
from daemon.ledger import NO_GAIN, Books, ledger_of
from storage.end_rules import EndRule
from storage.ledger import Spent


def books(*iterations, of=None, rules=None):
    """Books of (counts by task, robot hours), the oldest first; ids are letters, numbers count from 1."""
    named = [(chr(ord("a") + place), place + 1) for place in range(len(iterations))]
    return Books(
        iterations=named[::-1],
        lineages=dict.fromkeys((id_ for id_, _ in named), "main") | (of or {}),
        spent={
            id_: Spent(robot_seconds=3600.0 * hours)
            for (id_, _), (_, hours) in zip(named, iterations, strict=True)
        },
        success={id_: counts for (id_, _), (counts, _) in zip(named, iterations, strict=True)},
        rules={id_: EndRule(number=number) for id_, number in named} | (rules or {}),
    )


LID, DRAWER = "lid", "drawer"


def test_a_gain_is_the_mean_over_the_tasks_that_both_were_judged_at():
    found = books(({LID: (1, 4), DRAWER: (2, 4)}, 1.0), ({LID: (3, 4), "sink": (4, 4)}, 1.0))
    gain = found.gain(("a", 1), ("b", 2))["gain"]
    expected = mean_difference([((1, 4), (3, 4))])
    assert gain == pytest.approx({"value": expected.value, "low": expected.low, "high": expected.high})


def test_a_task_whose_episodes_a_judge_could_end_in_one_of_both_is_no_gain():
    counts = ({LID: (1, 4), DRAWER: (2, 4)}, 1.0), ({LID: (3, 4), DRAWER: (4, 4)}, 1.0)
    early = EndRule(number=2, early=True, full_length=frozenset({LID}))
    gain = books(*counts, rules={"b": early}).gain(("a", 1), ("b", 2))["gain"]
    assert gain["value"] == pytest.approx(0.5), "the lid's alone"
    nothing = books(*counts, rules={"b": EndRule(number=2, early=True)}).gain(("a", 1), ("b", 2))
    assert (nothing["compared_with"], nothing["gain"], nothing["gain_per_robot_hour"]) == (1, None, None)


def test_a_gain_is_owed_to_the_robot_hours_before_it_and_not_to_those_that_measured_it():
    found = books(({LID: (1, 4)}, 2.0), ({LID: (3, 4)}, 9.0)).gain(("a", 1), ("b", 2))
    assert found["gain_per_robot_hour"]["value"] == pytest.approx(0.5 / 2.0)
    assert found["gain_per_robot_hour"]["low"] == pytest.approx(found["gain"]["low"] / 2.0)


def test_hours_of_iterations_that_nobody_judged_count_too():
    found = books(({LID: (1, 4)}, 1.0), ({}, 3.0), ({LID: (3, 4)}, 9.0))
    assert found.before(("c", 3)) == ("a", 1)
    assert found.gain(("a", 1), ("c", 3))["gain_per_robot_hour"]["value"] == pytest.approx(0.5 / 4.0)


def test_without_robot_time_there_is_a_gain_and_no_gain_per_hour():
    found = books(({LID: (1, 4)}, 0.0), ({LID: (3, 4)}, 0.0)).gain(("a", 1), ("b", 2))
    assert found["gain"]["value"] == pytest.approx(0.5)
    assert found["gain_per_robot_hour"] is None


def test_iterations_without_a_task_in_common_are_not_compared():
    found = books(({LID: (1, 4)}, 1.0), ({DRAWER: (3, 4)}, 1.0)).gain(("a", 1), ("b", 2))
    assert (found["compared_with"], found["gain"], found["gain_per_robot_hour"]) == (1, None, None)


def test_the_first_judged_iteration_has_none_before_it():
    found = books(({}, 1.0), ({LID: (1, 4)}, 1.0))
    assert found.before(("b", 2)) is None
    assert found.judged == [("b", 2)]


def test_gains_of_neighbours_add_up_to_the_gain_of_the_whole():
    found = books(*(({LID: (won, 8)}, 1.0) for won in (1, 4, 6)))
    steps = [found.gain(("a", 1), ("b", 2)), found.gain(("b", 2), ("c", 3))]
    whole = found.gain(("a", 1), ("c", 3))
    assert sum(step["gain"]["value"] for step in steps) == pytest.approx(whole["gain"]["value"])


def test_a_lineage_is_compared_with_itself_and_owes_its_own_robot_hours():
    """a and c are one lineage, b another: c gains over a, for the two hours of a alone."""
    found = books(({LID: (1, 4)}, 2.0), ({LID: (4, 4)}, 5.0), ({LID: (3, 4)}, 9.0), of={"b": "side"})
    assert (found.before(("c", 3)), found.before(("b", 2))) == (("a", 1), None)
    assert found.gain(("a", 1), ("c", 3))["gain_per_robot_hour"]["value"] == pytest.approx(0.5 / 2.0)


def test_no_iteration_is_no_ledger(sqlite_database):
    with sqlite_database.read() as session:
        assert ledger_of(session, []) == []
    assert set(NO_GAIN) == {"compared_with", "gain", "gain_per_robot_hour"}
