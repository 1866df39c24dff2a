"""The network: shapes, what it may and may not depend on, and its life as a transformers model."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel

from daemon.learning.errors import BadTensor
from daemon.learning.policy.nano_vla import Block, NanoVLA, NanoVLAConfig, attend, register_nano_vla


def small(**sizes: int) -> NanoVLA:
    torch.manual_seed(0)
    defaults = {
        "vocabulary": 20,
        "width": 32,
        "layers": 2,
        "heads": 2,
        "bins": 5,
        "chunk": 3,
        "max_tokens": 8,
    }
    return NanoVLA(NanoVLAConfig(**{**defaults, **sizes})).eval()


def images(count: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)


WORDS = torch.tensor([[1, 4, 7], [1, 9, 3]])
ALL = torch.ones(2, 3, dtype=torch.bool)


@torch.no_grad()
def test_one_distribution_per_action_component() -> None:
    logits = small()(images(2), WORDS, ALL)
    assert logits.shape == (2, 3, 7, 5)
    assert logits.isfinite().all()


@torch.no_grad()
def test_bytes_and_unit_floats_are_the_same_picture() -> None:
    model = small()
    as_bytes = model(images(2), WORDS, ALL)
    as_floats = model(images(2).float() / 255, WORDS, ALL)
    torch.testing.assert_close(as_bytes, as_floats)


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    model = small()
    alone = model(images(1), WORDS[:1], ALL[:1])
    padded_words = torch.tensor([[1, 4, 7, 0, 0], [1, 9, 3, 5, 6]])
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    together = model(images(1).expand(2, -1, -1, -1), padded_words, mask)
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)
    padded_words[0, 3:] = 11  # what stands in the padding is not read
    torch.testing.assert_close(
        model(images(1).expand(2, -1, -1, -1), padded_words, mask)[:1], alone, atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_every_action_sees_the_whole_instruction_and_the_whole_picture() -> None:
    model = small()
    for parameter in model.parameters():  # fresh weights are tiny; dependence must show above rounding
        parameter.mul_(3)
    base = model(images(1), WORDS[:1], ALL[:1])
    for place in range(3):
        changed = WORDS[:1].clone()
        changed[0, place] = 15
        assert ((model(images(1), changed, ALL[:1]) - base).abs().amax(-1) > 1e-6).all(), place
    for corner in [(0, 0), (0, 63), (63, 0), (63, 63)]:
        picture = images(1)
        picture[0, :, corner[0], corner[1]] = 255 - picture[0, :, corner[0], corner[1]]
        assert ((model(picture, WORDS[:1], ALL[:1]) - base).abs().amax(-1) > 1e-6).all(), corner


@torch.no_grad()
def test_samples_of_a_batch_do_not_mix() -> None:
    model = small()
    pictures = images(4)
    words, mask = WORDS.repeat(2, 1), ALL.repeat(2, 1)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        model(pictures[order], words[order], mask), model(pictures, words, mask)[order], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("masked", [False, True])
def test_attention_by_hand_equals_the_fused_kernel_in_value_and_gradient(masked: bool) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(2, 3, length, 8, requires_grad=True) for length in (4, 6, 6)]
    visible = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])[:, None, None] if masked else None
    ours = attend(*tensors, visible=visible)
    theirs = F.scaled_dot_product_attention(*tensors, attn_mask=visible)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    direction = torch.randn_like(ours)
    for one, two in zip(
        torch.autograd.grad(ours, tensors, direction),
        torch.autograd.grad(theirs, tensors, direction),
        strict=True,
    ):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_computing_only_the_tail_of_a_block_gives_the_tail_of_the_block() -> None:
    torch.manual_seed(0)
    block, x = Block(16, 2), torch.randn(2, 9, 16)
    torch.testing.assert_close(block(x, None, tail=4), block(x, None, tail=9)[:, -4:])


def test_no_parameter_is_idle() -> None:
    model = small()
    F.cross_entropy(model(images(2), WORDS, ALL).flatten(0, 2), torch.arange(42) % 5).backward()
    idle = [
        name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)
    ]
    assert idle == []


def test_transformers_saves_and_finds_it_by_its_type(tmp_path: Path) -> None:
    register_nano_vla()
    register_nano_vla()  # a second time is harmless
    model = small()
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is NanoVLA
    assert AutoConfig.from_pretrained(tmp_path).bins == 5
    with torch.no_grad():
        torch.testing.assert_close(again(images(2), WORDS, ALL), model(images(2), WORDS, ALL), atol=0, rtol=0)


def test_the_nano_size_fits_its_budget() -> None:
    parameters = sum(p.numel() for p in NanoVLA(NanoVLAConfig()).parameters())
    assert parameters * 2 < 2_500_000  # bytes in float16


@pytest.mark.parametrize("shape", [(2, 3, 64, 32), (2, 64, 64, 3), (3, 64, 64), (2, 1, 64, 64)])
def test_pictures_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadTensor, match=r"\[B, 3, 64, 64\]"):
        small()(torch.zeros(shape), WORDS, ALL)


def test_more_words_than_there_are_places_are_refused() -> None:
    words = torch.ones(2, 9, dtype=torch.int64)
    with pytest.raises(BadTensor, match="up to 8"):
        small()(images(2), words, words.bool())
