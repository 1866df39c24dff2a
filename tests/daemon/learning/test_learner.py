"""Optimizer steps beside real successes: what is imitated stays, what is not may go."""

import pytest
import torch

from daemon.learning.batch import Clip
from daemon.learning.decisions import Decisions
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.learner import Learner, PolicyUpdateConfig
from daemon.learning.policy.policy import Policy, new_policy
from daemon.learning.policy_progress import UpdateProgress
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


def learned(policy: Policy, decisions: Decisions, *, proven: tuple[Clip, ...] = (), imitation: float = 0.0):
    config = PolicyUpdateConfig(imitation=imitation, lr=1e-3, epochs=10, max_approx_kl=1e9)
    generator = torch.Generator().manual_seed(0)
    draws = StartDraws((SENTENCES[0],), generator=generator, by_promise=False)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=config.lr, weight_decay=0.0)
    progress = UpdateProgress(policy.model, optimizer, generator=generator, draws=draws)
    return Learner(policy, progress, config=config, proven=proven).learn(decisions)


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


def test_a_weight_of_zero_and_an_empty_shelf_change_nothing() -> None:
    ways = [{"proven": (a_clip(),), "imitation": 0.0}, {"proven": (), "imitation": 5.0}, {}]
    weights = []
    for way in ways:
        policy = a_policy()
        steps = learned(policy, decisions_against(policy, a_clip(seed=1)), **way)
        assert all("imitation" not in step for step in steps)
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


def test_a_loss_that_is_not_finite_stops() -> None:
    policy = a_policy()
    spoiled = decisions_against(policy, a_clip())
    spoiled.advantages[0] = float("nan")
    with pytest.raises(NonFiniteLoss, match="update_policy"):
        learned(policy, spoiled)
