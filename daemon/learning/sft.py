"""Supervised finetuning: a policy learns to repeat what demonstrations did.

For every frame t of a clip the target is the chunk a_t .. a_{t+L-1}; past the end of the clip the target is
to stand still with the gripper as it was last commanded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from daemon.learning.augment import Augmentation, augment
from daemon.learning.batch import Clip
from daemon.learning.descent import Descent, descend
from daemon.learning.errors import LearningError
from daemon.learning.policy.policy import Policy

GRIPPER = 6  # the last action dimension is absolute; all others are motions


class NoDemonstrations(LearningError):
    """There is nothing to imitate."""

    code = "no_demonstrations"

    def __init__(self) -> None:
        super().__init__("no clip was given to learn from. Collect or import successful episodes first.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SftConfig:
    """How long and how fast to imitate. `augment` is None for pictures as they are."""

    updates: int = 600
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    augment: Augmentation | None = field(default_factory=Augmentation)
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SftReport:
    """Means over the last tenth of the updates; accuracy is the share of tokens that were likeliest."""

    updates: int
    loss: float
    token_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrations:
    """Every step of every clip, ready to draw: frames [X, 3, H, W], tokens [X, L, A], X instructions."""

    frames: Tensor
    tokens: Tensor
    instructions: tuple[str, ...]
    weights: Tensor  # float64 [X]: all instructions equally likely, whatever their number of steps

    def draw(self, batch: int, *, generator: torch.Generator) -> Tensor:
        """Numbers of so many steps, int64 [B], drawn by their weights."""
        return torch.multinomial(self.weights, batch, replacement=True, generator=generator)


def train_policy(
    policy: Policy,
    clips: Sequence[Clip],
    *,
    config: SftConfig,
    on_update: Callable[[int, dict[str, float]], None],
) -> SftReport:
    """Imitate the clips; the policy is changed in place. `on_update` gets update 1, 2, … and its metrics.

    Raises:
        NoDemonstrations: there are no clips.
        ClipInvalid: a clip breaks its contract.
        NonFiniteLoss: loss or gradient is NaN or infinite; weights are those before that update.
    """
    demonstrations = demonstrations_of(policy, clips)
    generator = torch.Generator().manual_seed(config.seed)

    def loss_of_batch() -> tuple[Tensor, dict[str, Tensor]]:
        chosen = demonstrations.draw(config.batch, generator=generator)
        return imitation(policy, demonstrations, chosen, amount=config.augment, generator=generator)

    plan = Descent(
        phase="sft",
        updates=config.updates,
        lr=config.lr,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
    )
    last = descend(policy.model, loss_of_batch, plan=plan, on_update=on_update)
    return SftReport(
        updates=config.updates,
        loss=last.get("loss", math.nan),
        token_accuracy=last.get("token_accuracy", math.nan),
    )


def demonstrations_of(policy: Policy, clips: Sequence[Clip]) -> Demonstrations:
    """Cut clips into (frame, chunk of tokens, instruction), one per step.

    Raises:
        NoDemonstrations: there are no clips.
        ClipInvalid: a clip breaks its contract.
    """
    if not clips:
        raise NoDemonstrations
    for clip in clips:
        clip.validate()
    instructions = tuple(clip.instruction for clip in clips for _ in range(clip.steps))
    counts = Counter(instructions)
    tokens = [policy.binning.encode(chunk_targets(clip.actions, policy.chunk)) for clip in clips]
    return Demonstrations(
        frames=torch.cat([clip.frames[:-1] for clip in clips]),
        tokens=torch.cat(tokens),
        instructions=instructions,
        weights=torch.tensor([1 / counts[sentence] for sentence in instructions], dtype=torch.float64),
    )


def chunk_targets(actions: Tensor, chunk: int) -> Tensor:
    """Chunks [T, L, A] of actions [T, A]: row t is a_t .. a_{t+L-1}.

    Past the last action a row goes on with zero motion and the last gripper command.
    """
    still = torch.zeros_like(actions[-1:])
    still[:, GRIPPER] = actions[-1, GRIPPER]
    padded = torch.cat([actions, still.expand(chunk - 1, -1)])  # [T+L-1, A]
    return padded.unfold(0, chunk, 1).transpose(1, 2)  # [T, L, A]


def imitation(
    policy: Policy,
    demonstrations: Demonstrations,
    chosen: Tensor,
    *,
    amount: Augmentation | None,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy per token in nats, with gradient, and the share of tokens that were likeliest.

    Args:
        chosen: numbers of the steps to imitate, int64 [B].
    """
    images = demonstrations.frames[chosen]  # [B, 3, H, W]
    if amount is not None:
        images = augment(images, amount, generator=generator)
    targets = demonstrations.tokens[chosen].to(policy.device)  # [B, L, A]
    logits = policy.logits(images, [demonstrations.instructions[i] for i in chosen.tolist()])
    loss = F.cross_entropy(logits.flatten(0, 2), targets.flatten())
    return loss, {"token_accuracy": (logits.argmax(-1) == targets).float().mean()}
