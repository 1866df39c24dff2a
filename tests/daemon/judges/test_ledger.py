"""The ledger of a judge: entered before it is spent, corrected after, kept over a crash."""

import threading
from pathlib import Path

import pytest

from daemon.judges.errors import JudgeBudgetSpent
from daemon.judges.ledger import Ledger, Prices

PRICES = Prices(prompt=1.0, completion=4.0, prompt_tokens=1000)


def a_ledger(folder: Path, *, max_requests: int = 100, max_usd: float | None = None) -> Ledger:
    return Ledger(folder / "costs.json", prices=PRICES, max_requests=max_requests, max_usd=max_usd)


def test_a_price_worked_by_hand() -> None:
    assert PRICES.cost(500_000, 250_000) == pytest.approx(0.5 + 1.0)


def test_a_request_is_entered_at_its_most_and_settled_at_what_it_cost(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    reserved = ledger.reserve(completion_tokens=100)
    assert reserved.usd == pytest.approx((1000 * 1.0 + 100 * 4.0) / 1e6)
    assert ledger.spent.usd == reserved.usd
    ledger.settle(reserved, prompt_tokens=300, completion_tokens=20)
    spent = ledger.spent
    assert (spent.requests, spent.prompt_tokens, spent.completion_tokens) == (1, 300, 20)
    assert spent.usd == pytest.approx((300 * 1.0 + 20 * 4.0) / 1e6)


def test_a_refund_is_as_if_nothing_had_been_asked(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path, max_requests=1)
    ledger.refund(ledger.reserve(completion_tokens=10))
    assert (ledger.spent.requests, ledger.spent.usd) == (0, pytest.approx(0))
    ledger.reserve(completion_tokens=10)
    with pytest.raises(JudgeBudgetSpent, match="1 of 1 requests"):
        ledger.reserve(completion_tokens=10)


def test_who_dies_before_the_answer_has_spent_the_most_it_could_cost(tmp_path: Path) -> None:
    reserved = a_ledger(tmp_path).reserve(completion_tokens=100)
    assert a_ledger(tmp_path).spent.usd == reserved.usd


def test_no_number_of_threads_enters_more_than_the_budget(tmp_path: Path) -> None:
    ledger, refused = a_ledger(tmp_path, max_requests=10), []

    def ask() -> None:
        for _ in range(3):
            try:
                ledger.reserve(completion_tokens=1)
            except JudgeBudgetSpent as spent:
                refused.append(spent)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (ledger.spent.requests, len(refused)) == (10, 14)
    assert a_ledger(tmp_path).spent.requests == 10
