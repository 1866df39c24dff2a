"""The gate lets through what is surely better on fresh episodes and not much worse on older ones."""

import pytest

from daemon.learning.gate import Compared, decide

SURE = (0.29, 0.19), (0.28, 0.18)


def errors(before, after) -> Compared:
    return Compared(before=tuple(before), after=tuple(after))


@pytest.mark.parametrize(
    ("fresh", "older", "accepted"),
    [
        (SURE, None, True),
        (((0.3, 0.2), (0.3, 0.2)), None, False),  # as good is not better
        (((0.3, 0.2), (0.31, 0.21)), ((0.2,), (0.1,)), False),  # nor does the past make up for it
        (SURE, ((0.20,), (0.22,)), True),  # exactly the margin
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
def test_chance_is_that_of_a_paired_one_sided_t_test(gains, chance: float):
    before = [1.0 + place for place in range(len(gains))]  # how hard an episode is does not matter
    after = [old - gain for old, gain in zip(before, gains, strict=True)]
    assert errors(before, after).chance == pytest.approx(chance, abs=1e-4)


def test_the_same_mean_improvement_is_refused_where_it_may_be_luck():
    steady = errors((1.0, 1.0, 1.0, 1.0), (0.9, 0.89, 0.91, 0.9))
    lucky = errors((1.0, 1.0, 1.0, 1.0), (0.3, 1.1, 1.1, 1.1))
    assert steady.means == pytest.approx(lucky.means)
    assert decide(steady, None, older_margin=0.1).accepted
    assert not decide(lucky, None, older_margin=0.1).accepted


def test_the_reasons_say_which_numbers_were_compared_with_which_margin():
    found = decide(errors((0.4, 0.2), (0.35, 0.15)), errors((0.2,), (0.3,)), older_margin=0.1).reasons
    said = "latent error 0.3000 -> 0.2500 on held-out fresh episodes: better (p "
    assert found[0].startswith(said) and found[0].endswith("at most 0.05 is asked)")
    assert found[1] == ("latent error 0.2000 -> 0.3000 on held-out older episodes: beyond the margin of 10%")
