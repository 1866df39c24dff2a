"""Rotary positions speak of differences only, and attention mixes along the axis it says."""

import math

import pytest
import torch

from daemon.learning.world_model.attention import (
    FUSED_KEYS,
    Attention,
    Past,
    plain_order,
    rotate,
    spatial_turn,
    temporal_turn,
)

CPU = torch.device("cpu")


def test_a_pair_turns_by_its_position_times_its_frequency():
    """Width 4: pair 0 is entries 0 and 2 with frequency 1, pair 1 is entries 1 and 3 with 10000^(-1/2)."""
    x = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(4, 4)
    turned = rotate(x, temporal_turn(torch.arange(4), width=4))
    for position in range(4):
        fast, slow = float(position), position * 0.01
        expected = [math.cos(fast), math.cos(slow), math.sin(fast), math.sin(slow)]
        assert turned[position].tolist() == pytest.approx(expected, abs=1e-6)


def test_turning_keeps_lengths():
    x = torch.randn(2, 6, 8)
    turned = rotate(x, temporal_turn(torch.arange(6) * 7, width=8))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)


@pytest.mark.parametrize("shift", [1, 13, 400])
def test_products_of_turned_vectors_depend_on_differences_of_positions_only(shift: int):
    q, k = torch.randn(5, 16), torch.randn(5, 16)
    positions = torch.arange(5)
    here, there = (temporal_turn(positions + by, width=16) for by in (0, shift))
    assert torch.allclose(
        rotate(q, here) @ rotate(k, here).T, rotate(q, there) @ rotate(k, there).T, atol=1e-3
    )
    assert not torch.allclose(rotate(q, here) @ rotate(k, here).T, q @ k.T, atol=1e-2), "positions matter"


def test_places_of_a_frame_turn_one_half_of_the_pairs_with_the_row_and_one_with_the_column():
    turn = spatial_turn(3, 5, width=8, device=CPU)
    assert turn.cos.shape == (15, 8)
    row, column = 2, 4
    at = turn.cos[row * 5 + column]
    expected = [math.cos(row), math.cos(row * 0.01), math.cos(column), math.cos(column * 0.01)]
    assert at.tolist() == pytest.approx(expected * 2, abs=1e-6)


@pytest.mark.parametrize(
    ("window", "visible"),
    [
        (1, ["x...", ".x..", "..x.", "...x"]),
        (2, ["x...", "xx..", ".xx.", "..xx"]),
        (9, ["x...", "xx..", "xxx.", "xxxx"]),
    ],
)
def test_the_window_mask_shows_a_frame_itself_and_those_just_before(window: int, visible: list[str]):
    mask = plain_order(4).mask(window=window)
    assert [["x" if seen == 0 else "." for seen in row] for row in mask.tolist()] == [
        list(r) for r in visible
    ]
    assert set(mask.flatten().tolist()) <= {0.0, float("-inf")}


@torch.no_grad()
def test_inside_a_frame_tokens_mix_and_frames_do_not():
    torch.manual_seed(0)
    attention, turn = Attention(16, 2), spatial_turn(2, 2, width=8, device=CPU)
    x = torch.randn(1, 3, 4, 16)
    before = attention.within_frame(x, turn)
    x[0, 1, 2] += 1
    changed = (attention.within_frame(x, turn) - before).abs().amax(-1)[0]  # [F, S]
    assert bool((changed[1] > 1e-4).all())
    assert float(changed[[0, 2]].max()) == 0


@torch.no_grad()
def test_along_time_places_stay_apart_and_the_past_does_not_see_the_future():
    torch.manual_seed(0)
    attention, turn = Attention(16, 2), temporal_turn(torch.arange(3), width=8)
    x = torch.randn(1, 3, 4, 16)
    past = Past(turn=turn, mask=plain_order(3).mask(window=3))
    before = attention.along_time(x, past, layer=0)
    x[0, 1, 2] += 1
    changed = (attention.along_time(x, past, layer=0) - before).abs().amax(-1)[0]  # [F, S]
    assert bool((changed[1:, 2] > 1e-4).all())
    assert float(changed[0].max()) == 0
    assert float(changed[:, [0, 1, 3]].max()) == 0


@torch.no_grad()
def test_many_tokens_take_the_fused_kernel_and_get_the_same_numbers(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    attention, side = Attention(16, 2), 9
    assert side * side > FUSED_KEYS
    turn, x = spatial_turn(side, side, width=8, device=CPU), torch.randn(2, 3, side * side, 16)
    fused = attention.within_frame(x, turn)
    monkeypatch.setattr("daemon.learning.world_model.attention.FUSED_KEYS", 1000)
    assert torch.allclose(fused, attention.within_frame(x, turn), atol=1e-5)
