"""Windows that show the model's own imagination as context, and ask for the real frames all the same."""

import pytest
import torch
from torch import Tensor

from daemon.learning.world_model.attention import Order
from daemon.learning.world_model.latents import LatentWindows
from daemon.learning.world_model.model import Sampling, WorldModel
from daemon.learning.world_model.objective import OWN_CONTEXT_LEVELS, Forcing, OwnContext, forcing_loss
from daemon.learning.world_model.own_context import own_context
from daemon.learning.world_model.sampling import FrameSampler
from daemon.learning.world_model.schedule import VPrediction
from daemon.learning.world_model.training import OwnContextInvalid, TrainingConfig
from daemon.learning.world_model.transformer import WorldModelTransformer

BATCH, FRAMES = 4, 5


@pytest.fixture
def windows() -> LatentWindows:
    generator = torch.Generator().manual_seed(4)
    return LatentWindows(
        latents=torch.randn(BATCH, FRAMES, 4, 8, 8, generator=generator),
        actions=torch.randn(BATCH, FRAMES - 1, 10, generator=generator),
        paths=torch.randn(BATCH, 6, generator=generator),
        weights=torch.ones(BATCH, FRAMES, 8, 8),
        episode_ids=tuple("abcd"),
    )


def drawn(model: WorldModel, windows: LatentWindows, *, share: float, seed: int = 0) -> OwnContext:
    found = own_context(model, windows, share=share, generator=torch.Generator().manual_seed(seed))
    assert found is not None
    return found


class Watched(WorldModelTransformer):
    """Keeps what the loss shows it and what it answers."""

    def forward(self, x: Tensor, timesteps: Tensor, actions: Tensor, *, order: Order | None = None) -> Tensor:
        self.shown, self.levels = x, timesteps
        self.answer: Tensor = super().forward(x, timesteps, actions, order=order)
        return self.answer


def watched(model: WorldModel) -> Watched:
    config = {name: value for name, value in model.transformer.config.items() if name[0] != "_"}
    seen = Watched(**config)
    seen.load_state_dict(model.transformer.state_dict())
    return seen.eval()


def loss_of(model: WorldModelTransformer, windows: LatentWindows, own: OwnContext | None) -> Tensor:
    forcing = Forcing(way="teacher", schedule=VPrediction(), walk=(999, 499), weights=torch.ones(8, 8))
    generator = torch.Generator().manual_seed(1)
    return forcing_loss(model, windows, forcing=forcing, generator=generator, own=own)


def test_own_context_is_what_imagination_makes_of_the_first_frame(
    told_world_model: WorldModel, windows: LatentWindows
):
    own = drawn(told_world_model, windows, share=1.0)
    assert own.windows.all()
    generator = torch.Generator().manual_seed(0)
    torch.rand((), generator=generator)
    order = torch.randperm(BATCH, generator=generator)
    seeds = torch.randint(2**62, (BATCH,), generator=generator).tolist()
    told_world_model.sampling = Sampling(denoise_steps=1)
    sampler = FrameSampler(told_world_model)
    sampler.start(windows.latents[order, 0], seeds, paths=windows.paths[order])
    expected = sampler.advance(windows.actions[order])
    assert torch.equal(own.frames[order, 1:], expected)
    assert torch.equal(own.frames[:, 0], windows.latents[:, 0]), "it begins at the real frame"
    assert not own.frames.requires_grad


def test_only_its_share_of_windows_is_imagined(tiny_world_model: WorldModel, windows: LatentWindows):
    own = drawn(tiny_world_model, windows, share=0.5)
    assert int(own.windows.sum()) == 2
    alike = (own.frames == windows.latents).flatten(1).all(1)
    assert torch.equal(alike, ~own.windows)
    picked = {tuple(drawn(tiny_world_model, windows, share=0.5, seed=s).windows.tolist()) for s in range(12)}
    assert len(picked) > 3, "every window has its turn"


def test_a_share_that_cuts_a_window_is_kept_on_average(tiny_world_model: WorldModel, windows: LatentWindows):
    generator = torch.Generator().manual_seed(0)
    counts = []
    for _ in range(60):
        own = own_context(tiny_world_model, windows, share=0.1, generator=generator)
        counts.append(0 if own is None else int(own.windows.sum()))
    assert set(counts) == {0, 1}
    assert sum(counts) / 60 == pytest.approx(0.4, abs=0.15)


def test_without_a_share_nothing_is_drawn(tiny_world_model: WorldModel, windows: LatentWindows):
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    assert own_context(tiny_world_model, windows, share=0.0, generator=generator) is None
    assert torch.equal(generator.get_state(), before)


def test_the_loss_changes_for_those_windows_alone(tiny_world_model: WorldModel, windows: LatentWindows):
    model = watched(tiny_world_model)
    own = drawn(tiny_world_model, windows, share=0.5)
    with torch.no_grad():
        plain = loss_of(model, windows, None)
        usual, levels = model.answer, model.levels
        changed = loss_of(model, windows, own)
    alike = (model.answer == usual).flatten(1).all(1)
    assert torch.equal(alike, ~own.windows)
    assert float(changed) != float(plain)
    assert torch.equal(model.levels[~own.windows], levels[~own.windows])
    assert torch.equal(model.levels[:, FRAMES:], levels[:, FRAMES:]), "what is asked stays as noisy as it was"
    assert int(model.levels[own.windows, :FRAMES].max()) < OWN_CONTEXT_LEVELS
    assert int(levels[own.windows, :FRAMES].max()) > OWN_CONTEXT_LEVELS


def test_what_is_to_be_predicted_stays_the_real_frame(tiny_world_model: WorldModel, windows: LatentWindows):
    """Noisy frames hold the real one, and one that knows it has no loss, whatever the context shows."""
    model = watched(tiny_world_model)
    own = drawn(tiny_world_model, windows, share=1.0)
    with torch.no_grad():
        loss_of(model, windows, None)
        noisy = model.shown[:, FRAMES:]
        loss_of(model, windows, own)
    assert torch.equal(model.shown[:, FRAMES:], noisy)
    clean = VPrediction().noised(own.frames, torch.zeros_like(own.frames), model.levels[:, :FRAMES])
    assert float((model.shown[:, :FRAMES] - clean).square().mean()) < 0.05, "context is what was imagined"

    class Knowing(torch.nn.Module):
        config = tiny_world_model.transformer.config

        def forward(self, x: Tensor, timesteps: Tensor, _actions: Tensor, *, order: Order) -> Tensor:
            power = VPrediction().error_weight(timesteps)[..., None, None, None]
            return (x * (1 - power).sqrt() - windows.latents[:, order.positions]) / power.sqrt()

    assert float(loss_of(Knowing(), windows, own)) == pytest.approx(0, abs=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float):
    with pytest.raises(OwnContextInvalid, match=rf"share from 0 to 1.*found {share} with teacher forcing"):
        TrainingConfig(updates=1, own_context=share)


def test_diffusion_forcing_has_no_context_to_replace():
    with pytest.raises(OwnContextInvalid, match=r"found 0.5 with diffusion forcing"):
        TrainingConfig(updates=1, own_context=0.5, forcing="diffusion")
    TrainingConfig(updates=1, own_context=0.0, forcing="diffusion")
