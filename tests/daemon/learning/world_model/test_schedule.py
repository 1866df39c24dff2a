"""The schedule is WorldGym's, and its algebra of noise and velocity closes."""

import pytest
import torch

from daemon.learning.world_model.schedule import NoiseSchedule, StepsUneven, sigmoid_betas


@pytest.mark.parametrize(("level", "kept"), [(14, 0.9953), (99, 0.9605), (499, 0.5), (999, 3.0e-7)])
def test_the_signal_kept_at_a_level_is_what_was_measured_on_the_reference(level: int, kept: float):
    assert float(NoiseSchedule().kept[level]) == pytest.approx(kept, rel=2e-3)


def test_betas_stay_between_zero_and_their_cap_and_noise_only_grows():
    betas = sigmoid_betas()
    assert betas.shape == (1000,)
    assert float(betas.min()) > 0
    assert float(betas.max()) <= 0.999
    assert bool((NoiseSchedule().kept.diff() < 0).all())


@pytest.mark.parametrize(
    ("steps", "walk"),
    [(1, [999]), (2, [999, 499]), (4, [999, 749, 499, 249]), (10, list(range(999, 0, -100)))],
)
def test_the_walk_starts_at_pure_noise_in_equal_strides(steps: int, walk: list[int]):
    assert NoiseSchedule().walk(steps) == walk


def test_each_frame_gets_its_own_level():
    schedule = NoiseSchedule()
    latents, noise = torch.ones(1, 2, 3, 4, 4), torch.full((1, 2, 3, 4, 4), 2.0)
    noisy = schedule.noised(latents, noise, torch.tensor([[0, 499]]))
    for frame, level in enumerate((0, 499)):
        kept = schedule.kept[level]
        expected = kept.sqrt() * 1 + (1 - kept).sqrt() * 2
        assert torch.allclose(noisy[0, frame], expected.expand(3, 4, 4), atol=1e-6)


def test_noisy_latents_and_their_velocity_give_back_latents_and_noise():
    schedule, generator = NoiseSchedule(), torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, 5, 3, 4, 4, generator=generator)
    levels = torch.randint(1000, (2, 5), generator=generator)
    noisy, velocity = schedule.noised(latents, noise, levels), schedule.velocity(latents, noise, levels)
    power = schedule.noise_power(levels)[..., None, None, None]
    assert torch.allclose((1 - power).sqrt() * noisy - power.sqrt() * velocity, latents, atol=1e-5)
    assert torch.allclose(power.sqrt() * noisy + (1 - power).sqrt() * velocity, noise, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8, 9, 10])
def test_walking_down_with_the_true_velocity_arrives_at_the_clean_latents(steps: int):
    schedule, generator = NoiseSchedule(), torch.Generator().manual_seed(1)
    clean = torch.randn(2, 3, 4, 4, generator=generator)
    noise = torch.randn(2, 3, 4, 4, generator=generator)
    levels = schedule.walk(steps)
    frame = schedule.noised(clean[:, None], noise[:, None], torch.full((2, 1), levels[0]))[:, 0]
    for level in levels:
        kept = schedule.kept[level]
        implied_noise = (frame - kept.sqrt() * clean) / (1 - kept).sqrt()
        frame = schedule.stepped(kept.sqrt() * implied_noise - (1 - kept).sqrt() * clean, level, frame)
    assert torch.allclose(frame, clean, atol=1e-3)


@pytest.mark.parametrize("steps", [-1, 0, 6, 7, 1001])
def test_steps_that_would_leave_noise_in_the_frame_are_refused(steps: int):
    with pytest.raises(StepsUneven, match=f"{steps} denoise steps"):
        NoiseSchedule().walk(steps)


def test_dimming_scales_and_adds_nothing():
    schedule = NoiseSchedule()
    latents = torch.randn(2, 3, 4, 4)
    assert torch.allclose(schedule.dimmed(latents, 14), latents * 0.9953**0.5, atol=1e-4)
    assert torch.equal(schedule.dimmed(torch.zeros(1, 3, 4, 4), 500), torch.zeros(1, 3, 4, 4))
