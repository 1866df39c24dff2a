"""A policy on a transformers backbone, as small as it goes: it acts, scores, learns and is kept as others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from daemon.learning.batch import Clip
from daemon.learning.errors import BadTensor
from daemon.learning.policy.loading import load_policy
from daemon.learning.policy.policy import Policy, new_policy
from daemon.learning.policy.tokens import nano_binning
from daemon.learning.policy.vlm_policy import VlmPolicy
from daemon.learning.sft import SftConfig, train_policy
from daemon.learning.state import CheckpointUnreadable
from tests.daemon.judges.test_vlm_local import a_model, a_processor

OPEN, CLOSE = "open the drawer", "close the drawer"
SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("backbone")
    a_model().save_pretrained(found)
    a_processor().save_pretrained(found)
    return found


@pytest.fixture
def policy(folder: Path) -> VlmPolicy:
    return VlmPolicy.of_folder(folder, binning=nano_binning(), image_size=SIDE, chunk=2)


def pictures(count: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, SIDE, SIDE), generator=generator).byte()


def test_it_decides_a_chunk_with_its_log_probabilities(policy: VlmPolicy) -> None:
    chunk = policy.act(pictures(2), (OPEN, CLOSE))
    assert chunk.tokens.shape == chunk.actions.shape == chunk.log_probs.shape == (2, 2, 7)
    assert torch.equal(chunk.actions, policy.binning.decode(chunk.tokens))
    scored = policy.score(pictures(2), (OPEN, CLOSE), tokens=chunk.tokens, temperature=1.0)
    torch.testing.assert_close(scored.log_probs.detach(), chunk.log_probs, atol=1e-4, rtol=1e-4)


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


def test_it_comes_back_from_its_checkpoint(policy: VlmPolicy, tmp_path: Path) -> None:
    file = tmp_path / "policy.safetensors"
    policy.save(file, {"by": "a test"})
    again = load_policy(file)
    assert isinstance(again, VlmPolicy)
    assert (again.chunk, again.image_size, again.binning) == (2, SIDE, policy.binning)
    one, two = (each.logits(pictures(2), (OPEN, CLOSE)) for each in (again, policy))
    torch.testing.assert_close(one, two, atol=1e-2, rtol=1e-2)


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


def test_with_adapters_only_they_the_queries_and_the_head_learn(policy: VlmPolicy, tmp_path: Path) -> None:
    policy.adapt(rank=2)
    learning = {name for name, weight in policy.model.named_parameters() if weight.requires_grad}
    assert {"queries", "head.weight", "head.bias"} < learning
    assert all("lora_" in name for name in learning - {"queries", "head.weight", "head.bias"})
    still = {name: weight.clone() for name, weight in policy.model.named_parameters() if name not in learning}
    before = loss(policy)
    config = SftConfig(updates=25, batch=4, lr=5e-3, augment=None)
    train_policy(policy, [a_clip()], config=config, on_update=lambda *_: None)
    assert loss(policy) < 0.7 * before
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


def test_inputs_without_a_sentence_are_refused(policy: VlmPolicy) -> None:
    with pytest.raises(BadTensor, match="input_ids"):
        policy.model({"pixel_values": torch.zeros(1, 3, 16, 16)})


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreadable, match=str(tmp_path)):
        VlmPolicy.of_folder(tmp_path, binning=nano_binning())


def test_a_checkpoint_whose_parts_do_not_fit_is_refused(policy: VlmPolicy, tmp_path: Path) -> None:
    file = tmp_path / "policy.safetensors"
    policy.model.config.chunk = 3  # says more than there are queries for
    policy.save(file, {})
    with pytest.raises(CheckpointUnreadable, match="fit together"):
        load_policy(file)
