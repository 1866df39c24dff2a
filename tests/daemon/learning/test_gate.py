"""The gate lets through what is better on fresh episodes and not worse than its margin on older ones."""

import pytest

from daemon.learning.gate import Compared, decide


@pytest.mark.parametrize(
    ("fresh", "older", "accepted"),
    [
        ((0.30, 0.29), None, True),
        ((0.30, 0.30), None, False),  # as good is not better
        ((0.30, 0.31), (0.2, 0.1), False),  # better at what it did before does not make up for it
        ((0.30, 0.20), (0.20, 0.22), True),  # exactly the margin
        ((0.30, 0.20), (0.20, 0.2201), False),
        ((0.30, float("nan")), None, False),
        ((0.30, 0.20), (0.20, float("nan")), False),
        ((float("nan"), 0.20), None, False),  # nothing to compare with is no proof
    ],
)
def test_the_gate_decides_by_both_errors(fresh, older, accepted: bool):
    old = None if older is None else Compared(before=older[0], after=older[1])
    found = decide(Compared(before=fresh[0], after=fresh[1]), old, older_margin=0.1)
    assert found.accepted is accepted
    assert len(found.reasons) == (1 if older is None else 2)


def test_the_reasons_say_which_numbers_were_compared_with_which_margin():
    found = decide(
        Compared(before=0.3, after=0.25), Compared(before=0.2, after=0.3), older_margin=0.1
    ).reasons
    assert found[0] == "latent error 0.3000 -> 0.2500 on held-out fresh episodes: better"
    assert found[1] == ("latent error 0.2000 -> 0.3000 on held-out older episodes: beyond the margin of 10%")
