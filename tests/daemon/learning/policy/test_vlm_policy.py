"""Policies on transformers backbones of every family: they act, score, learn and are kept as others."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from daemon.learning.batch import Clip
from daemon.learning.errors import BadTensor
from daemon.learning.policy.loading import load_policy
from daemon.learning.policy.policy import AdaptersUnknown, Policy, new_policy
from daemon.learning.policy.tokens import nano_binning
from daemon.learning.policy.vlm_policy import VlmPolicy
from daemon.learning.sft import SftConfig, train_policy
from daemon.learning.state import CheckpointUnreadable
from tests.daemon.learning.policy.tiny_vlms import COPIES, FAMILIES

pytestmark = pytest.mark.filterwarnings(COPIES)

OPEN, CLOSE = "open the drawer", "close the drawer"
SIDE = 32


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp(request.param)
    FAMILIES[request.param](found)
    return found


@pytest.fixture
def policy(folder: Path) -> VlmPolicy:
    return VlmPolicy.of_folder(folder, binning=nano_binning(), image_size=SIDE, chunk=2)


def pictures(count: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, SIDE, SIDE), generator=generator).byte()


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.6])
def test_it_decides_a_chunk_with_its_log_probabilities(policy: VlmPolicy, temperature: float) -> None:
    """Greedy decisions are scored at temperature 1."""
    images, drawn = pictures(2), torch.Generator().manual_seed(0)
    chunk = policy.act(images, (OPEN, CLOSE), temperature=temperature, generator=drawn)
    assert chunk.tokens.shape == chunk.actions.shape == chunk.log_probs.shape == (2, 2, 7)
    assert torch.equal(chunk.actions, policy.binning.decode(chunk.tokens))
    again = policy.log_probs(images, (OPEN, CLOSE), chunk.tokens, temperature=temperature or 1.0)
    torch.testing.assert_close(again.detach(), chunk.log_probs, atol=1e-5, rtol=1e-5)


def test_greedy_decisions_need_no_draw_and_drawn_ones_follow_their_seed(policy: VlmPolicy) -> None:
    images = pictures(2)
    greedy = [policy.act(images, (OPEN, CLOSE)).tokens for _ in range(2)]
    assert torch.equal(*greedy)
    drawn = [
        policy.act(
            images, (OPEN, CLOSE), temperature=1.0, generator=torch.Generator().manual_seed(seed)
        ).tokens
        for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_whole_chunk_is_decided_in_one_pass(policy: VlmPolicy) -> None:
    """The words of the prompt and the fourteen places go through the body once, together."""
    passes: list[int] = []
    words = policy.model.body.get_input_embeddings()
    words.register_forward_hook(lambda *made: passes.append(made[2].shape[1]))
    policy.act(pictures(2), (OPEN, CLOSE))
    assert len(passes) == 1
    assert passes[0] > 14


def test_half_precision_decides_much_the_same(policy: VlmPolicy) -> None:
    full = policy.logits(pictures(2), (OPEN, CLOSE))
    policy.precision = torch.bfloat16
    half = policy.logits(pictures(2), (OPEN, CLOSE))
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    torch.testing.assert_close(half, full, atol=0.1, rtol=0.1)


def test_weights_learn_in_full_precision_whatever_the_folder_holds(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    halved = AutoModelForImageTextToText.from_pretrained(folder).to(torch.bfloat16)
    halved.save_pretrained(tmp_path)
    policy = VlmPolicy.of_folder(tmp_path, binning=nano_binning(), image_size=SIDE, chunk=2)
    assert {weight.dtype for weight in policy.model.parameters()} == {torch.float32}
    policy.save(tmp_path / "policy", {})
    again = load_policy(tmp_path / "policy")
    assert {weight.dtype for weight in again.model.parameters()} == {torch.float32}


def test_a_decision_does_not_depend_on_what_stands_beside_it(policy: VlmPolicy) -> None:
    """Sentences of other lengths are padded on the left, where the queries do not look."""
    sentences = (OPEN, "put the drawer the picture the drawer")
    together = policy.logits(pictures(2), sentences)
    for row, sentence in enumerate(sentences):
        alone = policy.logits(pictures(2)[row : row + 1], (sentence,))
        torch.testing.assert_close(together[row], alone[0], atol=1e-4, rtol=1e-3)


def test_it_listens_and_looks(policy: VlmPolicy) -> None:
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(7)) * 0.3)
    base = policy.logits(pictures(1), ("open the drawer gapes",))
    assert not torch.allclose(base, policy.logits(pictures(1), ("open the picture gapes",)), atol=1e-3)
    assert not torch.allclose(base, policy.logits(pictures(1, seed=1), ("open the drawer gapes",)), atol=1e-3)


def test_every_query_has_its_own_answer(policy: VlmPolicy) -> None:
    logits = policy.logits(pictures(1), (OPEN,)).flatten(1, 2)[0]
    assert len({tuple(row.tolist()) for row in logits}) == 14


@pytest.mark.parametrize("adapted", [False, True])
def test_it_comes_back_from_its_checkpoint(policy: VlmPolicy, tmp_path: Path, adapted: bool) -> None:
    """Weights are rounded to sixteen bits once: what comes back is kept to the bit from then on."""
    if adapted:
        policy.adapt(rank=2, seed=0)
    kept = [policy]
    for number in range(3):
        file = tmp_path / f"{number}.safetensors"
        kept[-1].save(file, {"by": "a test"})
        kept.append(load_policy(file))
        assert isinstance(kept[-1], VlmPolicy)
    for again in kept[1:]:
        assert (again.chunk, again.image_size, again.binning) == (2, SIDE, policy.binning)
    first, *others = (each.logits(pictures(2), (OPEN, CLOSE)) for each in kept)
    torch.testing.assert_close(others[0], first, atol=1e-2, rtol=1e-2)
    assert all(torch.equal(*two) for two in pairwise(others))


def test_the_seed_decides_how_adapters_begin(policy: VlmPolicy) -> None:
    def begun(seed: int) -> list[torch.Tensor]:
        fresh = VlmPolicy(copy.deepcopy(policy.model), policy.tokenizer, binning=policy.binning)
        torch.seed()
        fresh.adapt(rank=2, seed=seed)
        return [weight for name, weight in fresh.model.named_parameters() if "lora_A" in name]

    one, same, other = begun(1), begun(1), begun(2)
    assert len(one) > 0
    assert all(torch.equal(*pair) for pair in zip(one, same, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_a_policy_without_adapters_says_so() -> None:
    with pytest.raises(AdaptersUnknown, match="Set lora_rank to 0"):
        new_policy((OPEN,), seed=0, width=16, layers=1).adapt(rank=2, seed=0)


def test_nano_checkpoints_are_still_nano_policies(tmp_path: Path) -> None:
    file = tmp_path / "policy.safetensors"
    new_policy((OPEN,), seed=0, width=16, layers=1).save(file, {})
    assert type(load_policy(file)) is Policy


def a_clip() -> Clip:
    actions = torch.zeros(4, 7)
    actions[:, 0] = 0.03
    actions[:, 6] = 1.0
    frames = pictures(5, seed=2)
    return Clip(frames=frames, actions=actions, instruction=OPEN, episode_id="e")


def loss(policy: VlmPolicy) -> float:
    clip = a_clip()
    tokens = policy.binning.encode(clip.actions[:2])[None]
    return -float(policy.log_probs(clip.frames[:1], (OPEN,), tokens, temperature=1.0).mean().detach())


def test_a_tiny_one_learns_to_imitate_in_seconds(policy: VlmPolicy) -> None:
    before = loss(policy)
    config = SftConfig(updates=25, batch=4, lr=5e-3, augment=None)
    train_policy(policy, [a_clip()], config=config, on_update=lambda *_: None)
    assert loss(policy) < 0.5 * before


def test_all_of_it_learns_from_the_pixels_to_the_head(policy: VlmPolicy) -> None:
    policy.logits(pictures(2), (OPEN, CLOSE)).square().mean().backward()
    moved = {
        name
        for name, weight in policy.model.named_parameters()
        if weight.grad is not None and bool(weight.grad.any())
    }
    assert {"queries", "head.weight", "head.bias"} < moved
    assert any("patch_embed" in name for name in moved)
    assert any("q_proj" in name or "qkv" in name for name in moved)
    assert any("embed_tokens" in name for name in moved)


def test_one_small_step_lowers_the_loss(policy: VlmPolicy) -> None:
    before = loss(policy)
    config = SftConfig(updates=1, batch=4, lr=1e-3, augment=None)
    train_policy(policy, [a_clip()], config=config, on_update=lambda *_: None)
    assert loss(policy) < before


def test_with_adapters_only_they_the_queries_and_the_head_learn(policy: VlmPolicy, tmp_path: Path) -> None:
    policy.adapt(rank=2, seed=0)
    learning = {name for name, weight in policy.model.named_parameters() if weight.requires_grad}
    assert {"queries", "head.weight", "head.bias"} < learning
    assert all("lora_" in name for name in learning - {"queries", "head.weight", "head.bias"})
    still = {name: weight.clone() for name, weight in policy.model.named_parameters() if name not in learning}
    before = loss(policy)
    config = SftConfig(updates=5, batch=4, lr=5e-3, augment=None)
    train_policy(policy, [a_clip()], config=config, on_update=lambda *_: None)
    assert loss(policy) < before
    now = dict(policy.model.named_parameters())
    assert all(torch.equal(now[name], weight) for name, weight in still.items())
    file = tmp_path / "policy.safetensors"
    policy.save(file, {})
    again = load_policy(file)
    torch.testing.assert_close(
        again.logits(pictures(1), (OPEN,)), policy.logits(pictures(1), (OPEN,)), atol=2e-2, rtol=2e-2
    )
    assert all("lora" not in name for name in again.model.state_dict())


@pytest.mark.parametrize(
    ("images", "sentences"),
    [
        (pictures(1).float(), (OPEN,)),
        (pictures(2), (OPEN,)),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), (OPEN,)),
        (pictures(1)[0], (OPEN,)),
    ],
)
def test_pictures_of_another_kind_are_refused(
    policy: VlmPolicy, images: torch.Tensor, sentences: tuple[str, ...]
) -> None:
    with pytest.raises(BadTensor, match="one instruction each"):
        policy.logits(images, sentences)


def test_a_control_token_is_no_word_of_an_instruction(policy: VlmPolicy) -> None:
    """It would be read as another picture, or as the end of what was asked."""
    for token in (policy.tokenizer.image_token, policy.tokenizer.tokenizer.pad_token):
        with pytest.raises(BadTensor, match=r"should be words, found '<.*>' in "):
            policy.act(pictures(2), (OPEN, f"open the {token}"))


def test_words_that_it_never_read_are_words_all_the_same(policy: VlmPolicy) -> None:
    chunk = policy.act(pictures(2), ("würfle", ""))
    assert bool(chunk.log_probs.isfinite().all())


def test_inputs_without_a_sentence_are_refused(policy: VlmPolicy) -> None:
    with pytest.raises(BadTensor, match="input_ids"):
        policy.model({"pixel_values": torch.zeros(1, 3, 16, 16)})


def test_places_are_like_the_prompt_s_last_token_and_pictures_stay_as_they_are(policy: VlmPolicy) -> None:
    """Visible, text, and no picture's place, whichever token stands first in the vocabulary."""
    given = {
        "input_ids": torch.tensor([[2, 0, 7], [0, 0, 8]]),
        "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]),
        "mm_token_type_ids": torch.tensor([[0, 1, 0], [1, 1, 0]]),
        "image_grid_thw": torch.tensor([[1, 4, 4], [1, 4, 4], [1, 4, 4]]),
    }
    longer = policy.model.with_places(given)
    assert longer["input_ids"].tolist() == [[2, 0, 7] + [7] * 14, [0, 0, 8] + [8] * 14]
    assert longer["attention_mask"].tolist() == [[0, 1, 1] + [1] * 14, [1, 1, 1] + [1] * 14]
    assert longer["mm_token_type_ids"].tolist() == [[0, 1, 0] + [0] * 14, [1, 1, 0] + [0] * 14]
    assert longer["image_grid_thw"] is given["image_grid_thw"]


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreadable, match=str(tmp_path)):
        VlmPolicy.of_folder(tmp_path, binning=nano_binning())


def test_a_checkpoint_whose_parts_do_not_fit_is_refused(policy: VlmPolicy, tmp_path: Path) -> None:
    file = tmp_path / "policy.safetensors"
    policy.model.config.chunk = 3  # says more than there are queries for
    policy.save(file, {})
    with pytest.raises(CheckpointUnreadable, match="fit together"):
        load_policy(file)
