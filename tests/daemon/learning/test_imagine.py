"""The imagined robot answers like the real one: reset, step by chunks, look when needed."""

import pytest
import torch
from torch import Tensor

from daemon.learning.errors import BadTensor
from daemon.learning.imagine import ImaginedEnv, NothingImagined
from daemon.learning.world_model.model import WorldModel, nano_world_model, with_stride


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


def test_reset_with_seeds_repeats_rollouts_and_without_draws_new_ones(world_model: WorldModel):
    env = ImaginedEnv(world_model, seed=0)
    seen = []
    for seeds in ([9, 4], [9, 4], None):
        env.reset(pictures(), seeds=seeds)
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


def test_a_rollout_does_not_depend_on_its_neighbours(world_model: WorldModel):
    env, alone = ImaginedEnv(world_model, seed=0), ImaginedEnv(world_model, seed=1)
    env.reset(pictures(3), seeds=[5, 6, 7])
    env.step(chunk(batch=3))
    alone.reset(pictures(3)[2:], seeds=[7])
    alone.step(chunk(batch=3)[2:])
    assert torch.allclose(env.latents()[2], alone.latents()[0], rtol=1e-4, atol=1e-3)


def test_members_of_a_group_can_share_their_noise(world_model: WorldModel):
    images, moves = pictures(2).repeat_interleave(2, dim=0), chunk(batch=1).expand(4, -1, -1)
    shared, own = ImaginedEnv(world_model, seed=0), ImaginedEnv(world_model, seed=0)
    for env, seeds in ((shared, (5, 5, 6, 6)), (own, None)):
        env.reset(images, seeds=seeds)
        env.step(moves)
    frames = shared.latents()[:, 1:]
    assert torch.allclose(frames[0], frames[1], rtol=1e-4, atol=1e-3)
    assert torch.allclose(frames[2], frames[3], rtol=1e-4, atol=1e-3)
    assert not torch.allclose(frames[0], frames[2], atol=0.1)
    assert not torch.allclose(own.latents()[0, 1:], own.latents()[1, 1:], atol=0.1)


def test_equal_first_images_next_to_each_other_are_encoded_once(world_model: WorldModel):
    env, encoded = ImaginedEnv(world_model, seed=0), []
    world_model.autoencoder.encoder.register_forward_pre_hook(
        lambda _module, given: encoded.append(len(given[0]))
    )
    env.reset(pictures(2).repeat_interleave(4, dim=0))
    assert encoded == [2]
    assert torch.allclose(env.latents()[::4, 0], world_model.encode(pictures(2)))
    assert torch.equal(env.latents()[0], env.latents()[3])


def test_there_is_one_seed_per_rollout_or_none(world_model: WorldModel):
    env = started(world_model)
    with pytest.raises(BadTensor, match="seeds should be 2 of them, found 3"):
        env.reset(pictures(), seeds=[1, 2, 3])


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
        env.reset(pictures().float(), seeds=[5, 5])
    assert torch.equal(env.latents(), before)


@pytest.fixture
def strided(world_model: WorldModel) -> WorldModel:
    """The same one, imagining every third step."""
    return with_stride(world_model, 3, max_frames=4)


def test_with_a_stride_steps_are_counted_in_actions_and_films_are_as_long(strided: WorldModel):
    env = started(strided)
    env.step(chunk(6))
    assert env.steps == 6
    assert env.frame_passes == 2 * (strided.sampling.denoise_steps + 1)
    film, latents = env.film(), env.latents()
    assert film.shape[1] == latents.shape[1] == 7
    assert torch.equal(env.film(every=3), film[:, [0, 3, 6]])


def test_a_frame_that_is_not_imagined_is_the_next_one_that_is(strided: WorldModel):
    env = started(strided)
    env.step(chunk(6))
    film = env.film()
    assert not torch.equal(film[:, 3], film[:, 6])
    for step, shown in enumerate([0, 3, 3, 3, 6, 6, 6]):
        assert torch.equal(film[:, step], film[:, shown])
        assert torch.equal(env.latents()[:, step], env.latents()[:, shown])
    assert torch.equal(env.recent_frames(4), film[:, [3, 4, 5, 6]])
    assert torch.equal(env.recent_frames(9), film[:, [0, 0, 0, 1, 2, 3, 4, 5, 6]])


@pytest.mark.parametrize("length", [1, 2, 4])
def test_chunks_that_are_not_whole_strides_are_refused_and_nothing_is_imagined(
    strided: WorldModel, length: int
):
    env = started(strided)
    with pytest.raises(BadTensor, match=rf"multiple of 3, the actions .*found \[2, {length}, 7\]"):
        env.step(chunk(length))
    assert env.steps == 0


def test_replaying_an_episode_the_hand_stands_still_for_what_is_missing(strided: WorldModel):
    actions = chunk(6)
    actions[:, 4:, :6] = 0
    actions[:, 3:, 6] = 0.25
    whole, missing = started(strided), started(strided)
    whole.replay(actions)
    missing.replay(actions[:, :4])
    assert torch.equal(whole.latents(), missing.latents())
    assert missing.steps == 6


def test_replaying_nothing_or_no_batch_is_refused_as_a_step_is(strided: WorldModel):
    for actions in (chunk(0), chunk(3)[0]):
        with pytest.raises(BadTensor, match="L >= 1"):
            started(strided).replay(actions)
