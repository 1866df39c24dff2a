"""The simulations behind README's error rates: a row for every shift, trials that end, reigns that do."""

import sys
from typing import Any

import numpy as np
import pytest

from benchmarks import rollback_errors, trial_errors
from benchmarks.rollback_errors import one_reign
from benchmarks.trial_errors import RATES, SHIFTS, one_trial


def test_every_shift_has_a_row_whose_shares_are_shares(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["trial_errors", "--episodes", "6", "--trials", "5"])
    trial_errors.main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    size = 1 + len(SHIFTS)
    assert len(rows) == 2 * size, "of trials that end with their iteration, and of those that go on"
    for budget, table in ((6, rows[:size]), (12, rows[size:])):
        assert table[0][1].strip() == "promoted"
        for row in table[1:]:
            assert sum(float(share) for share in row[1:4]) == pytest.approx(1)
            assert 1 <= float(row[4]) <= budget


def test_without_carries_there_is_one_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["trial_errors", "--episodes", "1", "--trials", "1", "--carries", "0"]
    monkeypatch.setattr(sys, "argv", command)
    trial_errors.main()
    assert capsys.readouterr().out.count("| candidate better by |") == 1


@pytest.mark.parametrize("carries", [0, 2])
@pytest.mark.parametrize("budget", [1, 3, 24])
def test_a_trial_ends_with_its_budgets_at_the_latest(budget: int, carries: int) -> None:
    chance = np.random.default_rng(1)
    decision, used = one_trial(RATES, RATES, budget=budget, carries=carries, chance=chance)
    assert decision in {"promoted", "rejected", "undecided"}
    assert 1 <= used <= budget * (1 + carries)


def test_a_hopeless_candidate_is_found_out_before_the_budget_is_spent() -> None:
    chance = np.random.default_rng(2)
    ends = [one_trial(RATES, (0.0,) * 4, budget=24, chance=chance) for _ in range(20)]
    assert {decision for decision, _ in ends} == {"rejected"}
    assert max(used for _, used in ends) < 12


def test_every_shift_of_a_champion_has_a_row_and_later_rollbacks_add_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rollback_errors", "--episodes", "6", "--reigns", "20"])
    rollback_errors.main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(rollback_errors.SHIFTS)
    for row in rows[1:]:
        shares = [float(share) for share in row[1:4]]
        assert 0 <= shares[0] <= shares[1] <= shares[2] <= 1


def test_a_champion_that_forgot_everything_is_rolled_back_at_once_and_a_perfect_one_never() -> None:
    chance = np.random.default_rng(3)
    asked: dict[str, Any] = {"episodes": 12, "iterations": 5, "chance": chance}
    assert [one_reign(RATES, (0.0,) * 4, **asked) for _ in range(20)] == [1] * 20
    assert [one_reign(RATES, (1.0,) * 4, **asked) for _ in range(20)] == [None] * 20


def test_four_episodes_roll_nobody_back() -> None:
    chance = np.random.default_rng(4)
    assert one_reign(RATES, (0.0,) * 4, episodes=4, iterations=1, chance=chance) is None
    assert one_reign(RATES, (0.0,) * 4, episodes=4, iterations=2, chance=chance) == 2
