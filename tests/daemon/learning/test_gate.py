"""The gate lets through what is surely better on fresh episodes and not much worse on older ones."""

import math

import pytest

from daemon.learning.gate import Compared, decide

SURE = (0.30, 0.20), (0.27, 0.179)


def errors(before, after) -> Compared:
    return Compared(before=tuple(before), after=tuple(after))


@pytest.mark.parametrize(
    ("fresh", "older", "accepted"),
    [
        (SURE, None, True),
        (((0.3, 0.2), (0.3, 0.2)), None, False),  # as good is not better
        (((0.3, 0.2), (0.31, 0.21)), ((0.2,), (0.1,)), False),  # nor does the past make up for it
        (SURE, ((0.20,), (0.2199,)), True),
        (SURE, ((0.20,), (0.2201,)), False),
        (((0.3, 0.2), (0.2, float("nan"))), None, False),
        (SURE, ((0.20,), (float("nan"),)), False),
        (((float("inf"), 0.2), (0.2, 0.1)), None, False),  # nothing to compare with is no proof
        (((0.3,), (0.1,)), None, False),  # nor is a single episode
    ],
)
def test_the_gate_decides_by_both_errors(fresh, older, accepted: bool):
    old = None if older is None else errors(*older)
    found = decide(errors(*fresh), old, older_margin=0.1)
    assert found.accepted is accepted
    assert len(found.reasons) == (1 if older is None else 2)


@pytest.mark.parametrize(
    ("gains", "chance"),
    [
        ((0.1, 0.2, 0.3), 0.0371),  # mean 0.2, deviation 0.1: t = 3.46 with 2 degrees of freedom
        ((0.1, -0.1, 0.1, -0.1), 0.5),
        ((-0.1, -0.2, -0.3), 1 - 0.0371),
    ],
)
def test_chance_is_that_of_a_paired_one_sided_t_test_of_logarithms(gains, chance: float):
    before = [10.0**place for place in range(len(gains))]  # how hard an episode is does not matter
    after = [old * math.exp(-gain) for old, gain in zip(before, gains, strict=True)]
    found = errors(before, after)
    assert found.chance == pytest.approx(chance, abs=1e-4)
    assert found.ratio == pytest.approx(math.exp(-sum(gains) / len(gains)))


def test_a_steady_gain_is_seen_although_one_episode_is_much_harder_than_the_others():
    before = (0.05, 0.06, 0.05, 0.04, 1.5, 0.06)
    after = (0.04, 0.05, 0.04, 0.03, 1.55, 0.05)
    assert sum(after) > sum(before) - 0.06  # the hard one hides it from the mean
    assert decide(errors(before, after), None, older_margin=0.1).accepted


def test_perfect_episodes_are_equal_and_no_error_is_infinitely_better():
    assert errors((0.0, 0.0), (0.0, 0.0)).chance == 1.0
    assert errors((0.0, 0.0), (0.0, 0.0)).ratio == 1.0


def test_the_same_mean_improvement_is_refused_where_it_may_be_luck():
    steady = errors((1.0, 1.0, 1.0, 1.0), (0.9, 0.89, 0.91, 0.9))
    lucky = errors((1.0, 1.0, 1.0, 1.0), (0.3, 1.1, 1.1, 1.1))
    assert steady.means == pytest.approx(lucky.means)
    assert decide(steady, None, older_margin=0.1).accepted
    assert not decide(lucky, None, older_margin=0.1).accepted


def test_the_reasons_say_which_numbers_were_compared_with_which_margin():
    found = decide(errors((0.4, 0.2), (0.32, 0.162)), errors((0.2,), (0.3,)), older_margin=0.1).reasons
    said = "latent error 0.3000 -> 0.2410, 0.80 times by episode on held-out fresh episodes: better (p "
    assert found[0].startswith(said) and found[0].endswith("at most 0.05 is asked)")
    assert found[1] == (
        "latent error 0.2000 -> 0.3000, 1.50 times by episode on held-out older episodes: "
        "beyond the margin of 10%"
    )
