"""The schedule is WorldGym's, and its algebra of noise and velocity closes."""

import pytest
import torch

from daemon.learning.world_model.schedule import (
    NoiseSchedule,
    StepsUneven,
    VPrediction,
    noise_schedule,
    sigmoid_betas,
)


@pytest.fixture(params=["v_prediction", "flow_matching"])
def schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    """Either diffusion: what follows from the contract holds for both."""
    return noise_schedule(request.param)


def clean_from(noisy: torch.Tensor, target: torch.Tensor, share: float, *, straight: bool) -> torch.Tensor:
    return noisy - share * target if straight else (1 - share) ** 0.5 * noisy - share**0.5 * target


@pytest.mark.parametrize(("level", "kept"), [(14, 0.9953), (99, 0.9605), (499, 0.5), (999, 3.0e-7)])
def test_the_signal_kept_at_a_level_is_what_was_measured_on_the_reference(level: int, kept: float):
    assert float(VPrediction().kept[level]) == pytest.approx(kept, rel=2e-3)


def test_betas_stay_between_zero_and_their_cap_and_noise_only_grows():
    betas = sigmoid_betas()
    assert betas.shape == (1000,)
    assert float(betas.min()) > 0
    assert float(betas.max()) <= 0.999
    assert bool((VPrediction().kept.diff() < 0).all())


@pytest.mark.parametrize(
    ("steps", "walk"),
    [(1, [999]), (2, [999, 499]), (4, [999, 749, 499, 249]), (10, list(range(999, 0, -100)))],
)
def test_the_walk_starts_at_pure_noise_in_equal_strides(steps: int, walk: list[int]):
    assert VPrediction().walk(steps) == walk


def test_each_frame_gets_its_own_level():
    schedule = VPrediction()
    latents, noise = torch.ones(1, 2, 3, 4, 4), torch.full((1, 2, 3, 4, 4), 2.0)
    noisy = schedule.noised(latents, noise, torch.tensor([[0, 499]]))
    for frame, level in enumerate((0, 499)):
        kept = schedule.kept[level]
        expected = kept.sqrt() * 1 + (1 - kept).sqrt() * 2
        assert torch.allclose(noisy[0, frame], expected.expand(3, 4, 4), atol=1e-6)


def test_noisy_latents_and_their_velocity_give_back_latents_and_noise():
    schedule, generator = VPrediction(), torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, 5, 3, 4, 4, generator=generator)
    levels = torch.randint(1000, (2, 5), generator=generator)
    noisy, velocity = schedule.noised(latents, noise, levels), schedule.target(latents, noise, levels)
    power = schedule.error_weight(levels)[..., None, None, None]
    assert torch.allclose((1 - power).sqrt() * noisy - power.sqrt() * velocity, latents, atol=1e-5)
    assert torch.allclose(power.sqrt() * noisy + (1 - power).sqrt() * velocity, noise, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8, 9, 10])
def test_walking_down_with_the_true_direction_arrives_at_the_clean_latents(
    schedule: NoiseSchedule, steps: int
):
    """Every walk starts at noise; at each level the direction that the frame then has is the true one."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(2, 1, 3, 4, 4, generator=generator)
    noise = torch.randn(2, 1, 3, 4, 4, generator=generator)
    walk = schedule.walk(steps)
    assert walk[0] == 999
    assert len(walk) == steps
    frame = schedule.noised(clean, noise, torch.full((2, 1), walk[0]))
    for level in walk:
        levels = torch.full((2, 1), level)
        zero = torch.zeros_like(clean)
        spread = schedule.noised(zero, torch.ones_like(clean), levels)  # how much noise this level holds
        implied = (frame - schedule.noised(clean, zero, levels)) / spread
        frame = schedule.stepped(schedule.target(clean, implied, levels), level, frame)
    assert torch.allclose(frame, clean, atol=1e-3)


def test_the_error_weight_turns_an_error_of_the_target_into_one_of_the_clean_latents(schedule: NoiseSchedule):
    generator = torch.Generator().manual_seed(3)
    latents, noise, wrong = torch.randn(3, 2, 4, 3, 4, 4, generator=generator).unbind(0)
    levels = torch.tensor([[0, 200, 500, 998]]).expand(2, -1)
    noisy, target = schedule.noised(latents, noise, levels), schedule.target(latents, noise, levels)
    straight = not isinstance(schedule, VPrediction)
    for f, level in enumerate(levels[0].tolist()):
        share = (level + 1) / 1000 if straight else float(1 - VPrediction().kept[level])
        off = clean_from(noisy[:, f], target[:, f] + wrong[:, f], share, straight=straight) - latents[:, f]
        implied = wrong[:, f].square().mean() * schedule.error_weight(levels)[0, f]
        assert float(off.square().mean()) == pytest.approx(float(implied), rel=1e-3, abs=1e-7)


def test_frames_at_other_levels_in_between_do_not_disturb_a_walk(schedule: NoiseSchedule):
    noisy, predicted = torch.randn(2, 1, 3, 4, 4).unbind(0)
    schedule.walk(4)
    alone = schedule.stepped(predicted, 499, noisy)
    for level in (999, 249, 749):
        schedule.stepped(predicted, level, noisy)
    assert torch.equal(schedule.stepped(predicted, 499, noisy), alone)


@pytest.mark.parametrize("steps", [-1, 0, 1001])
def test_a_walk_has_between_one_step_and_a_thousand(schedule: NoiseSchedule, steps: int):
    with pytest.raises(StepsUneven, match=f"{steps} denoise steps"):
        schedule.walk(steps)


@pytest.mark.parametrize("steps", [-1, 0, 6, 7, 1001])
def test_steps_that_would_leave_noise_in_the_frame_are_refused(steps: int):
    with pytest.raises(StepsUneven, match=f"{steps} denoise steps"):
        VPrediction().walk(steps)


def test_a_straight_line_can_be_walked_in_any_number_of_steps():
    assert noise_schedule("flow_matching").walk(7)[-1] == 142


def test_dimming_is_noising_without_noise(schedule: NoiseSchedule):
    latents = torch.randn(2, 3, 4, 4)
    levels = torch.full((2, 1), 14)
    noised = schedule.noised(latents[:, None], torch.zeros(2, 1, 3, 4, 4), levels)[:, 0]
    assert torch.allclose(schedule.dimmed(latents, 14), noised, atol=1e-6)


def test_dimming_scales_and_adds_nothing():
    schedule = VPrediction()
    latents = torch.randn(2, 3, 4, 4)
    assert torch.allclose(schedule.dimmed(latents, 14), latents * 0.9953**0.5, atol=1e-4)
    assert torch.equal(schedule.dimmed(torch.zeros(1, 3, 4, 4), 500), torch.zeros(1, 3, 4, 4))
