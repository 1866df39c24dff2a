"""The network of the judge: shapes, what its verdict depends on, and its life as a transformers model."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel

from daemon.learning.errors import BadTensor
from daemon.learning.reward.success_classifier import (
    SuccessClassifier,
    SuccessClassifierConfig,
    register_success_classifier,
)

WORDS = torch.tensor([[1, 4, 7], [1, 9, 3]])
ALL = torch.ones(2, 3, dtype=torch.bool)


def small() -> SuccessClassifier:
    torch.manual_seed(0)
    return SuccessClassifier(SuccessClassifierConfig(vocabulary=20, width=16)).eval()


def frames(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def test_one_logit_per_frame() -> None:
    logits = small()(frames(), WORDS, ALL)
    assert logits.shape == (2,)
    assert logits.isfinite().all()


@torch.no_grad()
def test_bytes_and_unit_floats_are_the_same_picture() -> None:
    torch.testing.assert_close(small()(frames(), WORDS, ALL), small()(frames().float() / 255, WORDS, ALL))


@torch.no_grad()
def test_the_same_picture_is_judged_by_what_was_asked() -> None:
    same = frames(1).expand(2, -1, -1, -1)
    one, two = small()(same, WORDS, ALL)
    assert abs(float(one - two)) > 1e-4


@torch.no_grad()
def test_where_something_is_matters() -> None:
    places = torch.full((2, 3, 64, 64), 30, dtype=torch.uint8)
    places[0, 0, 8:16, 8:16] = 230
    places[1, 0, 40:48, 40:48] = 230  # eight places further: equal to a network that only counts
    one, two = small()(places, WORDS[:1].expand(2, -1), ALL)
    assert abs(float(one - two)) > 1e-3


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    alone = small()(frames(1), WORDS[:1], ALL[:1])
    padded = torch.cat([WORDS[:1], torch.tensor([[11, 12]])], dim=1)
    mask = torch.tensor([[True] * 3 + [False] * 2])
    torch.testing.assert_close(small()(frames(1), padded, mask), alone)


@torch.no_grad()
def test_frames_of_a_batch_do_not_mix() -> None:
    torch.testing.assert_close(
        small()(frames().flip(0), WORDS.flip(0), ALL), small()(frames(), WORDS, ALL).flip(0)
    )


def test_no_parameter_is_idle() -> None:
    model = small()
    F.binary_cross_entropy_with_logits(model(frames(), WORDS, ALL), torch.tensor([1.0, 0.0])).backward()
    idle = [
        name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)
    ]
    assert idle == []


def test_transformers_saves_and_finds_it_by_its_type(tmp_path: Path) -> None:
    register_success_classifier()
    register_success_classifier()  # a second time is harmless
    small().save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is SuccessClassifier
    with torch.no_grad():
        torch.testing.assert_close(again(frames(), WORDS, ALL), small()(frames(), WORDS, ALL))


def test_the_nano_size_fits_its_budget() -> None:
    parameters = sum(p.numel() for p in SuccessClassifier(SuccessClassifierConfig()).parameters())
    assert parameters * 2 < 600_000  # bytes in float16


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (2, 64, 64, 3), (3, 64, 64)])
def test_pictures_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadTensor, match=r"\[B, 3, 64, 64\]"):
        small()(torch.zeros(shape), WORDS, ALL)
