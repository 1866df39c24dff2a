"""The judges' dollars of a day: shared by iterations and processes, entered before they are spent."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.judges.day_ledger import DayLedger
from daemon.judges.errors import JudgeBudgetSpent, JudgeDaySpent
from daemon.judges.ledger import Ledger, Prices
from daemon.learning.reward.judge import JudgeExhausted

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
PRICES = Prices(prompt=1.0, completion=4.0, prompt_tokens=1_000_000)  # a question is a dollar


def a_day(folder: Path, *, max_usd: float = 2.5, at: datetime = NOON) -> DayLedger:
    return DayLedger(folder / "days", max_usd=max_usd, now=lambda: at)


def an_iteration(folder: Path, name: str, *, max_usd: float | None = None) -> Ledger:
    file = folder / f"{name}.json"
    return Ledger(file, prices=PRICES, max_requests=100, max_usd=max_usd, day=a_day(folder))


def test_iterations_of_one_day_share_its_dollars(tmp_path: Path) -> None:
    first, second = an_iteration(tmp_path, "a"), an_iteration(tmp_path, "b")
    first.reserve(completion_tokens=0)
    second.reserve(completion_tokens=0)
    with pytest.raises(JudgeDaySpent, match=r"2 of 2\.5 dollars"):
        second.reserve(completion_tokens=0)
    assert second.spent.requests == 1, "what was refused is not counted"
    assert a_day(tmp_path).spent == 2.0


def test_the_next_day_begins_with_nothing(tmp_path: Path) -> None:
    a_day(tmp_path).reserve(2.0)
    with pytest.raises(JudgeDaySpent):
        a_day(tmp_path).reserve(1.0)
    tomorrow = a_day(tmp_path, at=NOON + timedelta(hours=12))
    assert tomorrow.spent == 0.0
    tomorrow.reserve(1.0)
    assert (tomorrow.spent, a_day(tmp_path).spent) == (1.0, 2.0)


def test_what_a_request_did_cost_takes_the_place_of_the_most_it_could(tmp_path: Path) -> None:
    ledger = an_iteration(tmp_path, "a")
    reserved = ledger.reserve(completion_tokens=0)
    ledger.settle(reserved, prompt_tokens=250_000, completion_tokens=0)
    assert a_day(tmp_path).spent == pytest.approx(0.25)
    ledger.refund(ledger.reserve(completion_tokens=0))
    assert a_day(tmp_path).spent == pytest.approx(0.25)


def test_the_budget_of_the_iteration_is_looked_at_first(tmp_path: Path) -> None:
    ledger = an_iteration(tmp_path, "a", max_usd=0.5)
    with pytest.raises(JudgeBudgetSpent):
        ledger.reserve(completion_tokens=0)
    assert a_day(tmp_path).spent == 0.0


def test_a_request_that_is_answered_after_midnight_is_settled_on_the_day_that_it_was_entered(
    tmp_path: Path,
) -> None:
    moments = [NOON]
    day = DayLedger(tmp_path / "days", max_usd=2.5, now=lambda: moments[-1])
    ledger = Ledger(tmp_path / "a.json", prices=PRICES, max_requests=9, max_usd=None, day=day)
    reserved = ledger.reserve(completion_tokens=0)
    moments.append(NOON + timedelta(hours=13))
    ledger.reserve(completion_tokens=0)
    ledger.settle(reserved, prompt_tokens=250_000, completion_tokens=0)
    assert day.spent == 1.0
    assert day.spent_on(NOON.date()) == pytest.approx(0.25)


def test_a_correction_does_not_make_a_day_negative(tmp_path: Path) -> None:
    day = a_day(tmp_path)
    day.correct(-1.0, entered=NOON.date())
    assert day.spent == 0.0


def test_threads_together_spend_no_more_than_the_budget(tmp_path: Path) -> None:
    refused: list[JudgeDaySpent] = []

    def ask() -> None:
        day = a_day(tmp_path, max_usd=10.0)
        for _ in range(5):
            try:
                day.reserve(1.0)
            except JudgeDaySpent as spent:
                refused.append(spent)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert a_day(tmp_path).spent == 10.0
    assert len(refused) == 10


def test_a_spent_day_ends_an_update_as_a_spent_iteration_does() -> None:
    spent = JudgeDaySpent(spent=2.0, budget=2.5)
    assert isinstance(spent, JudgeExhausted)
    assert "GYMNASTD_JUDGE_USD_PER_DAY" in str(spent)
