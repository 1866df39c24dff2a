"""Drift is the number it claims to be: real actions from the real first frame, compared frame by frame."""

import itertools
import math

import pytest
import torch

from daemon.learning.batch import Clip, ClipInvalid, NoWindow
from daemon.learning.drift import measure_drift, psnr, rehearse, replayed, similarity
from daemon.learning.world_model.model import WorldModel, with_stride
from tests.daemon.learning.noise import a_clip


def test_an_error_is_the_mean_over_episodes_of_the_squared_pixel_difference(untaught: WorldModel):
    """A decoder that always paints 51 (0.2 of 255) makes every error known by hand."""
    with torch.no_grad():
        last = untaught.autoencoder.decoder[-2]
        last.weight.zero_()
        last.bias.fill_(51 / 127.5 - 1)
    clips = [a_clip("a"), a_clip("b")]
    clips[0].frames[1], clips[1].frames[1] = 51, 153  # right, and 0.4 off
    clips[0].frames[4], clips[1].frames[4] = 0, 102  # 0.2 off, twice
    errors = measure_drift(untaught, clips, horizons=(1, 4), seed=0).pixels
    assert errors == pytest.approx({1: 0.16 / 2, 4: 0.04}, abs=1e-6)


def test_standing_still_is_measured_against_the_real_first_picture(untaught: WorldModel):
    clip = a_clip("a")
    clip.frames[0], clip.frames[2], clip.frames[3] = 0, 255, 51
    still = measure_drift(untaught, [clip], horizons=(2, 3), seed=0).still
    assert still == pytest.approx({2: 1.0, 3: 0.04}, abs=1e-6)


def test_real_actions_are_replayed_from_the_real_first_frame(untaught: WorldModel):
    """A model that has learnt nothing imagines noise alone: then actions would not matter. Stir it first."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in untaught.transformer.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    clip, other = a_clip("a"), a_clip("a")
    other.actions[1] += 0.03
    one, two = (measure_drift(untaught, [c], horizons=(1, 2), seed=0).latents for c in (clip, other))
    assert one[1] == two[1], "action 1 does not reach frame 1"
    assert one[2] != two[2], "action 1 produces frame 2"


def test_shorter_episodes_count_only_for_the_horizons_they_reach(untaught: WorldModel):
    long, short = a_clip("long", steps=6, seed=1), a_clip("short", steps=2, seed=2)
    both = measure_drift(untaught, [long, short], horizons=(1, 6), seed=0)
    alone = measure_drift(untaught, [long], horizons=(6,), seed=0)
    assert both.still[6] == pytest.approx(alone.still[6])
    assert both.still[1] != pytest.approx(measure_drift(untaught, [long], horizons=(1,), seed=0).still[1])


def test_an_episode_has_its_own_error_over_the_steps_it_reaches(untaught: WorldModel):
    clips = [a_clip("long", steps=6, seed=1), a_clip("short", steps=2, seed=2), a_clip("b", steps=6, seed=3)]
    together = measure_drift(untaught, clips, horizons=(1, 2, 6), seed=0)
    long, short, other = together.latents_by_episode
    alone = measure_drift(untaught, clips[:1], horizons=(1, 2, 6), seed=0)
    assert long == pytest.approx(sum(alone.latents.values()) / 3)
    by_step = [together.latents[step] * together.episodes[step] for step in (1, 2, 6)]
    assert 3 * long + 2 * short + 3 * other == pytest.approx(sum(by_step))


def test_many_episodes_are_measured_in_batches(untaught: WorldModel):
    clips = [a_clip(str(i), steps=1, seed=i) for i in range(70)]
    still = measure_drift(untaught, clips, horizons=(1,), seed=0).still[1]
    by_hand = [((c.frames[0] / 255 - c.frames[1] / 255) ** 2).mean().item() for c in clips]
    assert still == pytest.approx(sum(by_hand) / 70)


def test_the_same_seed_measures_the_same(untaught: WorldModel):
    clips = [a_clip("a")]
    one, two, other = (measure_drift(untaught, clips, horizons=(3,), seed=seed).latents for seed in (1, 1, 2))
    assert one == two
    assert one != other


@pytest.mark.parametrize("clips", [[], [a_clip("a", steps=3)]])
def test_a_horizon_that_no_episode_reaches_is_refused(untaught: WorldModel, clips: list[Clip]):
    with pytest.raises(NoWindow, match="11 frames"):
        measure_drift(untaught, clips, horizons=(1, 10), seed=0)


def test_a_broken_held_out_episode_is_refused(untaught: WorldModel):
    broken = a_clip("broken")
    broken.actions[0, 0] = float("inf")
    with pytest.raises(ClipInvalid, match="broken"):
        measure_drift(untaught, [broken], horizons=(1,), seed=0)


def test_an_episode_is_imagined_the_same_whatever_stands_beside_it(untaught: WorldModel):
    long, short = a_clip("long", steps=6, seed=1), a_clip("short", steps=2, seed=2)
    (both,) = replayed(untaught, [short, long], seed=4)
    (alone,) = replayed(untaught, [short], seed=4)
    assert both.latents.shape[1] == 7
    assert torch.allclose(both.latents[0, :3], alone.latents[0], atol=1e-4)


@pytest.mark.parametrize(("error", "decibels"), [(1.0, 0.0), (0.01, 20.0), (1e-4, 40.0), (0.0, 100.0)])
def test_psnr_is_ten_decibels_for_every_factor_of_ten(error: float, decibels: float):
    assert psnr(error) == pytest.approx(decibels)


def test_pictures_are_similar_to_themselves_alone():
    a, b = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0)).unbind(0)
    assert similarity(a, a).tolist() == pytest.approx([1.0] * 3)
    assert float(similarity(a, b).max()) < 0.2
    assert torch.allclose(similarity(a, b), similarity(b, a))


def test_flat_pictures_are_compared_by_their_light_alone():
    """Equation 6 of Wang et al.: (2 a b + c) / (a² + b² + c), structure being equal."""
    a, b = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert float(similarity(a, b)) == pytest.approx(expected, rel=1e-3)


def test_similarity_is_that_of_a_gaussian_window_at_every_place_wholly_within_the_picture():
    """Equation 13 of Wang et al., its sums written out, for a picture that is not square."""
    a, b = torch.rand(2, 1, 3, 13, 17, generator=torch.Generator().manual_seed(3)).double().unbind(0)
    line = torch.exp(-((torch.arange(11.0, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2
    found = []
    for channel, row, column in itertools.product(range(3), range(3), range(7)):
        x, y = (p[0, channel, row : row + 11, column : column + 11] for p in (a, b))
        mean_x, mean_y = (window * x).sum(), (window * y).sum()
        spread = (window * (x - mean_x) ** 2).sum() + (window * (y - mean_y) ** 2).sum() + 9e-4
        both = 2 * (window * (x - mean_x) * (y - mean_y)).sum() + 9e-4
        found.append((2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4) * both / spread)
    assert float(similarity(a, b)) == pytest.approx(float(torch.stack(found).mean()), rel=1e-9)


def test_a_blurred_picture_is_less_similar_than_a_noisy_light_one_tells():
    """Structure counts: the same squared error by a shift of light is far more similar than by noise."""
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.2
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 0.1
    off = math.sqrt(float(noise.square().mean()))
    assert float(similarity(picture, picture + off)) > float(similarity(picture, picture + noise)) + 0.05


def test_a_world_model_with_a_stride_is_compared_at_the_steps_that_it_imagines(untaught: WorldModel):
    strided = with_stride(untaught, 3, max_frames=4)
    clips = [a_clip("a", steps=8, seed=1), a_clip("b", steps=3, seed=2)]
    drift = rehearse(strided, clips, steps=40, seed=0).drift
    assert drift.episodes == {3: 2, 6: 1}
    assert set(measure_drift(strided, clips, horizons=(1, 3, 8), seed=0).latents) == {3}


def test_steps_of_which_it_imagines_none_are_refused(untaught: WorldModel):
    strided = with_stride(untaught, 3, max_frames=4)
    with pytest.raises(NoWindow, match="none of 1 clips holds a window of 4 frames; the longest has 3"):
        rehearse(strided, [a_clip("a", steps=2)], steps=40, seed=0)


def test_a_shorter_episode_beside_a_longer_one_ends_as_it_does_alone(untaught: WorldModel):
    """Past its end its hand stands still and holds what it held, for the rest of the stride."""
    generator = torch.Generator().manual_seed(3)
    strided = with_stride(untaught, 3, max_frames=4)
    with torch.no_grad():
        for weight in strided.transformer.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    short, long = a_clip("short", steps=4, seed=1), a_clip("long", steps=8, seed=2)
    short.actions[:, 6] = 1.0
    (beside,) = replayed(strided, [short, long], seed=0)
    (alone,) = replayed(strided, [short], seed=0)
    assert torch.allclose(beside.latents[0, :5], alone.latents[0, :5], atol=1e-5)
