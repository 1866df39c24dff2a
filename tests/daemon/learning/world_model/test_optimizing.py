"""One step is clipped, finite or not taken, and its rate warms up and decays as said."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from daemon.learning.devices import precision_of
from daemon.learning.world_model.optimizing import (
    BESIDE_MUON,
    MAX_GRADIENT_NORM,
    WARM_UP_UPDATES,
    Optimizing,
    stepped,
)


def rates(*, updates: int, decays: bool) -> list[float]:
    module = nn.Linear(1, 1)
    optimizing = Optimizing.of(module, rate=1.0, updates=updates, decays=decays)
    seen = []
    for _ in range(updates):
        seen.append(optimizing.rate)
        stepped([module(torch.ones(1, 1)).sum()], module, optimizing)
    return seen


def test_the_rate_warms_up_in_equal_strides_and_then_stays():
    seen = rates(updates=60, decays=False)
    assert seen[0] == pytest.approx(1 / WARM_UP_UPDATES)
    assert seen[1] - seen[0] == pytest.approx(seen[10] - seen[9])
    assert seen[WARM_UP_UPDATES:] == [1.0] * (60 - WARM_UP_UPDATES)


def test_a_decaying_rate_is_halved_half_way_and_nearly_nothing_at_the_end():
    seen = rates(updates=200, decays=True)
    assert max(seen) > 0.95
    assert seen[100] == pytest.approx(0.51, abs=0.01)
    assert seen[-1] < 0.03
    assert all(later <= earlier for earlier, later in pairwise(seen[30:]))


def test_a_step_goes_down_the_loss():
    module = nn.Linear(2, 1, bias=False)
    optimizing = Optimizing.of(module, rate=0.1, updates=10, decays=False)
    before = module.weight.clone()
    assert stepped([module(torch.tensor([[1.0, -1.0]])).sum()], module, optimizing) is not None
    assert bool((torch.sign(before - module.weight) == torch.tensor([[1.0, -1.0]])).all())


def test_gradients_of_the_step_before_are_forgotten_and_large_ones_clipped():
    module = nn.Linear(1, 1, bias=False)
    optimizing = Optimizing.of(module, rate=0.1, updates=10, decays=False)
    stepped([module(torch.ones(1, 1)).sum() * 3], module, optimizing)
    assert float(module.weight.grad) == pytest.approx(MAX_GRADIENT_NORM, rel=1e-4)
    stepped([module(torch.ones(1, 1)).sum() * 0.25], module, optimizing)
    assert float(module.weight.grad) == pytest.approx(0.25)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_changes_nothing(factor: float):
    module = nn.Linear(1, 1)
    before = module.weight.clone()
    optimizing = Optimizing.of(module, rate=0.1, updates=10, decays=False)
    assert None is stepped([module(torch.ones(1, 1)).sum() * factor], module, optimizing)
    assert torch.equal(module.weight, before)


def test_a_finite_loss_with_an_infinite_gradient_changes_nothing():
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.zero_()
    optimizing = Optimizing.of(module, rate=0.1, updates=10, decays=False)
    assert None is stepped([module(torch.ones(1, 1)).abs().sqrt().sum()], module, optimizing)
    assert module.weight.item() == 0


def test_losses_of_parts_are_added_up_into_one_step():
    modules = [nn.Linear(2, 1, bias=False) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    totals = []
    for module, parts in zip(modules, ([1.0], [0.25, 0.75]), strict=True):
        optimizing = Optimizing.of(module, rate=0.1, updates=10, decays=False)
        loss = module(torch.ones(1, 2)).square().sum()
        losses = [module(torch.ones(1, 2)).square().sum() * part for part in parts]
        totals.append((stepped(losses, module, optimizing), loss.item()))
    assert totals[0][0] == pytest.approx(totals[1][0])
    assert totals[0][0] == pytest.approx(totals[0][1])
    assert torch.allclose(modules[0].weight, modules[1].weight)


@pytest.mark.parametrize("decays", [True, False])
def test_a_schedule_can_go_on_from_any_step(decays: bool):
    module = nn.Linear(1, 1)
    expected = rates(updates=60, decays=decays)
    for step in (0, 7, 25, 59):
        optimizing = Optimizing.of(module, rate=1.0, updates=60, decays=decays)
        optimizing.go_to(step)
        assert optimizing.rate == pytest.approx(expected[step])


class TwoLayers(nn.Module):
    """A matrix inside a block, a matrix and a bias outside of any."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(3, 5, bias=False)])
        self.last = nn.Linear(5, 4)  # so many that a gradient has every direction of the first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.blocks[0](x))


def test_muon_steps_the_matrices_of_blocks_and_adamw_the_rest_each_weight_once():
    module = TwoLayers()
    optimizing = Optimizing.of(module, rate=0.1, updates=10, decays=False, name="muon")
    stepped_by = [
        {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        for optimizer in optimizing.optimizers
    ]
    assert stepped_by[0] == {id(module.blocks[0].weight)}
    assert stepped_by[1] == {id(module.last.weight), id(module.last.bias)}
    rates = [schedule.get_last_lr()[0] for schedule in optimizing.schedules]
    assert rates[1] == pytest.approx(BESIDE_MUON * rates[0])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_muon_goes_equally_far_in_every_direction_of_a_matrix_and_as_far_as_adamw_would(precision):
    torch.manual_seed(0)
    module = TwoLayers()
    before = module.blocks[0].weight.detach().clone()
    with precision_of("cpu", precision):
        optimizing = Optimizing.of(module, rate=0.1, updates=10, decays=False, name="muon")
    optimizing.go_to(WARM_UP_UPDATES)
    stepped([module(torch.randn(16, 3)).square().sum()], module, optimizing)
    step = before - module.blocks[0].weight.detach()
    sizes = torch.linalg.svdvals(step)
    assert float(sizes.max() / sizes.min()) < 2  # Newton and Schulz get within a factor of two
    assert float(step.square().mean().sqrt()) == pytest.approx(0.1 * 0.2, rel=0.4)


def test_a_step_of_muon_goes_down_the_loss():
    torch.manual_seed(0)
    module, x = TwoLayers(), torch.randn(16, 3)
    optimizing = Optimizing.of(module, rate=0.02, updates=10, decays=False, name="muon")
    losses = [stepped([module(x).square().mean()], module, optimizing) for _ in range(10)]
    assert losses[-1] < losses[0]
