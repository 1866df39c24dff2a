"""What the loss counts, which action belongs to which frame, and how often context is nearly clean."""

import pytest
import torch
from torch import Tensor

from daemon.learning.world_model.objective import (
    CONTEXT_LEVELS,
    draw_levels,
    forcing_loss,
    place_weights,
    produced_by,
)
from daemon.learning.world_model.schedule import NoiseSchedule
from daemon.learning.world_model.transformer import WorldModelTransformer


class Oracle(torch.nn.Module):
    """Knows the clean latents, and is off by a constant in every one of them."""

    def __init__(self, latents: Tensor, *, off: float) -> None:
        super().__init__()
        self.latents, self.off, self.schedule = latents, off, NoiseSchedule()
        self.actions = torch.empty(0)

    def forward(self, x: Tensor, timesteps: Tensor, actions: Tensor) -> Tensor:
        self.actions = actions
        power = self.schedule.noise_power(timesteps)[..., None, None, None]
        noise = (x - (1 - power).sqrt() * self.latents) / power.sqrt()
        return (1 - power).sqrt() * noise - power.sqrt() * (self.latents + self.off / power)


def loss_of(model: torch.nn.Module, latents: Tensor, weights: Tensor | None = None, seed: int = 0) -> float:
    return forcing_loss(
        model,  # type: ignore[arg-type]
        latents,
        torch.zeros(*latents.shape[:1], latents.shape[1] - 1, 10),
        schedule=NoiseSchedule(),
        weights=torch.ones(latents.shape[-2:]) if weights is None else weights,
        generator=torch.Generator().manual_seed(seed),
    ).item()


def some_latents(frames: int = 5) -> Tensor:
    return torch.randn(3, frames, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def test_perfect_prediction_costs_nothing():
    latents = some_latents()
    assert loss_of(Oracle(latents, off=0.0), latents) == pytest.approx(0, abs=1e-4)


def test_the_loss_is_the_squared_error_of_the_implied_clean_latents():
    """Predicting only the mean (zero) of unit latents errs by their variance times the noise share."""
    latents, schedule = some_latents(), NoiseSchedule()
    levels = draw_levels(3, 5, generator=torch.Generator().manual_seed(0))

    class Zero(torch.nn.Module):
        def forward(self, x: Tensor, timesteps: Tensor, actions: Tensor) -> Tensor:
            assert torch.equal(timesteps, levels)
            power = schedule.noise_power(timesteps)[..., None, None, None]
            return x * (1 - power).sqrt() / power.sqrt()  # the velocity whose clean latents are zero

    assert loss_of(Zero(), latents) == pytest.approx(float(latents.square().mean()), rel=1e-3)


def test_actions_stand_in_the_slot_of_the_frame_they_produce():
    actions = torch.arange(1.0, 4.0)[None, :, None].expand(2, 3, 10)
    slots = produced_by(actions)
    assert slots.shape == (2, 4, 10)
    assert slots[0, :, 0].tolist() == [0, 1, 2, 3], "frame 0 was produced by nothing, frame 1 by action 0"


def test_half_of_the_frames_are_nearly_clean_and_the_rest_are_anywhere():
    levels = draw_levels(400, 50, generator=torch.Generator().manual_seed(0))
    assert levels.shape == (400, 50)
    assert (int(levels.min()), int(levels.max())) == (0, 999)
    share = float((levels < CONTEXT_LEVELS).float().mean())
    assert share == pytest.approx(0.5 + 0.5 * CONTEXT_LEVELS / 1000, abs=0.01)
    noisy = levels[levels >= CONTEXT_LEVELS].float()
    assert float(noisy.mean()) == pytest.approx((CONTEXT_LEVELS + 999) / 2, rel=0.02)


def test_frames_of_one_window_have_levels_of_their_own():
    levels = draw_levels(200, 8, generator=torch.Generator().manual_seed(0)).float()
    correlation = torch.corrcoef(levels.T)
    assert float((correlation - torch.eye(8)).abs().max()) < 0.25


def test_a_place_where_more_moves_weighs_more_but_never_everything():
    movement = torch.ones(8, 8)
    movement[2, 3] = 3
    movement[5, 5] = 1000
    weights = place_weights(movement)
    assert float(weights[5, 5]) == pytest.approx(4.0)
    assert float(weights[0, 0]) > 0.5
    assert float(weights[2, 3]) > float(weights[0, 0])


def test_where_everything_moves_alike_every_place_weighs_one():
    assert torch.allclose(place_weights(torch.full((8, 8), 0.3)), torch.ones(8, 8))
    assert torch.allclose(place_weights(torch.zeros(8, 8)), torch.ones(8, 8)), "clips in which nothing moves"


def test_weights_scale_the_error_of_their_place():
    latents, weights = some_latents(), torch.zeros(8, 8)
    weights[:4] = 2
    half = loss_of(WorldModelTransformer(in_channels=4, dim=32, layers=1, heads=2), latents, weights)
    whole = loss_of(WorldModelTransformer(in_channels=4, dim=32, layers=1, heads=2), latents)
    assert half == pytest.approx(whole, rel=0.1), "half of the places, twice as heavy"
    assert loss_of(WorldModelTransformer(in_channels=4, dim=32, layers=1, heads=2), latents, weights * 0) == 0


def test_the_gradient_pulls_the_prediction_towards_the_velocity():
    torch.manual_seed(0)
    model = WorldModelTransformer(in_channels=4, dim=32, layers=1, heads=2)
    latents = some_latents()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    def loss() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        ones = torch.ones(8, 8)
        zeros = torch.zeros(3, 4, 10)
        return forcing_loss(
            model, latents, zeros, schedule=NoiseSchedule(), weights=ones, generator=generator
        )

    before = loss()
    before.backward()
    optimizer.step()
    assert loss().item() < before.item()
