"""A policy acts, scores what was done, and comes back from its checkpoint the same."""

from pathlib import Path

import pytest
import torch

from daemon.learning.errors import BadTensor
from daemon.learning.policy.policy import BadTemperature, Policy, new_policy
from daemon.learning.policy.tokens import ActionBinning, BinningInvalid
from daemon.learning.state import CheckpointUnreadable, load_state, save_state

CORPUS = ("open the drawer", "close the drawer")


def a_policy(seed: int = 0, *, spread: float = 4.0) -> Policy:
    """A small policy whose distributions are far from uniform, as a trained one's are."""
    policy = new_policy(CORPUS, seed=seed, chunk=2, width=32, layers=1)
    with torch.no_grad():
        policy.model.head.weight.mul_(spread)
    return policy


def images(count: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_decision_is_tokens_their_actions_and_their_log_probabilities() -> None:
    chunk = a_policy().act(images(3), ["open the drawer"] * 3, temperature=1.0, generator=seeded(0))
    assert chunk.tokens.shape == chunk.actions.shape == chunk.log_probs.shape == (3, 2, 7)
    assert (chunk.tokens.dtype, chunk.actions.dtype, chunk.log_probs.dtype) == (
        torch.int64,
        torch.float32,
        torch.float32,
    )
    assert torch.equal(a_policy().binning.decode(chunk.tokens), chunk.actions)
    assert not chunk.log_probs.requires_grad


def test_greedy_takes_the_likeliest_bin_without_chance() -> None:
    policy = a_policy()
    greedy = policy.act(images(3), ["open the drawer"] * 3)
    assert torch.equal(greedy.tokens, policy.logits(images(3), ["open the drawer"] * 3).argmax(-1))
    again = policy.act(images(3), ["open the drawer"] * 3, generator=seeded(9))
    assert torch.equal(greedy.tokens, again.tokens)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.6])
def test_what_acting_reports_is_what_scoring_finds(temperature: float) -> None:
    policy = a_policy()
    chunk = policy.act(images(4), [*CORPUS] * 2, temperature=temperature, generator=seeded(1))
    scored = policy.score(images(4), [*CORPUS] * 2, tokens=chunk.tokens, temperature=temperature)
    torch.testing.assert_close(chunk.log_probs, scored.log_probs.detach(), atol=1e-5, rtol=1e-5)
    alone = policy.log_probs(images(4), [*CORPUS] * 2, chunk.tokens, temperature=temperature)
    assert torch.equal(alone, scored.log_probs)


def test_the_draw_depends_on_the_seed_alone() -> None:
    policy = a_policy()

    def tokens(seed: int) -> torch.Tensor:
        return policy.act(images(4), [*CORPUS] * 2, temperature=1.0, generator=seeded(seed)).tokens

    assert torch.equal(tokens(3), tokens(3))
    assert not torch.equal(tokens(3), tokens(4))


def test_bins_are_drawn_as_often_as_their_probability_says() -> None:
    policy, count = a_policy(), 3000
    picture, sentence = images(1), ["open the drawer"]
    with torch.no_grad():
        expected = (policy.logits(picture, sentence) / 1.3).softmax(-1)[0, 0, 0]  # [bins]
    drawn = torch.cat(
        [
            policy.act(
                picture.expand(500, -1, -1, -1), sentence * 500, temperature=1.3, generator=seeded(seed)
            ).tokens[:, 0, 0]
            for seed in range(count // 500)
        ]
    )
    frequency = torch.bincount(drawn, minlength=policy.binning.bins) / count
    five_sigma = 5 * (expected * (1 - expected) / count).sqrt() + 1e-4
    assert bool(((frequency - expected).abs() < five_sigma).all())


def test_temperature_flattens_and_never_reorders() -> None:
    policy = a_policy()
    tokens = policy.act(images(2), list(CORPUS)).tokens
    entropies = [
        float(policy.score(images(2), list(CORPUS), tokens=tokens, temperature=t).entropy.mean().detach())
        for t in (0.25, 1.0, 4.0, 1e4)
    ]
    assert entropies == sorted(entropies)
    assert entropies[-1] == pytest.approx(torch.tensor(31.0).log().item(), abs=1e-3)
    likeliest = policy.score(images(2), list(CORPUS), tokens=tokens, temperature=1e3).log_probs
    assert bool((likeliest >= -torch.tensor(31.0).log() - 1e-4).all())


def test_climbing_the_log_probability_of_a_chunk_makes_it_likelier() -> None:
    policy = a_policy()
    tokens = torch.full((1, 2, 7), 5)
    before = policy.log_probs(images(1), ["open the drawer"], tokens, temperature=1.0).sum()
    before.backward()
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(1e-3 * parameter.grad)
    after = policy.log_probs(images(1), ["open the drawer"], tokens, temperature=1.0).sum()
    assert after > before


def test_acting_needs_no_gradient_and_leaves_evaluation_mode_on() -> None:
    policy = a_policy()
    policy.model.train()
    policy.act(images(1), ["open the drawer"])
    assert not policy.model.training


def test_half_precision_changes_little() -> None:
    full, reduced = a_policy(), a_policy()
    reduced.precision = torch.bfloat16
    with torch.no_grad():
        exact, close = (policy.logits(images(8), [*CORPUS] * 4) for policy in (full, reduced))
    assert close.dtype == torch.float32
    assert not torch.equal(exact, close)
    assert float((exact - close).abs().max()) < 0.05 * float(exact.std()) + 0.02


def test_a_checkpoint_brings_back_network_tokenizer_and_binning(tmp_path: Path) -> None:
    policy = a_policy()
    policy.save(tmp_path / "policy.safetensors", {"seed": 0})
    again = Policy.load(tmp_path / "policy.safetensors")
    assert again.binning == policy.binning
    assert again.chunk == 2
    assert not again.model.training
    sentences = ["open the drawer", "bring a towel, please"]
    with torch.no_grad():
        torch.testing.assert_close(
            again.logits(images(2), sentences), policy.logits(images(2), sentences), atol=5e-3, rtol=5e-3
        )
    again.save(tmp_path / "again.safetensors", {"seed": 0})  # rounding to float16 happens once
    one, two = (load_state(tmp_path / name) for name in ("policy.safetensors", "again.safetensors"))
    assert (one.config, one.card, one.extra) == (two.config, {"seed": 0}, two.extra)
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)
    assert {tensor.dtype for tensor in one.tensors.values()} == {torch.float16}


def test_a_nano_checkpoint_is_small(tmp_path: Path) -> None:
    new_policy(CORPUS, seed=0).save(tmp_path / "policy.safetensors", {})
    assert (tmp_path / "policy.safetensors").stat().st_size < 2_500_000


def spoiled(path: Path, part: str) -> None:
    """Rewrite a policy checkpoint so that one of its parts does not fit the others."""
    state = load_state(path)
    config, extra, tensors = dict(state.config), dict(state.extra), dict(state.tensors)
    match part:
        case "binning of another size":
            config["binning"] = {**config["binning"], "bins": 32}
        case "binning without bounds":
            config["binning"] = {"bins": 31}
        case "no sizes":
            config["model"] = {}
        case "sizes of another network":
            config["model"] = {**config["model"], "layers": 3}
        case "no tokenizer":
            extra = {}
        case "tokenizer cut short":
            extra["tokenizer"] = extra["tokenizer"][:100]
        case "a tensor missing":
            tensors.pop("head.bias")
    kind = "judge" if part == "another kind" else "policy"
    save_state(path, tensors, kind=kind, config=config, card={}, extra=extra)


@pytest.mark.parametrize(
    "part",
    [
        "binning of another size",
        "binning without bounds",
        "no sizes",
        "sizes of another network",
        "no tokenizer",
        "tokenizer cut short",
        "a tensor missing",
        "another kind",
    ],
)
def test_a_checkpoint_whose_parts_do_not_fit_is_refused(tmp_path: Path, part: str) -> None:
    path = tmp_path / "policy.safetensors"
    a_policy().save(path, {})
    spoiled(path, part)
    with pytest.raises(CheckpointUnreadable):
        Policy.load(path)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    a_policy().save(path, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointUnreadable):
        Policy.load(path)


def test_a_broken_network_does_not_move_the_arm() -> None:
    policy = a_policy()
    with torch.no_grad():
        policy.model.head.bias[3] = torch.nan
    with pytest.raises(BadTensor, match="finite"):
        policy.act(images(1), ["open the drawer"])


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf")])
def test_a_senseless_temperature_is_refused(temperature: float) -> None:
    policy = a_policy()
    with pytest.raises(BadTemperature) as refused:
        policy.act(images(1), ["open the drawer"], temperature=temperature)
    assert refused.value.code == "bad_temperature"
    tokens = torch.zeros(1, 2, 7, dtype=torch.int64)
    for value in (temperature, 0.0):
        with pytest.raises(BadTemperature):
            policy.log_probs(images(1), ["open the drawer"], tokens, temperature=value)


def test_every_picture_needs_its_sentence() -> None:
    with pytest.raises(BadTensor, match="1 for 2 images"):
        a_policy().act(images(2), ["open the drawer"])


def test_tokens_of_another_chunk_length_are_refused() -> None:
    with pytest.raises(BadTensor, match=r"\[1, 2, 7\]"):
        a_policy().score(images(1), ["open"], tokens=torch.zeros(1, 3, 7, dtype=torch.int64), temperature=1.0)


def test_a_network_and_a_binning_of_different_sizes_are_refused() -> None:
    policy = a_policy()
    binning = ActionBinning(low=(0.0,) * 7, high=(1.0,) * 7, bins=9)
    with pytest.raises(BinningInvalid, match="9"):
        Policy(policy.model, policy.tokenizer, binning=binning)


def test_a_seed_decides_the_weights_and_touches_no_other_chance() -> None:
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = a_policy(seed=1), a_policy(seed=1), a_policy(seed=2)
    assert torch.equal(torch.rand(3), undisturbed)
    states = [policy.model.state_dict() for policy in (one, two, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["queries"], states[2]["queries"])
