"""What the loss counts, what each way of forcing shows a frame, and which levels are drawn."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from daemon.learning.world_model.attention import Order
from daemon.learning.world_model.latents import LatentWindows
from daemon.learning.world_model.model import Sampling, WorldModel
from daemon.learning.world_model.objective import (
    CONTEXT_LEVELS,
    VISITED_SHARE,
    Forcing,
    draw_levels,
    forcing_loss,
    place_weights,
    teacher_order,
)
from daemon.learning.world_model.sampling import FrameSampler
from daemon.learning.world_model.schedule import VPrediction, noise_schedule
from daemon.learning.world_model.slots import while_imagined
from daemon.learning.world_model.transformer import WorldModelTransformer

WALK = (999, 499)
CONFIG = SimpleNamespace(
    action_slot="produced_frame", told_path=False
)  # all that the loss asks of a transformer's config


class Constant(torch.nn.Module):
    """Always believes that the clean latents are these, off by a constant; keeps what it was shown."""

    config = CONFIG

    def __init__(self, latents: Tensor, *, off: float = 0.0) -> None:
        super().__init__()
        self.latents, self.off = latents, off
        self.actions = self.levels = torch.empty(0)

    def forward(self, x: Tensor, timesteps: Tensor, actions: Tensor, *, order: Order | None) -> Tensor:
        self.actions, self.levels = actions, timesteps
        at = torch.arange(x.shape[1]) if order is None else order.positions
        power = VPrediction().error_weight(timesteps)[..., None, None, None]
        clean = self.latents[:, at] + self.off
        return (x * (1 - power).sqrt() - clean) / power.sqrt()  # the velocity that implies them


def forcing(way: str = "teacher", *, weights: Tensor | None = None, dropout: float = 0.0) -> Forcing:
    return Forcing(
        way=way,  # type: ignore[arg-type]
        schedule=VPrediction(),
        walk=WALK,
        weights=torch.ones(8, 8) if weights is None else weights,
        action_dropout=dropout,
    )


def windows_of(latents: Tensor, moves: Tensor, paths: Tensor | None = None) -> LatentWindows:
    return LatentWindows(
        latents=latents,
        actions=moves,
        paths=torch.zeros(len(latents), 6) if paths is None else paths,
        weights=torch.ones(*latents.shape[:2], *latents.shape[3:]),
        episode_ids=("e",) * len(latents),
    )


def loss_of(model: torch.nn.Module, latents: Tensor, asked: Forcing, actions: Tensor | None = None) -> float:
    moves = torch.zeros(*latents.shape[:1], latents.shape[1] - 1, 10) if actions is None else actions
    generator = torch.Generator().manual_seed(0)
    return forcing_loss(model, windows_of(latents, moves), forcing=asked, generator=generator).item()  # type: ignore[arg-type]


def some_latents(frames: int = 5) -> Tensor:
    return torch.randn(3, frames, 4, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("way", ["teacher", "diffusion"])
def test_the_loss_is_the_squared_error_of_the_implied_clean_latents(way: str):
    latents = some_latents()
    assert loss_of(Constant(latents), latents, forcing(way)) == pytest.approx(0, abs=1e-4)
    assert loss_of(Constant(latents, off=0.3), latents, forcing(way)) == pytest.approx(0.09, rel=0.02)


def test_a_teachers_window_shows_every_frame_twice_nearly_clean_and_noisy():
    order = teacher_order(4)
    assert order.positions.tolist() == [0, 1, 2, 3, 1, 2, 3]
    sees = ["".join("x" if seen else "." for seen in row) for row in order.mask(window=9) == 0]
    assert sees == [
        "x......",
        "xx.....",
        "xxx....",
        "xxxx...",
        "x...x..",
        "xx...x.",
        "xxx...x",
    ]
    narrow = ["".join("x" if seen else "." for seen in row) for row in order.mask(window=2) == 0]
    assert narrow[3] == "..xx..."
    assert narrow[6] == "..x...x"


def test_a_teachers_context_is_nearly_clean_and_what_is_asked_is_not():
    model = Constant(some_latents(6))
    loss_of(model, some_latents(6), forcing("teacher"))
    assert model.levels.shape == (3, 11)
    assert int(model.levels[:, :6].max()) < CONTEXT_LEVELS
    assert float((model.levels[:, 6:] >= CONTEXT_LEVELS).float().mean()) > 0.7


@pytest.mark.parametrize("way", ["teacher", "diffusion"])
@pytest.mark.parametrize(
    ("slot", "told", "asked"),
    [("produced_frame", [0, 1, 2, 3, 4], [1, 2, 3, 4]), ("acts_at_frame", [1, 2, 3, 4, 0], [0, 0, 0, 0])],
)
def test_training_puts_actions_where_the_checkpoint_expects_them(
    way: str, slot: str, told: list[int], asked: list[int]
):
    model = Constant(some_latents(5))
    model.config = SimpleNamespace(action_slot=slot, told_path=False)
    moves = torch.arange(1.0, 5.0)[None, :, None].expand(3, -1, 10)
    loss_of(model, some_latents(5), forcing(way), moves)
    assert model.actions[0, :, 0].tolist() == told + (asked if way == "teacher" else [])


@pytest.mark.parametrize(
    ("way", "shown"), [("teacher", [5, 6, 8, 11, 6, 8, 11]), ("diffusion", [5, 6, 8, 11])]
)
def test_training_tells_every_frame_its_path(way: str, shown: list[float]):
    latents = some_latents(4)
    model = Constant(latents)
    model.config = SimpleNamespace(action_slot="produced_frame", told_path=True)
    moves = torch.arange(1.0, 4.0)[None, :, None].expand(3, -1, 10)
    windows = windows_of(latents, moves, torch.full((3, 6), 5.0))
    forcing_loss(model, windows, forcing=forcing(way), generator=torch.Generator())  # type: ignore[arg-type]
    assert model.actions.shape[2] == 16
    assert model.actions[0, :, 10].tolist() == shown
    untold = forcing(way, dropout=1.0)
    forcing_loss(model, windows, forcing=untold, generator=torch.Generator())  # type: ignore[arg-type]
    assert model.actions[0, 0].tolist() == [0] * 9 + [1] + [0] * 6, "a path would tell the actions"


def test_some_windows_are_told_none_of_their_actions():
    latents = some_latents(4).repeat(100, 1, 1, 1, 1)
    model, moves = Constant(latents), torch.ones(300, 3, 10)
    loss_of(model, latents, forcing(dropout=0.3), moves)
    untold = (model.actions[..., :9] == 0).all(-1) & (model.actions[..., 9] == 1)  # [B, F]
    assert torch.equal(untold.all(1), untold.any(1)), "whole windows"
    assert float(untold.all(1).float().mean()) == pytest.approx(0.3, abs=0.08)


def test_levels_are_those_that_imagination_visits_and_some_from_anywhere():
    noisy, context = draw_levels(400, 50, walk=WALK, generator=torch.Generator().manual_seed(0))
    for level in WALK:
        share = float((noisy == level).float().mean())
        assert share == pytest.approx(VISITED_SHARE / 2, abs=0.01)
    elsewhere = noisy[(noisy != 999) & (noisy != 499)].float()
    assert float(elsewhere.mean()) == pytest.approx(499.5, rel=0.03)
    assert (int(context.min()), int(context.max())) == (0, CONTEXT_LEVELS - 1)


def test_frames_of_one_window_have_levels_of_their_own():
    levels = draw_levels(300, 8, walk=WALK, generator=torch.Generator().manual_seed(0))[0].float()
    correlation = torch.corrcoef(levels.T)
    assert float((correlation - torch.eye(8)).abs().max()) < 0.25


@torch.no_grad()
@pytest.mark.parametrize("action_slot", ["produced_frame", "acts_at_frame"])
def test_a_teacher_shows_a_frame_what_imagination_shows_it(tiny_world_model: WorldModel, action_slot: str):
    """One step from noise, context at one level: the trained numbers are the imagined ones, slot and all."""
    transformer = tiny_world_model.transformer
    transformer.register_to_config(action_slot=action_slot)
    tiny_world_model.sampling = Sampling(denoise_steps=1)
    schedule = noise_schedule("v_prediction")
    sampler = FrameSampler(tiny_world_model)
    first = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    moves = torch.randn(1, 3, 10, generator=torch.Generator().manual_seed(5))
    sampler.start(first, [6])
    imagined = sampler.advance(moves)
    own = torch.Generator().manual_seed(6)
    noise = torch.stack([torch.randn(4, 8, 8, generator=own) for _ in range(3)])[None]
    context = schedule.dimmed(torch.cat((first[:, None], imagined), dim=1), 14)
    slots = {"produced_frame": [0, 1, 2, 3], "acts_at_frame": [1, 2, 3, 0]}[action_slot]
    told = torch.cat((torch.zeros(1, 1, 10), moves), dim=1)[:, slots]
    asked = while_imagined(told, action_slot)[:, 1:]  # type: ignore[arg-type]
    schedule.walk(1)
    predicted = transformer(
        torch.cat((context, noise), dim=1),
        torch.tensor([[14] * 4 + [999] * 3]),
        torch.cat((told, asked), dim=1),
        order=teacher_order(4),
    )[:, 4:]
    trained = torch.stack([schedule.stepped(predicted[:, f], 999, noise[:, f]) for f in range(3)], dim=1)
    assert torch.allclose(trained, imagined, atol=1e-3, rtol=1e-4)


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


@pytest.mark.parametrize("way", ["teacher", "diffusion"])
def test_weights_scale_the_error_of_their_place(way: str):
    latents, weights = some_latents(), torch.zeros(8, 8)
    weights[:4] = 2
    model = Constant(torch.zeros_like(latents))
    whole = loss_of(model, latents, forcing(way))
    assert loss_of(model, latents, forcing(way, weights=weights)) == pytest.approx(whole, rel=0.1)
    assert loss_of(model, latents, forcing(way, weights=weights * 0)) == 0


@pytest.mark.parametrize("way", ["teacher", "diffusion"])
def test_the_gradient_pulls_the_prediction_towards_the_target(way: str):
    torch.manual_seed(0)
    model = WorldModelTransformer(in_channels=4, dim=32, layers=1, heads=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    def loss() -> Tensor:
        generator, zeros = torch.Generator().manual_seed(0), torch.zeros(3, 4, 10)
        windows = windows_of(some_latents(), zeros)
        return forcing_loss(model, windows, forcing=forcing(way), generator=generator)

    before = loss()
    before.backward()
    optimizer.step()
    assert loss().item() < before.item()


@pytest.mark.parametrize(("way", "at_first"), [("teacher", 0.0), ("diffusion", 1.0)])
def test_an_emphasised_place_counts_in_its_frame_alone(way: str, at_first: float):
    """The error is 1 at one place of frame 2, of 3 windows, 5 frames and 64 places, and counts 1 or 11."""
    latents = some_latents()
    wrong = latents.clone()
    wrong[:, 2, :, 4, 5] += 1
    windows = windows_of(latents, torch.zeros(3, 4, 10))

    def loss(place: tuple[int, int, int], model: Constant) -> float:
        weights = windows.weights.clone()
        weights[:, *place] += 10
        seen, generator = replace(windows, weights=weights), torch.Generator().manual_seed(0)
        return forcing_loss(model, seen, forcing=forcing(way), generator=generator).item()  # type: ignore[arg-type]

    asked = 4 if way == "teacher" else 5  # a teacher never asks for the first frame
    assert loss((1, 4, 5), Constant(wrong)) == pytest.approx(1 / asked / 64, rel=0.05), "another frame"
    assert loss((2, 4, 4), Constant(wrong)) == pytest.approx(1 / asked / 64, rel=0.05), "another place"
    assert loss((2, 4, 5), Constant(wrong)) == pytest.approx(11 / asked / 64, rel=0.05)
    off = Constant(latents, off=1.0)
    assert loss((0, 0, 0), off) == pytest.approx(1 + at_first * 10 / 5 / 64, rel=0.002)
