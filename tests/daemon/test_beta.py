"""The beta distribution's quantiles, held against SciPy, which is a library of the workers."""

import pytest
from scipy.stats import beta

from daemon.beta import beta_cdf, beta_quantile

SHAPES = [(0.5, 0.5), (0.5, 12.5), (7.5, 5.5), (96.5, 0.5), (400.5, 601.5), (90_000.5, 10_000.5)]


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("probability", [1e-6, 0.025, 0.5, 0.975])
def test_quantiles_are_scipys(a, b, probability):
    assert beta_quantile(probability, a, b) == pytest.approx(beta.ppf(probability, a, b), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("x", [0.001, 0.3, 0.5, 0.9, 0.999])
def test_probabilities_are_scipys(a, b, x):
    assert beta_cdf(x, a, b) == pytest.approx(beta.cdf(x, a, b), abs=1e-9)


@pytest.mark.parametrize(("x", "probability"), [(-1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (2.0, 1.0)])
def test_nothing_lies_outside_of_zero_and_one(x, probability):
    assert beta_cdf(x, 2.0, 3.0) == probability


def test_a_uniform_variable_has_its_probability_as_quantile():
    assert beta_quantile(0.3, 1.0, 1.0) == pytest.approx(0.3)
    assert beta_quantile(0.25, 0.5, 0.5) == pytest.approx(0.146447, abs=1e-6)  # sin(pi / 8) squared


def test_the_two_tails_mirror_each_other():
    assert beta_quantile(0.1, 3.5, 8.5) == pytest.approx(1 - beta_quantile(0.9, 8.5, 3.5))
