"""The shared optimizer loop: it descends, reports, and stops before a bad update touches the weights."""

import pytest
import torch
from torch import Tensor, nn

from daemon.learning.descent import Descent, descend, rate, require_finite
from daemon.learning.errors import NonFiniteLoss


def plan(updates: int = 60, **changes: float) -> Descent:
    return Descent(**{"phase": "trial", "updates": updates, "lr": 0.1, "weight_decay": 0.0, **changes})


def line() -> nn.Linear:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    return module


def fit(module: nn.Linear, target: float = 2.0) -> tuple[Tensor, dict[str, Tensor]]:
    loss = (module(torch.ones(1, 1)) - target).square().mean()
    return loss, {"weight": module.weight.detach().clone().squeeze()}


def test_it_finds_the_minimum() -> None:
    module = line()
    last = descend(module, lambda: fit(module), plan=plan(200), on_update=lambda *_: None)
    assert module.weight.item() == pytest.approx(2.0, abs=0.02)
    assert last["loss"] < 1e-3


def test_each_update_is_told_with_its_number_and_metrics() -> None:
    module, told = line(), []
    descend(module, lambda: fit(module), plan=plan(5), on_update=lambda n, m: told.append((n, m)))
    assert [number for number, _ in told] == [1, 2, 3, 4, 5]
    assert set(told[0][1]) == {"loss", "grad_norm", "weight"}
    assert told[0][1] == {"loss": 4.0, "grad_norm": 4.0, "weight": 0.0}  # (0 - 2)² and its slope
    assert all(isinstance(value, float) for _, metrics in told for value in metrics.values())


def test_the_result_is_the_mean_over_the_last_tenth() -> None:
    module, losses = line(), []
    last = descend(
        module, lambda: fit(module), plan=plan(30), on_update=lambda _, m: losses.append(m["loss"])
    )
    assert last["loss"] == pytest.approx(sum(losses[-3:]) / 3)


def test_no_updates_change_nothing_and_measure_nothing() -> None:
    module = line()
    assert descend(module, lambda: fit(module), plan=plan(0), on_update=lambda *_: None) == {}
    assert module.weight.item() == 0.0


def test_the_module_trains_in_training_mode_and_is_left_in_evaluation_mode() -> None:
    module, modes = line(), []

    def batch() -> tuple[Tensor, dict[str, Tensor]]:
        modes.append(module.training)
        return fit(module)

    descend(module.eval(), batch, plan=plan(2), on_update=lambda *_: None)
    assert modes == [True, True]
    assert not module.training


def test_the_rate_rises_shortly_then_falls_to_nothing() -> None:
    rates = [rate(done, 200) for done in range(200)]
    peak = rates.index(max(rates))
    assert 10 <= peak <= 30
    assert max(rates) == 1.0
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] > 0
    assert 0 < rates[-1] < 0.01
    assert rate(200, 200) == pytest.approx(0.0)


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_even_the_shortest_training_moves(updates: int) -> None:
    module = line()
    descend(module, lambda: fit(module), plan=plan(updates), on_update=lambda *_: None)
    assert module.weight.item() != 0.0


def test_a_long_gradient_is_cut_to_the_allowed_norm() -> None:
    module, norms = line(), []
    descend(
        module,
        lambda: fit(module, target=1e6),
        plan=plan(1),
        on_update=lambda _, m: norms.append(m["grad_norm"]),
    )
    assert norms[0] == pytest.approx(2e6)  # reported before the cut
    assert module.weight.grad is not None
    assert float(module.weight.grad.abs()) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(poison: float) -> None:
    module, seen = line(), []

    def batch() -> tuple[Tensor, dict[str, Tensor]]:
        loss, extra = fit(module)
        return (loss * poison, extra) if len(seen) == 3 else (loss, extra)

    def remember(number: int, _: dict[str, float]) -> None:
        seen.append(module.weight.item())

    with pytest.raises(NonFiniteLoss, match="update 4") as stopped:
        descend(module, batch, plan=plan(10), on_update=remember)
    assert stopped.value.update == 4
    assert stopped.value.code == "non_finite_loss"
    assert module.weight.item() == seen[-1]
    assert len(seen) == 3
    assert not module.training


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    module = line()

    def batch() -> tuple[Tensor, dict[str, Tensor]]:
        zero = module(torch.zeros(1, 1)).abs().sum()
        return zero.sqrt(), {}  # finite loss 0, but the slope of the root at 0 is not

    with pytest.raises(NonFiniteLoss, match="grad norm"):
        descend(module, batch, plan=plan(3), on_update=lambda *_: None)
    assert module.weight.item() == 0.0


def test_finite_quantities_pass() -> None:
    require_finite("trial", 1, loss=torch.tensor(0.0), grad_norm=torch.tensor(1e30))


def test_the_first_broken_quantity_is_named() -> None:
    with pytest.raises(NonFiniteLoss, match=r"trial stopped at update 7: grad norm is not finite"):
        require_finite("trial", 7, loss=torch.tensor(0.0), grad_norm=torch.tensor(torch.nan))
