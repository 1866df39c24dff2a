"""Our Muon is torch's: bit for bit in its type, and in another as near as that type's rounding."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from daemon.learning.devices import precision_of
from daemon.learning.world_model.muon import Muon, orthogonalized
from daemon.learning.world_model.optimizing import Optimizing

SHAPES = ((12, 40), (40, 12), (24, 24), (1, 7))
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def ours(made: list[nn.Parameter], precision: torch.dtype) -> Muon:
    return Muon(made, lr=0.05, weight_decay=0.1, precision=precision)


def torchs(made: list[nn.Parameter]) -> torch.optim.Muon:
    return torch.optim.Muon(made, lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")


def stepped(optimizer: torch.optim.Optimizer, *, begin: int, count: int) -> None:
    """Steps down gradients that are the same for the same numbers."""
    for number in range(begin, begin + count):
        generator = torch.Generator().manual_seed(100 + number)
        for weight in optimizer.param_groups[0]["params"]:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


def test_in_bfloat16_every_step_is_torchs_to_the_last_bit() -> None:
    mine, theirs = weights(), weights()
    stepped(ours(mine, torch.bfloat16), begin=0, count=5)
    stepped(torchs(theirs), begin=0, count=5)
    assert all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))


def test_in_float32_a_step_differs_by_no_more_than_bfloat16_rounds() -> None:
    before, mine, theirs = weights(), weights(), weights()
    stepped(ours(mine, torch.float32), begin=0, count=1)
    stepped(torchs(theirs), begin=0, count=1)
    for old, one, other in zip(before, mine, theirs, strict=True):
        step, gap = ((left - right).detach().norm().item() for left, right in ((other, old), (one, other)))
        assert gap < 0.05 * step, tuple(old.shape)  # some roundings of 2^-8, one after the other


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_is_nearer_to_what_is_meant_than_bfloat16(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    meant, fine, coarse = (
        orthogonalized(matrix.to(kind), coefficients=COEFFICIENTS, steps=5, least_norm=1e-7).double()
        for kind in (torch.float64, torch.float32, torch.bfloat16)
    )
    assert float((fine - meant).norm()) < 1e-4 * float(meant.norm())
    assert float((fine - meant).norm()) < float((coarse - meant).norm())


@pytest.mark.parametrize("shape", SHAPES)
def test_all_directions_of_a_matrix_come_out_about_equally_long(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    found = orthogonalized(matrix, coefficients=COEFFICIENTS, steps=5, least_norm=1e-7)
    sizes = torch.linalg.svdvals(found)
    assert found.shape == shape
    assert 0.4 < float(sizes.min()) <= float(sizes.max()) < 1.6


def test_a_gradient_of_nothing_moves_nothing_and_a_weight_without_one_is_left_alone() -> None:
    with_zero, without = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3, 4))
    with_zero.grad = torch.zeros(3, 4)
    Muon([with_zero, without], lr=0.1, weight_decay=0.0, precision=torch.float32).step()
    assert torch.equal(with_zero, torch.ones(3, 4))
    assert torch.equal(without, torch.ones(3, 4))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_is_taken_up_again_goes_on_as_if_it_had_not_stopped(precision: torch.dtype) -> None:
    straight = weights()
    stepped(ours(straight, precision), begin=0, count=5)
    first = weights()
    before = ours(first, precision)
    stepped(before, begin=0, count=3)
    second = copy.deepcopy(first)
    after = ours(second, precision)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    stepped(after, begin=3, count=2)
    assert all(torch.equal(one, other) for one, other in zip(straight, second, strict=True))


def test_it_goes_on_from_what_torchs_left_and_torchs_from_what_it_left() -> None:
    for begins, ends in ((ours, torchs), (torchs, ours)):
        made = weights()
        first = begins(made, torch.bfloat16) if begins is ours else begins(made)
        stepped(first, begin=0, count=3)
        second = ends(made, torch.bfloat16) if ends is ours else ends(made)
        second.load_state_dict(first.state_dict())
        stepped(second, begin=3, count=2)
        straight = weights()
        stepped(torchs(straight), begin=0, count=5)
        assert all(torch.equal(one, other) for one, other in zip(made, straight, strict=True))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_training_orthogonalizes_in_the_type_that_this_machine_is_fast_in(precision: torch.dtype) -> None:
    module = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(3, 5)])})
    with precision_of("cpu", precision):
        optimizing = Optimizing.of(module, rate=0.1, updates=10, decays=False, name="muon")
    first = optimizing.optimizers[0]
    assert isinstance(first, Muon)
    assert first.precision == precision


def test_a_closure_gives_the_gradients_and_its_loss_comes_back() -> None:
    weight = nn.Parameter(torch.ones(2, 3))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.0, precision=torch.float32)

    def closure() -> float:
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 6.0
    assert weight.detach().square().sum().item() < 6.0
