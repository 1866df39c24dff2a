"""Binning: what an action loses by becoming a token, and what cannot become one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daemon.learning.errors import BadTensor
from daemon.learning.policy.tokens import ActionBinning, BinningInvalid, nano_binning

NANO = nano_binning()


def three_bins() -> ActionBinning:
    return ActionBinning(low=(-3.0, 0.0), high=(3.0, 9.0), bins=3)


def test_a_worked_example_of_three_bins() -> None:
    actions = torch.tensor([[-2.9, 0.1], [-0.9, 4.0], [0.0, 3.1], [2.9, 8.9]])
    tokens = three_bins().encode(actions)
    assert tokens.tolist() == [[0, 0], [1, 1], [1, 1], [2, 2]]
    assert three_bins().decode(tokens).tolist() == [[-2.0, 1.5], [0.0, 4.5], [0.0, 4.5], [2.0, 7.5]]


def test_standing_still_with_an_open_or_closed_gripper_survives_exactly() -> None:
    still = torch.zeros(2, 7)
    still[1, 6] = 1.0
    assert torch.equal(NANO.decode(NANO.encode(still)), still)


@given(st.lists(st.floats(-1, 1, width=32), min_size=7, max_size=7))
def test_a_round_trip_loses_at_most_half_a_bin(fractions: list[float]) -> None:
    low, high = torch.tensor(NANO.low), torch.tensor(NANO.high)
    action = (low + high) / 2 + (high - low) / 2 * torch.tensor(fractions)
    lost = (NANO.decode(NANO.encode(action)) - action).abs()
    assert bool((lost <= (high - low) / NANO.bins / 2 + 1e-7).all())


def test_every_token_comes_back_from_its_own_centre() -> None:
    tokens = torch.arange(NANO.bins).unsqueeze(1).expand(-1, 7)
    assert torch.equal(NANO.encode(NANO.decode(tokens)), tokens)


@pytest.mark.parametrize(("value", "token"), [(-9.0, 0), (-3.0, 0), (3.0, 2), (1e30, 2)])
def test_what_lies_outside_goes_to_the_outermost_bin(value: float, token: int) -> None:
    assert three_bins().encode(torch.tensor([value, 4.5]))[0] == token


def test_a_larger_component_never_gets_a_smaller_token() -> None:
    line = torch.linspace(-0.06, 0.06, 500).unsqueeze(1).expand(-1, 7)
    assert bool((NANO.encode(line).diff(dim=0) >= 0).all())


def test_255_bins_are_those_of_openvla() -> None:
    """256 points of linspace(-1, 1) are edges, digitize numbers bins from 1, a token decodes to a centre."""
    edges = np.linspace(-1, 1, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    values = np.random.default_rng(0).uniform(-1.05, 1.05, 1000)
    expected = np.clip(np.digitize(values, edges) - 1, 0, 254)
    binning = ActionBinning(low=(-1.0,), high=(1.0,), bins=255)
    tokens = binning.encode(torch.tensor(values).unsqueeze(1))
    assert np.array_equal(tokens.squeeze(1).numpy(), expected)
    np.testing.assert_allclose(binning.decode(tokens).squeeze(1).numpy(), centres[expected], atol=1e-7)


@pytest.mark.parametrize("shape", [(7,), (4, 7), (2, 5, 7), (0, 7)])
def test_leading_dimensions_stay(shape: tuple[int, ...]) -> None:
    tokens = NANO.encode(torch.zeros(shape))
    assert tokens.shape == shape
    assert tokens.dtype == torch.int64
    assert NANO.decode(tokens).shape == shape
    assert NANO.decode(tokens).dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_action_that_is_not_finite_has_no_token(value: float) -> None:
    action = torch.zeros(3, 7)
    action[1, 4] = value
    with pytest.raises(BadTensor, match="finite"):
        NANO.encode(action)


@pytest.mark.parametrize("shape", [(6,), (7, 1), ()])
def test_another_number_of_dimensions_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadTensor, match=r"\[\.\.\., 7\]"):
        NANO.encode(torch.zeros(shape))
    with pytest.raises(BadTensor, match=r"\[\.\.\., 7\]"):
        NANO.decode(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("token", [-1, 31])
def test_a_token_outside_the_bins_is_refused(token: int) -> None:
    with pytest.raises(BadTensor, match=r"0\.\.30"):
        NANO.decode(torch.full((7,), token))


@pytest.mark.parametrize(
    ("low", "high", "bins"),
    [
        ((0.0,), (1.0, 2.0), 3),  # unequal length
        ((), (), 3),
        ((1.0,), (1.0,), 3),  # empty range
        ((2.0,), (1.0,), 3),
        ((0.0,), (float("inf"),), 3),
        ((float("nan"),), (1.0,), 3),
        ((0.0,), (1.0,), 1),  # nothing to choose
    ],
)
def test_bounds_that_cut_nothing_are_refused(
    low: tuple[float, ...], high: tuple[float, ...], bins: int
) -> None:
    with pytest.raises(BinningInvalid) as refused:
        ActionBinning(low=low, high=high, bins=bins)
    assert refused.value.code == "binning_invalid"
    assert not refused.value.retryable
