"""Optimizer steps beside real successes: what is imitated stays, what is not may go."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from daemon.learning.batch import Clip
from daemon.learning.decisions import Decisions, decisions_of, joined
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.learner import Learner, PolicyUpdateConfig
from daemon.learning.policy.policy import Policy, new_policy
from daemon.learning.policy_progress import UpdateProgress
from daemon.learning.reward.judge import Verdicts
from daemon.learning.rollout import Rollouts
from daemon.learning.sft import demonstrations_of
from daemon.learning.start_draws import StartDraws

SENTENCES = ("push it left", "push it right")


def a_clip(instruction: str = SENTENCES[0], *, seed: int = 0) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    return Clip(
        frames=torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=generator),
        actions=0.01 * torch.randn(4, 7, generator=generator),
        instruction=instruction,
        episode_id=f"episode-{seed}",
        success=True,
    )


def decisions_against(policy: Policy, clip: Clip) -> Decisions:
    """The clip's own chunks, as if rollouts that did the same had failed where others did not."""
    images = clip.frames[:-1]
    tokens = policy.act(images, [clip.instruction] * len(images)).tokens
    sentences = (clip.instruction,) * len(images)
    return Decisions(
        images=images,
        instructions=sentences,
        tokens=tokens,
        log_probs=policy.log_probs(images, sentences, tokens, temperature=1.0).detach(),
        advantages=-torch.ones(len(images)),
    )


def learned(
    policy: Policy,
    decisions: Decisions,
    *,
    proven: tuple[Clip, ...] = (),
    imitation: float = 0.0,
    anchored: tuple[Clip, ...] = (),
    anchor: float = 0.0,
    epochs: int = 10,
    **changes: Any,
) -> list[dict[str, float]]:
    weights = {"imitation": imitation, "anchor": anchor}
    config = PolicyUpdateConfig(**weights, lr=1e-3, epochs=epochs, max_approx_kl=1e9, **changes)
    generator = torch.Generator().manual_seed(0)
    draws = StartDraws((SENTENCES[0],), generator=generator, by_promise=False)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=config.lr, weight_decay=0.0)
    progress = UpdateProgress(policy.model, optimizer, generator=generator, draws=draws)
    learner = Learner(policy, progress, config=config, proven=proven, anchored=anchored)
    return learner.learn(decisions)


def a_policy() -> Policy:
    return new_policy(SENTENCES, seed=0, chunk=2, width=32, layers=1)


def likelihood_of(policy: Policy, clip: Clip) -> float:
    """Mean log-probability of the chunks that the clip executed."""
    shown = demonstrations_of(policy, [clip])
    found = policy.log_probs(shown.frames, shown.instructions, shown.tokens, temperature=1.0)
    return float(found.mean().detach())


def test_what_really_succeeded_becomes_likelier_while_imagination_speaks_of_something_else() -> None:
    proven, imagined = a_clip(), a_clip(SENTENCES[1], seed=1)
    free, held = a_policy(), a_policy()
    before = likelihood_of(free, proven)
    learned(free, decisions_against(free, imagined))
    steps = learned(held, decisions_against(held, imagined), proven=(proven,), imitation=1.0)
    assert likelihood_of(held, proven) > before + 0.1
    assert likelihood_of(held, proven) > likelihood_of(free, proven) + 0.1
    assert steps[-1]["imitation"] < steps[0]["imitation"]


def moved(policy: Policy, clip: Clip) -> float:
    """Mean KL(the policy that all of these begin with, the policy) of the tokens on the frames of a clip."""
    shown = demonstrations_of(policy, [clip])
    with torch.no_grad():
        before = a_policy().logits(shown.frames, shown.instructions).log_softmax(-1)
        now = policy.logits(shown.frames, shown.instructions).log_softmax(-1)
    return float((before.exp() * (before - now)).sum(-1).mean())


def test_what_is_not_imagined_stays_as_it_was_and_what_is_goes_on_learning() -> None:
    elsewhere, imagined = a_clip(), a_clip(SENTENCES[1], seed=1)
    free, held = a_policy(), a_policy()
    decisions = decisions_against(free, imagined)
    learned(free, decisions)
    steps = learned(held, decisions, anchored=(elsewhere,), anchor=10.0)
    assert moved(held, elsewhere) < moved(free, elsewhere) / 5
    assert moved(held, imagined) > 2 * moved(held, elsewhere)
    assert steps[0]["anchor"] == pytest.approx(0, abs=1e-6), "nothing has moved yet"
    assert all(step["anchor"] > 0 for step in steps[1:])


def test_the_anchor_is_the_divergence_from_the_policy_that_the_updates_began_with() -> None:
    elsewhere = a_clip()
    policy = a_policy()
    learned(policy, decisions_against(policy, a_clip(SENTENCES[1], seed=1)), epochs=1)
    begun = moved(policy, elsewhere)
    assert begun > 0
    again = learned(policy, decisions_against(policy, elsewhere), anchored=(elsewhere,), anchor=1.0, epochs=1)
    assert again[0]["anchor"] == pytest.approx(0, abs=1e-6), "of these updates, not of those before"


def test_a_weight_of_zero_and_an_empty_shelf_change_nothing() -> None:
    ways = [
        {"proven": (a_clip(),), "imitation": 0.0, "anchored": (a_clip(),), "anchor": 0.0},
        {"proven": (), "imitation": 5.0, "anchored": (), "anchor": 5.0},
        {},
    ]
    weights = []
    for way in ways:
        policy = a_policy()
        steps = learned(policy, decisions_against(policy, a_clip(seed=1)), **way)
        assert all(name not in step for step in steps for name in ("imitation", "anchor"))
        weights.append(torch.cat([value.flatten() for value in policy.model.state_dict().values()]))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2])


def test_a_task_with_many_successes_does_not_drown_one_with_few() -> None:
    """Steps are drawn so that instructions are equally likely, as in supervised finetuning."""
    many = tuple(a_clip(seed=seed) for seed in range(9))
    rare = a_clip(SENTENCES[1], seed=20)
    policy = a_policy()
    before = likelihood_of(policy, rare)
    learned(policy, decisions_against(policy, a_clip(seed=30)), proven=(*many, rare), imitation=1.0)
    assert likelihood_of(policy, rare) > before + 0.1


@pytest.mark.parametrize("ratio_of", ["token", "chunk"])
def test_a_minibatch_in_parts_teaches_what_it_teaches_whole(
    ratio_of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven decisions of two rollouts in three parts: 3, 3 and 1, each a mean that counts for its share."""
    told, weights, most = [], [], []
    forward = Policy.logits

    def watched(policy: Policy, images: torch.Tensor, *rest: Any) -> torch.Tensor:
        most[-1] = max(most[-1], len(images))
        return forward(policy, images, *rest)

    for parts in (1, 3):
        policy = a_policy()
        some = joined([decisions_against(policy, a_clip(SENTENCES[1], seed=seed)) for seed in (1, 2)])
        some = replace(some.take(torch.arange(7)), advantages=torch.linspace(-1.5, 1.0, 7))
        beside = {"proven": (a_clip(),), "imitation": 0.5, "anchored": (a_clip(seed=3),), "anchor": 2.0}
        way = {"kl": 0.3, "accumulate": parts, "ratio_of": ratio_of, "epochs": 3}
        most.append(0)
        with monkeypatch.context() as patched:
            patched.setattr(Policy, "logits", watched)
            told.append(learned(policy, some, **beside, **way))
        weights.append(torch.cat([value.flatten() for value in policy.model.state_dict().values()]))
    whole, cut = told
    for one, other in zip(whole, cut, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-4)
    added = sum(times * whole[-1][name] for name, times in (("kl", 0.3), ("anchor", 2.0), ("imitation", 0.5)))
    assert whole[-1]["loss"] == pytest.approx(whole[-1]["policy_loss"] + added)
    assert most == [64, 22], "so many go through at once"


def test_a_minibatch_of_fewer_decisions_than_parts_is_cut_into_single_ones() -> None:
    steps = []
    for parts in (1, 100):
        policy = a_policy()
        some = decisions_against(policy, a_clip())
        steps += learned(policy, replace(some, advantages=torch.arange(4.0)), accumulate=parts, epochs=1)
    assert steps[1]["loss"] == pytest.approx(steps[0]["loss"]) == pytest.approx(-1.5)


def test_a_loss_that_is_not_finite_stops() -> None:
    policy = a_policy()
    spoiled = decisions_against(policy, a_clip())
    spoiled.advantages[0] = float("nan")
    with pytest.raises(NonFiniteLoss, match="update_policy"):
        learned(policy, spoiled)


CHUNKS = torch.tensor([1, 3, 2, 3])  # decisions of four rollouts, of which the first and the last succeeded


def rolled(policy: Policy, *, chunks: torch.Tensor = CHUNKS, rubbish: int = 0) -> Rollouts:
    """Four rollouts that the policy really drew; `rubbish` fills what came after their ends."""
    generator = torch.Generator().manual_seed(7)
    valid = torch.arange(3) < chunks[:, None]  # [4, 3]
    images = torch.randint(0, 256, (12, 3, 64, 64), dtype=torch.uint8, generator=generator)
    acted = policy.act(images, (SENTENCES[0],) * 12, temperature=1.0, generator=generator)
    images, tokens, log_probs = images.view(4, 3, 3, 64, 64), acted.tokens, acted.log_probs
    images[~valid] = rubbish
    return Rollouts(
        images=images,
        instructions=(SENTENCES[0],) * 4,
        tokens=tokens.view(4, 3, 2, 7).where(valid[:, :, None, None], torch.tensor(rubbish)),
        log_probs=log_probs.view(4, 3, 2, 7).where(valid[:, :, None, None], torch.tensor(-50.0 * rubbish)),
        valid=valid,
        final_frames=images[:, -1:],
    )


def taught(policy: Policy, rollouts: Rollouts, *, epochs: int = 1) -> list[dict[str, float]]:
    """What a learner says of its steps on these rollouts; the policy has learned from them."""
    verdicts = Verdicts(
        success=torch.tensor([True, False, False, True]),
        known=torch.ones(4, dtype=torch.bool),
        probability=torch.ones(4),
    )
    groups, _ = decisions_of(rollouts, verdicts, group_size=4, bounds=(0.1, 0.9))
    return learned(policy, joined(groups), epochs=epochs)


def test_loss_and_entropy_are_means_over_what_was_decided_before_the_ends() -> None:
    """Nothing has moved, so every ratio is 1 and the loss is minus the mean advantage of the nine decisions:
    -(1·1 - 3·1 - 2·1 + 3·1) / 9. Over all twelve it would be 0.
    """
    policy = a_policy()
    over = rolled(policy)
    seen = over.images[over.valid]
    entropy = policy.score(seen, (SENTENCES[0],) * 9, tokens=over.tokens[over.valid], temperature=1.0).entropy
    (step,) = taught(policy, over)
    assert step["loss"] == pytest.approx(1 / 9, abs=1e-5)
    assert step["entropy"] == pytest.approx(float(entropy.mean().detach()), abs=1e-5)
    assert (step["clip_fraction"], step["approx_kl"]) == (0.0, pytest.approx(0.0, abs=1e-6))


def test_whatever_came_after_the_end_moves_nothing_and_is_in_no_number() -> None:
    told, weights = [], []
    for rubbish in (0, 30):
        policy = a_policy()
        told.append(taught(policy, rolled(policy, rubbish=rubbish), epochs=6))
        weights.append(torch.cat([value.flatten() for value in policy.model.state_dict().values()]))
    assert told[0] == told[1]
    assert told[0][-1]["approx_kl"] > 0
    assert torch.equal(*weights)


def test_rollouts_without_a_valid_decision_change_nothing_and_divide_by_nothing() -> None:
    policy, before = a_policy(), a_policy()
    assert taught(policy, rolled(policy, chunks=torch.zeros(4, dtype=torch.int64)), epochs=3) == []
    assert all(
        torch.equal(value, before.model.state_dict()[name])
        for name, value in policy.model.state_dict().items()
    )
