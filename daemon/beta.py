"""The beta distribution, as far as intervals need it: its quantiles, without a numeric library.

The API's process counts its megabytes, and a quantile is all that it needs. Tests hold it against SciPy.

Source: NIST Digital Library of Mathematical Functions, 8.17.22 (https://dlmf.nist.gov/8.17.E22) for the
continued fraction of the regularised incomplete beta function; Lentz
1976, Applied Optics 15, for evaluating it.
"""

import math
from functools import lru_cache

TERMS = 10_000  # of the fraction; counts of a million need a few hundred
CLOSE = 1e-14  # relative: a factor of the fraction this near to 1 changes nothing any more
STEPS = 200  # of the search; Newton needs about six, bisection 50
EXACT = 1e-12  # of a probability
TINY = 1e-300


def beta_cdf(x: float, a: float, b: float) -> float:
    """The probability that a Beta(a, b) variable is below x; a and b are positive.

    Source: DLMF 8.17.22, and 8.17.4 (the mirror image) where the fraction would converge slowly.
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - beta_cdf(1.0 - x, b, a)
    return math.exp(_log_density(x, a, b)) * x * (1.0 - x) / a * _fraction(x, a, b)


@lru_cache(maxsize=8192)
def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x below which a Beta(a, b) variable lies with this probability, in (0, 1).

    Newton's steps inside a bracket that always holds the answer; a step that leaves it is halved instead.
    """
    low, high = 0.0, 1.0
    x = a / (a + b)
    for _ in range(STEPS):
        off = beta_cdf(x, a, b) - probability
        if abs(off) < EXACT:
            break
        low, high = (low, x) if off > 0.0 else (x, high)
        slope = math.exp(_log_density(x, a, b))
        step = x - off / slope if slope > TINY else low
        x = step if low < step < high else (low + high) / 2.0
    return x


def _log_density(x: float, a: float, b: float) -> float:
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return (a - 1.0) * math.log(x) + (b - 1.0) * math.log1p(-x) - log_beta


def _fraction(x: float, a: float, b: float) -> float:
    """1 / (1 + d1 / (1 + d2 / (1 + …))) of DLMF 8.17.22, from the front."""
    c, d = 1.0, 1.0 / _kept_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _kept_from_zero(1.0 + term * d)
            c = _kept_from_zero(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < CLOSE:
            break
    return value


def _kept_from_zero(value: float) -> float:
    return value if abs(value) > TINY else TINY
