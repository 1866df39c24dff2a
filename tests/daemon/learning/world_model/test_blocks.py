"""Blocks modulate, mix and feed forward as they say, and leave out what nobody asks for."""

from functools import partial

import pytest
import torch
from torch import Tensor

from daemon.learning.world_model.attention import spatial_turn
from daemon.learning.world_model.blocks import BRANCHES, FACTORS, Branches, modulated
from daemon.learning.world_model.model import WorldModel


def test_a_modulated_token_has_the_mean_and_spread_that_it_was_told():
    x = torch.randn(1, 2, 3, 64) * 5 + 2
    shift, factor = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 3.0])  # of each frame
    out = modulated(x, shift.view(1, 2, 1, 1), factor.view(1, 2, 1, 1))
    assert torch.allclose(out.mean(-1), shift.view(1, 2, 1).expand(1, 2, 3), atol=1e-5)
    assert torch.allclose(out.std(-1, unbiased=False), factor.view(1, 2, 1).expand(1, 2, 3), atol=1e-4)


@torch.no_grad()
def test_frames_that_are_left_out_change_nothing_about_the_others():
    torch.manual_seed(0)
    branches, turn = Branches(16, 2), spatial_turn(2, 2, width=8, device=torch.device("cpu"))
    x, rows = torch.randn(2, 3, 4, 16), torch.randn(BRANCHES, 2, 3, 1, 16).unbind()
    mix = partial(branches.attn.within_frame, turn=turn)
    whole = branches(x, rows, mix)
    rest = branches(x, rows, lambda ready: mix(ready)[:, 1:], skip=1)
    assert torch.allclose(rest, whole[:, 1:], atol=1e-6)


@torch.no_grad()
def test_an_untrained_transformer_is_told_to_change_nothing(tiny_world_model: WorldModel):
    """Its modulation is zeros, so factors are 1, and shifts and gates 0."""
    transformer = tiny_world_model.transformer
    fresh = type(transformer)(**{k: v for k, v in transformer.config.items() if not k.startswith("_")})
    rows = fresh.modulations(torch.tensor([[3, 500]]), torch.randn(2, 2, 10)).rows
    assert rows.shape == (2 * BRANCHES * fresh.config.layers + 2, 2, 2, 1, fresh.config.dim)
    assert torch.equal(rows[FACTORS], torch.ones_like(rows[FACTORS]))
    assert float(rows.sum()) == rows[FACTORS].numel(), "all others are zero"


@pytest.mark.parametrize("silent", [1, 2])
@torch.no_grad()
def test_a_frame_that_is_only_remembered_is_seen_like_any_other(tiny_world_model: WorldModel, silent: int):
    transformer = tiny_world_model.transformer

    def passes(silent: int) -> list[Tensor]:
        """Three frames in one pass, two of which stay, and then another one."""
        torch.manual_seed(1)
        x, told = torch.randn(2, 4, 4, 8, 8), transformer.modulations(torch.tensor([[14] * 4]), moved)
        cache = transformer.empty_cache(x[:, 0], ahead=3)
        three = transformer.remember(x[:, :3], told.of(slice(0, 3)), cache=cache, silent=silent)
        cache.keep(2)
        return [three, transformer.remember(x[:, 3:], told.of(slice(3, 4)), cache=cache)]

    moved = torch.randn(2, 4, 10)
    (three, after), (rest, same) = passes(0), passes(silent)
    assert torch.allclose(rest, three[:, silent:], atol=1e-6)
    assert torch.allclose(same, after, atol=1e-6)
    assert float(three.std()) > 0.01, "the comparison says something"
