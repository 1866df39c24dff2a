"""Limits: what makes no sense is refused, what is wider is refused, what is narrower holds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.errors import LimitsViolation
from robot_bridge.limits import CEILINGS, Limits

OWN = Limits(box_low=(0.1, -0.2, 0.05), box_high=(0.4, 0.2, 0.25))

shares = st.floats(0.01, 1.0)
factors = st.floats(0.2, 3.0)


def test_every_number_of_the_limits_is_a_corner_or_a_ceiling():
    assert set(Limits.__dataclass_fields__) == {"box_low", "box_high", *CEILINGS}


@pytest.mark.parametrize(
    "limits",
    [
        {"box_low": (0.1, 0.2, 0.05)},  # nothing between low and high
        {"box_low": (math.nan, -0.2, 0.05)},
        {"box_high": (math.inf, 0.2, 0.25)},
        {"box_high": (0.4, 0.2)},
        *({name: wrong} for name in CEILINGS for wrong in (0.0, -0.05, math.nan, math.inf)),
    ],
)
def test_limits_that_allow_nothing_or_anything_are_refused(limits):
    with pytest.raises(LimitsViolation):
        replace(OWN, **limits)


@pytest.mark.parametrize(
    ("wider", "thing"),
    [
        ({"box_low": (0.09, -0.2, 0.05)}, "box_low x"),
        ({"box_low": (0.1, -0.21, 0.05)}, "box_low y"),
        ({"box_low": (0.1, -0.2, 0.049)}, "box_low z"),
        ({"box_high": (0.41, 0.2, 0.25)}, "box_high x"),
        ({"box_high": (0.4, 0.201, 0.25)}, "box_high y"),
        ({"box_high": (0.4, 0.2, 0.26)}, "box_high z"),
        *(({name: 1.001 * getattr(OWN, name)}, name) for name in CEILINGS),
    ],
)
def test_limits_are_never_widened_and_the_refusal_says_which(wider, thing):
    with pytest.raises(LimitsViolation, match="narrow") as refused:
        OWN.narrowed_to(replace(OWN, **wider))
    assert refused.value.parts["thing"] == thing


@given(st.tuples(*[factors] * len(CEILINGS)))
def test_whatever_is_asked_for_what_comes_back_is_nowhere_wider(asked):
    wanted = replace(OWN, **{name: f * getattr(OWN, name) for name, f in zip(CEILINGS, asked, strict=True)})
    try:
        got = OWN.narrowed_to(wanted)
    except LimitsViolation:
        assert any(factor > 1.0 for factor in asked)
        return
    assert all(getattr(got, name) <= getattr(OWN, name) for name in CEILINGS)


@given(st.tuples(*[shares] * len(CEILINGS)))
def test_limits_may_be_narrowed_in_everything_at_once_and_then_are_the_wanted_ones(share):
    wanted = replace(
        OWN,
        box_low=(0.2, -0.1, 0.1),
        box_high=(0.3, 0.1, 0.2),
        **{name: s * getattr(OWN, name) for name, s in zip(CEILINGS, share, strict=True)},
    )
    assert OWN.narrowed_to(wanted) == wanted


def test_narrowing_twice_cannot_undo_the_first_time():
    narrow = replace(OWN, ee_speed_max=0.1)
    with pytest.raises(LimitsViolation):
        OWN.narrowed_to(narrow).narrowed_to(OWN)


def test_the_digest_of_limits_tells_them_apart_by_every_number():
    others = [replace(OWN, **{name: 0.9 * getattr(OWN, name)}) for name in CEILINGS]
    others += [replace(OWN, box_low=(0.11, -0.2, 0.05)), replace(OWN, box_high=(0.39, 0.2, 0.25))]
    assert OWN.digest() == replace(OWN).digest()
    assert len({limits.digest() for limits in (OWN, *others)}) == len(others) + 1


def test_two_corners_that_are_swapped_give_another_digest():
    one = replace(OWN, box_low=(0.1, -0.2, 0.05), box_high=(0.4, 0.2, 0.25))
    other = replace(OWN, box_low=(0.1, 0.05, -0.2), box_high=(0.4, 0.25, 0.2))
    assert one.digest() != other.digest()
