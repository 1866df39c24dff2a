"""The imagined robot answers like the real one: reset, step by chunks, look when needed."""

import pytest
import torch
from torch import Tensor

from daemon.learning.errors import BadTensor
from daemon.learning.imagine import ImaginedEnv, NothingImagined
from daemon.learning.world_model.model import WorldModel, nano_world_model


@pytest.fixture
def world_model() -> WorldModel:
    """Tiny and random in every weight, so that each action and each noise shows."""
    model = nano_world_model(seed=0, in_channels=4, dim=32, layers=1, heads=2, max_frames=4)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in [*model.transformer.parameters(), *model.autoencoder.parameters()]:
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    model.precision = torch.float32
    return model


def pictures(batch: int = 2) -> Tensor:
    return torch.randint(
        256, (batch, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def chunk(length: int = 3, *, batch: int = 2) -> Tensor:
    moves = torch.randn(batch, length, 7, generator=torch.Generator().manual_seed(2)) * 0.03
    moves[..., 6] = 1.0
    return moves


def started(world_model: WorldModel, *, seed: int = 0) -> ImaginedEnv:
    env = ImaginedEnv(world_model, seed=seed)
    env.reset(pictures())
    return env


def test_a_chunk_is_answered_by_the_observation_after_it(world_model: WorldModel):
    env = started(world_model)
    observed = env.step(chunk())
    assert observed.shape == (2, 3, 64, 64)
    assert observed.dtype == torch.uint8
    assert env.steps == 3
    assert torch.equal(observed, env.film()[:, -1])


def test_chunks_of_any_cut_imagine_the_same(world_model: WorldModel):
    whole, cut = started(world_model), started(world_model)
    whole.step(chunk(5))
    for part in chunk(5).split([2, 1, 2], dim=1):
        cut.step(part)
    assert torch.allclose(whole.latents(), cut.latents(), atol=1e-5)


def test_the_same_seed_imagines_the_same_and_another_seed_another(world_model: WorldModel):
    films = []
    for seed in (1, 1, 2):
        env = started(world_model, seed=seed)
        env.step(chunk())
        films.append(env.latents())
    assert torch.equal(films[0], films[1])
    assert not torch.allclose(films[0][:, 1:], films[2][:, 1:], atol=1e-3)


def test_reset_with_a_seed_repeats_a_rollout_and_without_goes_on(world_model: WorldModel):
    env = ImaginedEnv(world_model, seed=0)
    seen = []
    for seed in (9, 9, None):
        env.reset(pictures(), seed=seed)
        env.step(chunk())
        seen.append(env.latents())
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[1], seen[2], atol=1e-3)


def test_a_film_begins_with_the_first_observation_and_keeps_every_so_many(world_model: WorldModel):
    env = started(world_model)
    env.step(chunk(5))
    film = env.film()
    assert film.shape == (2, 6, 3, 64, 64)
    assert torch.equal(film[:, 0], world_model.decode(world_model.encode(pictures())))
    assert torch.equal(env.film(every=2), film[:, ::2])
    assert torch.equal(env.recent_frames(3), film[:, 3:])


def test_the_first_observation_repeats_when_fewer_were_made(world_model: WorldModel):
    env = started(world_model)
    env.step(chunk(1))
    recent, film = env.recent_frames(4), env.film()
    assert recent.shape[1] == 4
    assert torch.equal(recent[:, 2:], film)
    assert torch.equal(recent[:, 0], film[:, 0])


def test_rollouts_of_a_batch_are_told_apart(world_model: WorldModel):
    env, other = started(world_model), started(world_model)
    env.step(chunk())
    moved = chunk()
    moved[1] += 0.02
    other.step(moved)
    assert torch.allclose(env.latents()[0], other.latents()[0], atol=1e-5)
    assert not torch.allclose(env.latents()[1], other.latents()[1], atol=1e-3)


def test_only_frames_that_somebody_looks_at_are_decoded(world_model: WorldModel):
    env, decoded = started(world_model), []
    world_model.autoencoder.decoder.register_forward_pre_hook(
        lambda _module, given: decoded.append(len(given[0]))
    )
    env.step(chunk(5))
    assert decoded == [2], "one picture per rollout for five actions"
    env.recent_frames(3)
    assert decoded == [2, 6]


def test_passes_through_the_transformer_are_counted(world_model: WorldModel):
    env = started(world_model)
    env.step(chunk(5))
    assert env.frame_passes == 5 * (world_model.sampling.denoise_steps + 1)


@pytest.mark.parametrize("ask", ["film", "latents", "recent_frames", "step"])
def test_nothing_can_be_asked_before_the_first_reset(world_model: WorldModel, ask: str):
    env = ImaginedEnv(world_model, seed=0)
    arguments = {"recent_frames": [3], "step": [chunk()]}.get(ask, [])
    with pytest.raises(NothingImagined, match=ask) as refused:
        getattr(env, ask)(*arguments)
    assert refused.value.code == "nothing_imagined"
    assert env.steps == 0


@pytest.mark.parametrize(
    "actions",
    [
        chunk(batch=3),
        chunk()[:, 0],
        chunk()[:, :0],
        chunk()[..., :6],
        torch.full((2, 3, 7), float("nan")),
    ],
)
def test_bad_actions_are_refused_and_nothing_is_imagined(world_model: WorldModel, actions: Tensor):
    env = started(world_model)
    with pytest.raises(BadTensor, match="actions"):
        env.step(actions)
    assert env.steps == 0
    assert env.frame_passes == 0


def test_a_bad_reset_leaves_the_rollouts_before_as_they_were(world_model: WorldModel):
    env = started(world_model)
    env.step(chunk())
    before = env.latents()
    with pytest.raises(BadTensor):
        env.reset(pictures().float(), seed=5)
    assert torch.equal(env.latents(), before)
