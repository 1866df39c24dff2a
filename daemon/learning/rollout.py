"""Rollouts: a policy acting in an environment for K chunks, from many first observations at once.

The environment may be imagined, simulated or real; it only has to keep the contract of `Env`. What a
policy saw and decided is recorded as tensors; who judges the outcome, and who learns from it, is not here.

Rollouts may end before their last chunk, each where a judge sees success. A batch moves in step, so the
environment carries those along that are over until all are: what they do then is marked as not valid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from daemon.learning.batch import fitted, require_images
from daemon.learning.confines import ConfinedArms, Confines
from daemon.learning.errors import BadTensor
from daemon.learning.policy.policy import Policy
from daemon.learning.reward.judge import Judge


class Env(Protocol):
    """A batch of environments that move in step: B images in, then chunks of actions, B images out."""

    def reset(self, images: Tensor, seeds: Sequence[int] | None = None) -> None:
        """Start B episodes from first observations uint8 [B, 3, H, W].

        Where the environment has noise of its own, `seeds` says which, one for each; a real one has its own.
        """

    def step(self, actions: Tensor) -> Tensor:
        """Execute a chunk float32 [B, L, A]; the observation after it, uint8 [B, 3, H, W]."""

    def recent_frames(self, count: int) -> Tensor:
        """The last `count` observations, one per action and oldest first, uint8 [B, count, 3, H, W].

        The first repeats where there are fewer.
        """


class ToldEnv:
    """An environment that tells after every chunk how many there were; what that raises ends the rollout."""

    def __init__(self, inner: Env, told: Callable[[int], None]) -> None:
        self._inner, self._told, self._done = inner, told, 0

    def reset(self, images: Tensor, seeds: Sequence[int] | None = None) -> None:
        self._done = 0
        self._inner.reset(images, seeds)

    def step(self, actions: Tensor) -> Tensor:
        seen = self._inner.step(actions)
        self._done += 1
        self._told(self._done)
        return seen

    def recent_frames(self, count: int) -> Tensor:
        return self._inner.recent_frames(count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """First observations, uint8 [M, 3, H, W], and what is asked of the robot there, M sentences.

    Attributes:
        confines: what would be let through of moves there; None: everything, or the environment sees to it.

    Raises:
        BadTensor: images of another type or shape, none at all, or another number of sentences or confines.
    """

    images: Tensor
    instructions: tuple[str, ...]
    confines: Confines | None = None

    def __post_init__(self) -> None:
        require_images(self.images, where="starts")
        if len(self.instructions) != len(self.images):
            found = f"{len(self.instructions)} for {len(self.images)} images"
            raise BadTensor(name="starts: instructions", expected="one per image", found=found)
        if self.confines is not None and len(self.confines) != len(self.images):
            found = f"{len(self.confines)} for {len(self.images)} images"
            raise BadTensor(name="starts: confines", expected="one per image", found=found)

    def __len__(self) -> int:
        return len(self.instructions)

    def take(self, rows: Sequence[int]) -> Starts:
        """The starts with these numbers, in this order; a number may come several times."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        return Starts(
            images=self.images[chosen],
            instructions=tuple(self.instructions[row] for row in rows),
            confines=None if self.confines is None else self.confines.take(chosen),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """How long and how boldly to act.

    Attributes:
        final_frames: how many of the last frames the judge wants.
        stop: asked after every chunk but the last about those that go on; whom it knows to have succeeded is
            over. None: all act to the end.
    """

    chunks: int
    temperature: float
    final_frames: int
    stop: Judge | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """What B rollouts of K chunks saw and did; K is the longest one's.

    Attributes:
        images: uint8 [B, K, 3, H, W], what was decided by: the observations, at the policy's size.
        instructions: B sentences.
        tokens: int64 [B, K, L, A], as drawn.
        log_probs: float32 [B, K, L, A], of those tokens at the temperature they were drawn at.
        valid: bool [B, K], decisions before the rollout was over; the others count for nothing.
        final_frames: uint8 [B, F, 3, H, W], the last observations before it was over, oldest first.
    """

    images: Tensor
    instructions: tuple[str, ...]
    tokens: Tensor
    log_probs: Tensor
    valid: Tensor
    final_frames: Tensor


def rollout(
    policy: Policy,
    env: Env,
    starts: Starts,
    *,
    plan: RolloutPlan,
    generator: torch.Generator | None = None,
    seeds: Sequence[int] | None = None,
) -> Rollouts:
    """Act the plan's chunks from every start, or until all are over, open loop within a chunk.

    The policy decides by pictures of its own size, whatever the environment's, and is scored on the same.
    A robot's 256 pixels are brought to that size at once; a world model imagines at its own size, and what it
    imagines is brought to the policy's. Where each size divides the one before, both ways give the same
    picture but for rounding. Where the world model's is the smallest, imagined pictures are enlarged and lack
    the detail that the robot's have.

    Args:
        generator: of the policy's draws.
        seeds: of the environment's noise, one per start.

    Raises:
        BadTensor: the environment answers with another shape than it was started with, or the policy's
            logits are not finite.
        LearningError: what the judge raises that may end rollouts.
    """
    images, seen, decisions = starts.images.to(policy.device), [], []
    env.reset(images, seeds)
    arms = None if starts.confines is None else ConfinedArms(starts.confines, device=policy.device)
    ends = _Ends(plan, starts.instructions)
    for _ in range(plan.chunks):
        seen.append(fitted(images, policy.image_size))  # [B, 3, H, W], the policy's
        chunk = policy.act(
            seen[-1], starts.instructions, temperature=plan.temperature, generator=generator
        )  # [B, L, A]
        decisions.append(chunk)
        moves = chunk.actions if arms is None else arms.let_through(chunk.actions)
        images = env.step(moves).to(policy.device)  # [B, 3, H, W]
        _require_alike(images, starts.images)
        if ends.look(env):
            break
    return Rollouts(
        images=torch.stack(seen, dim=1),
        instructions=starts.instructions,
        tokens=torch.stack([chunk.tokens for chunk in decisions], dim=1),
        log_probs=torch.stack([chunk.log_probs for chunk in decisions], dim=1),
        valid=torch.stack(ends.valid, dim=1),
        final_frames=ends.frames,
    )


def _require_alike(images: Tensor, first: Tensor) -> None:
    if images.shape != first.shape:
        expected, found = str(list(first.shape)), str(list(images.shape))
        raise BadTensor(name="the environment's images", expected=expected, found=found)


class _Ends:
    """Where the rollouts of a batch end: with the plan's last chunk, or before it where a judge sees success.

    Attributes:
        valid: bool [B] of every chunk, the rollouts that were not over when it was decided.
        frames: uint8 [B, F, 3, H, W], of those that are over their last ones, of the others the newest.
    """

    def __init__(self, plan: RolloutPlan, instructions: Sequence[str]) -> None:
        self._plan, self._instructions = plan, instructions
        self._running = torch.ones(len(instructions), dtype=torch.bool)  # [B]
        self.valid: list[Tensor] = []
        self.frames = torch.empty(0)

    def look(self, env: Env) -> bool:
        """After a chunk: whether all rollouts are over."""
        self.valid.append(self._running.clone())
        is_last = len(self.valid) == self._plan.chunks
        if is_last or self._plan.stop is not None:
            self._see(env.recent_frames(self._plan.final_frames))
        if self._plan.stop is not None and not is_last:
            self._ask(self._plan.stop)
        return is_last or not bool(self._running.any())

    def _see(self, newest: Tensor) -> None:
        if bool(self._running.all()):
            self.frames = newest
        else:
            running = self._running.to(newest.device)
            self.frames = torch.where(running[:, None, None, None, None], newest, self.frames)

    def _ask(self, judge: Judge) -> None:
        rows = self._running.nonzero().squeeze(1)
        instructions = [self._instructions[row] for row in rows.tolist()]
        verdicts = judge.judge(self.frames[rows], instructions)
        self._running[rows] = ~(verdicts.success & verdicts.known).cpu()
