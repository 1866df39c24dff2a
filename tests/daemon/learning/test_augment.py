"""Augmentation: what it may change, what it must not, and that one sample moves as one."""

import pytest
import torch

from daemon.learning.augment import Augmentation, augment
from daemon.learning.errors import BadTensor

NOTHING = Augmentation(shift=0, brightness=0.0, contrast=0.0, tint=0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(7))


def only(**amounts: float) -> Augmentation:
    return Augmentation(**{"shift": 0, "brightness": 0.0, "contrast": 0.0, "tint": 0.0, **amounts})


@pytest.mark.parametrize("shape", [(4, 3, 16, 16), (2, 5, 3, 16, 24), (1, 2, 3, 3, 8, 8)])
def test_shape_and_type_stay(shape: tuple[int, ...]) -> None:
    changed = augment(images(*shape), Augmentation(), generator=seeded())
    assert changed.shape == shape
    assert changed.dtype == torch.uint8


def test_no_amount_changes_nothing() -> None:
    pictures = images(4, 3, 16, 16)
    assert torch.equal(augment(pictures, NOTHING, generator=seeded()), pictures)


def test_the_input_is_left_alone() -> None:
    pictures = images(4, 3, 16, 16)
    kept = pictures.clone()
    augment(pictures, Augmentation(), generator=seeded())
    assert torch.equal(pictures, kept)


def test_a_seed_decides() -> None:
    pictures = images(4, 3, 16, 16)
    one, two, other = (augment(pictures, Augmentation(), generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_shift_moves_the_picture_and_repeats_its_border() -> None:
    ramp = torch.arange(16, dtype=torch.uint8).expand(64, 3, 16, 16).contiguous()
    moved = augment(ramp, only(shift=2), generator=seeded())
    offsets = {tuple(row.tolist()) for row in moved[:, 0, 0]}
    expected = {tuple((torch.arange(16) + shift).clamp(0, 15).tolist()) for shift in range(-2, 3)}
    assert offsets == expected  # every shift of up to two pixels occurs in 64 samples, and nothing else


def test_vertical_shifts_happen_too() -> None:
    ramp = torch.arange(16, dtype=torch.uint8).unsqueeze(1).expand(64, 3, 16, 16).contiguous()
    moved = augment(ramp, only(shift=1), generator=seeded())
    assert {int(v) for v in moved[:, 0, 8, 0]} == {7, 8, 9}


def test_rows_and_columns_shift_on_their_own() -> None:
    places = torch.arange(256, dtype=torch.uint8).view(16, 16).expand(64, 3, 16, 16).contiguous()
    moved = augment(places, only(shift=2), generator=seeded())[:, 0, 8, 8].int() - (8 * 16 + 8)
    down = torch.div(moved + 8, 16, rounding_mode="floor")
    shifts = {(int(d), int(m - 16 * d)) for d, m in zip(down, moved, strict=True)}
    assert len(shifts) > 15  # of 25 pairs; only 5 if both went alike
    assert all(max(abs(dy), abs(dx)) <= 2 for dy, dx in shifts)


@pytest.mark.parametrize(
    "amount", [only(shift=3), only(brightness=0.1), only(contrast=0.2), only(tint=0.1), Augmentation()]
)
def test_all_frames_of_a_sample_change_alike_and_samples_differ(amount: Augmentation) -> None:
    same = images(1, 1, 3, 16, 16).expand(8, 4, -1, -1, -1).contiguous()
    changed = augment(same, amount, generator=seeded())
    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    assert len({tuple(sample.flatten().tolist()) for sample in changed}) > 1


def test_brightness_moves_all_channels_by_the_same_number() -> None:
    grey = torch.full((32, 3, 4, 4), 100, dtype=torch.uint8)
    moved = augment(grey, only(brightness=0.1), generator=seeded()).int() - 100
    assert torch.equal(moved, moved[:, :1, :1, :1].expand_as(moved))
    assert int(moved.abs().max()) <= 26
    assert moved.min() < -5
    assert moved.max() > 5


def test_contrast_stretches_about_mid_grey() -> None:
    pair = torch.tensor([67, 187], dtype=torch.uint8).view(1, 1, 1, 2).expand(32, 3, 1, 2).contiguous()
    low, high = augment(pair, only(contrast=0.15), generator=seeded()).int().unbind(-1)
    assert bool(((low - 127.5) + (high - 127.5)).abs().max() <= 2)  # two roundings
    assert int((high - low).min()) < 120 < int((high - low).max())
    assert int((high - low).min()) >= 120 * 0.85 - 1
    assert int((high - low).max()) <= 120 * 1.15 + 1


def test_tint_changes_channels_apart() -> None:
    grey = torch.full((8, 3, 2, 2), 200, dtype=torch.uint8)
    changed = augment(grey, only(tint=0.08), generator=seeded())
    assert all(len({int(channel[0, 0]) for channel in sample}) > 1 for sample in changed)


def test_colours_stay_within_a_byte() -> None:
    extremes = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(64, 3, 1, 2).contiguous()
    changed = augment(extremes, Augmentation(brightness=0.5, contrast=0.9), generator=seeded())
    dark, light = changed.unbind(-1)
    assert bool((light >= dark).all())  # a wrapped byte would turn white into black


@pytest.mark.parametrize("bad", [torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_other_tensors_are_refused(bad: torch.Tensor) -> None:
    with pytest.raises(BadTensor, match="uint8"):
        augment(bad, Augmentation(), generator=seeded())


def test_channels_must_stand_before_height_and_width() -> None:
    with pytest.raises(BadTensor, match=r"\[2, 8, 8, 3\]"):
        augment(images(2, 8, 8, 3), Augmentation(), generator=seeded())
