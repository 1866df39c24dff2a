"""Trials: numbers worked by hand, symmetry, and when one stops, settles or goes on."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.trial_errors import one_trial
from daemon import trial
from daemon.errors import CountsInvalid
from daemon.trial import FEWEST, Count, Decision, Evidence, Thresholds, carried_text


def evidence(champion: dict[str, tuple[int, int]], candidate: dict[str, tuple[int, int]]) -> Evidence:
    def side(counts: dict[str, tuple[int, int]]) -> dict[str, Count]:
        return {task: Count(successes=won, episodes=judged) for task, (won, judged) in counts.items()}

    return Evidence(champion=side(champion), candidate=side(candidate))


def one_task(champion: tuple[int, int], candidate: tuple[int, int]) -> Evidence:
    return evidence({"open": champion}, {"open": candidate})


def decide(found: Evidence, thresholds: Thresholds, *, spent: bool) -> Decision | None:
    """With plenty planned at every task that was acted at."""
    planned = dict.fromkeys({*found.champion, *found.candidate}, 20)
    return trial.decide(found, thresholds, planned=planned, spent=spent)


def test_the_posterior_of_a_rate_is_a_beta_under_jeffreys_prior() -> None:
    mean, variance = Count(successes=3, episodes=4).moments  # Beta(3.5, 1.5)
    assert mean == pytest.approx(0.7)
    assert variance == pytest.approx(3.5 * 1.5 / (25 * 6))


@pytest.mark.parametrize(("successes", "episodes"), [(-1, 3), (4, 3)])
def test_counts_that_cannot_be_are_refused(successes: int, episodes: int) -> None:
    with pytest.raises(CountsInvalid):
        Count(successes=successes, episodes=episodes)


def test_the_probability_of_being_better_worked_by_hand() -> None:
    found = one_task((5, 10), (9, 10)).better()  # means 0.5 and 9.5/11
    spread = math.sqrt(0.25 / 12 + 9.5 * 1.5 / (121 * 12))
    assert found == pytest.approx(0.5 * math.erfc(-(9.5 / 11 - 0.5) / spread / math.sqrt(2)))


def test_without_evidence_nobody_is_better() -> None:
    assert evidence({}, {}).better() == 0.5
    assert one_task((0, 0), (0, 0)).better() == pytest.approx(0.5)
    assert evidence({"open": (9, 9)}, {"close": (0, 9)}).better() == 0.5, "no task in common"


def test_whoever_is_called_candidate_the_evidence_is_the_same() -> None:
    counts = [(2, 9), (5, 7)]
    assert one_task(*counts).better() + one_task(*reversed(counts)).better() == pytest.approx(1)


def test_every_task_weighs_the_same_however_often_it_was_tried() -> None:
    lopsided = evidence({"a": (50, 100), "b": (10, 10)}, {"a": (50, 100), "b": (0, 10)})
    assert lopsided.better() < 0.001
    many_easy = evidence({"a": (0, 5), "b": (5, 5)}, {"a": (5, 5), "b": (4, 5)})
    assert many_easy.better() > 0.95


@pytest.mark.parametrize(
    ("champion", "candidate", "spent", "decision"),
    [
        ((0, 10), (10, 10), False, "promoted"),
        ((10, 10), (0, 10), False, "rejected"),
        ((0, FEWEST - 1), (FEWEST - 1, FEWEST - 1), False, None),  # too early, however clear
        ((5, 10), (7, 10), False, None),
        ((5, 10), (8, 10), True, "promoted"),  # p = 0.93: not enough to stop, enough in the end
        ((5, 10), (6, 10), True, "undecided"),
        ((5, 10), (5, 10), True, "rejected"),  # as good is no reason
        ((6, 10), (5, 10), True, "rejected"),
    ],
)
def test_clear_cases_stop_early_and_the_end_of_the_budget_settles_for_less(
    champion: tuple[int, int], candidate: tuple[int, int], spent: bool, decision: str | None
) -> None:
    assert decide(one_task(champion, candidate), Thresholds(), spent=spent) == decision


def test_who_is_surely_worse_at_one_task_is_not_promoted_for_the_others() -> None:
    found = evidence(
        {"a": (0, 20), "b": (0, 20), "c": (20, 20)}, {"a": (20, 20), "b": (20, 20), "c": (5, 20)}
    )
    assert found.better() > 0.99
    assert decide(found, Thresholds(), spent=False) is None
    assert decide(found, Thresholds(), spent=True) == "rejected"


def test_a_candidate_that_nobody_has_judged_yet_is_not_rejected() -> None:
    for found in (evidence({}, {}), evidence({"a": (3, 9)}, {})):
        assert decide(found, Thresholds(), spent=False) is None
        assert decide(found, Thresholds(), spent=True) == "undecided"


def test_one_policy_that_was_hardly_tried_does_not_end_a_trial() -> None:
    found = evidence({"a": (20, 20), "b": (2, 2)}, {"a": (0, 20), "b": (0, 2)})
    assert decide(found, Thresholds(), spent=False) is None


@pytest.mark.parametrize(
    ("champion", "candidate"), [((1, 1), (0, 1)), ((0, 2), (2, 2)), ((6, 12), (1, 1)), ((0, 20), (4, 4))]
)
def test_a_handful_of_judged_episodes_settles_nothing_when_more_were_planned(
    champion: tuple[int, int], candidate: tuple[int, int]
) -> None:
    """People label late, and a robot's time may end early."""
    assert decide(one_task(champion, candidate), Thresholds(), spent=True) == "undecided"


def test_a_small_trial_is_settled_once_all_of_it_is_judged() -> None:
    found, planned = one_task((0, 2), (2, 2)), {"open": 2}
    assert trial.decide(found, Thresholds(), planned=planned, spent=False) is None
    assert trial.decide(found, Thresholds(), planned=planned, spent=True) == "promoted"


@pytest.mark.parametrize("spent", [False, True])
def test_a_task_that_was_planned_and_not_acted_at_keeps_a_trial_open(spent: bool) -> None:
    found, planned = one_task((0, 20), (20, 20)), {"open": 20, "close": 20}
    decision = trial.decide(found, Thresholds(), planned=planned, spent=spent)
    assert decision == ("undecided" if spent else None)


def test_tasks_with_few_episodes_of_either_can_be_left_out() -> None:
    found = evidence({"a": (1, 5), "b": (1, 4), "c": (9, 9)}, {"a": (2, 6), "b": (9, 9), "d": (9, 9)})
    assert found.of_at_least(5) == evidence({"a": (1, 5)}, {"a": (2, 6)})


def test_thresholds_decide() -> None:
    found = one_task((5, 10), (7, 10))
    assert decide(found, Thresholds(promote=0.7), spent=False) == "promoted"
    assert decide(found, Thresholds(reject=0.9, promote=0.95), spent=False) == "rejected"


def test_a_trial_errs_as_seldom_as_readme_says() -> None:
    """Equal policies are promoted in one of seven trials, much worse ones nearly never."""
    chance = np.random.default_rng(0)
    rates = (0.9, 0.95, 0.4, 0.4)

    def share(shift: float, decision: str, *, trials: int) -> float:
        new = [min(1.0, max(0.0, rate + shift)) for rate in rates]
        ends = [one_trial(rates, new, budget=24, chance=chance)[0] for _ in range(trials)]
        return ends.count(decision) / trials

    assert share(0.0, "promoted", trials=150) < 0.22
    assert share(-0.15, "promoted", trials=60) < 0.05
    assert share(+0.25, "promoted", trials=60) > 0.9


@pytest.mark.parametrize(("carries", "settles"), [(0, 0.9), (1, 0.95), (3, 0.975)])
def test_what_settling_allows_is_shared_out_among_the_ends_of_a_trial_that_may_go_on(
    carries: int, settles: float
) -> None:
    shared = Thresholds().shared(carries=carries)
    assert shared.settle_promote == pytest.approx(settles)
    assert replace(shared, settle_promote=0.9) == Thresholds(), "early stops and rejections stay"


def test_a_trial_that_goes_on_decides_by_all_episodes_and_asks_more_to_settle() -> None:
    """5 and 8 of 10: means 5.5/11 and 8.5/11, p = 0.926. With as many again p = 0.981."""
    once, twice = one_task((5, 10), (8, 10)), one_task((10, 20), (16, 20))
    assert once.better() == pytest.approx(0.926, abs=1e-3)
    assert twice.better() == pytest.approx(0.981, abs=1e-3)
    shared = Thresholds().shared(carries=1)
    assert decide(once, Thresholds(), spent=True) == "promoted"
    assert decide(once, shared, spent=True) == "undecided"
    assert decide(twice, shared, spent=True) == "promoted"
    assert decide(one_task((10, 20), (10, 20)), shared, spent=True) == "rejected"


def test_a_trial_that_goes_on_promotes_equal_policies_no_more_often() -> None:
    """Simulated as in RESULTS.md, where 1,000 trials say 9 % with one carry and 12 % without."""
    chance = np.random.default_rng(0)
    rates = (0.9, 0.95, 0.4, 0.4)
    ends = [one_trial(rates, rates, budget=12, carries=1, chance=chance) for _ in range(150)]
    assert [end for end, _ in ends].count("promoted") / 150 < 0.2
    assert max(used for _, used in ends) == 24
    assert all(used > 12 for end, used in ends if end == "undecided"), "undecided goes on"


def test_what_is_carried_on_is_said_in_one_way() -> None:
    told = carried_text({"from": 3, "episodes": 48, "of": 96, "before": 40})
    assert told == "carried on from iteration 3, 48 of 96 episodes so far"


def test_more_successes_never_make_a_candidate_look_worse() -> None:
    chances = [one_task((4, 10), (won, 10)).better() for won in range(11)]
    assert all(low < high for low, high in itertools.pairwise(chances))
