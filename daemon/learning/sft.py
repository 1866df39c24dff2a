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
from daemon.learning.errors import LearningError, NonFiniteLoss
from daemon.learning.policy.policy import Policy

GRIPPER = 6  # the last action dimension is absolute; all others are motions
WARM_UP = 0.05  # share of the updates during which the learning rate rises


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
    optimizer = torch.optim.AdamW(
        policy.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.95)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: _rate(update, config.updates))
    tail: list[tuple[float, float]] = []
    policy.model.train()
    for update in range(1, config.updates + 1):
        chosen = torch.multinomial(
            demonstrations.weights, config.batch, replacement=True, generator=generator
        )
        loss, accuracy = _loss(policy, demonstrations, chosen, config=config, generator=generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), config.max_grad_norm)
        _require_finite(update, loss, norm)
        optimizer.step()
        schedule.step()
        metrics = {"loss": float(loss.detach()), "token_accuracy": float(accuracy), "grad_norm": float(norm)}
        tail = [*tail, (metrics["loss"], metrics["token_accuracy"])][-max(1, config.updates // 10) :]
        on_update(update, metrics)
    policy.model.eval()
    losses, accuracies = zip(*tail, strict=True) if tail else ((math.nan,), (math.nan,))
    return SftReport(
        updates=config.updates,
        loss=sum(losses) / len(losses),
        token_accuracy=sum(accuracies) / len(accuracies),
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


def _loss(
    policy: Policy,
    demonstrations: Demonstrations,
    chosen: Tensor,
    *,
    config: SftConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy per token in nats, and the share of tokens that were likeliest."""
    images = demonstrations.frames[chosen]  # [B, 3, H, W]
    if config.augment is not None:
        images = augment(images, config.augment, generator=generator)
    targets = demonstrations.tokens[chosen].to(policy.device)  # [B, L, A]
    logits = policy.logits(images, [demonstrations.instructions[i] for i in chosen.tolist()])
    loss = F.cross_entropy(logits.flatten(0, 2), targets.flatten())
    return loss, (logits.argmax(-1) == targets).float().mean()


def _rate(update: int, updates: int) -> float:
    """Learning-rate factor: a short linear rise, then half a cosine down to zero."""
    rise = max(1, round(WARM_UP * updates))
    if update < rise:
        return (update + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (update - rise) / max(1, updates - rise)))


def _require_finite(update: int, loss: Tensor, norm: Tensor) -> None:
    if not bool(torch.isfinite(loss)):
        raise NonFiniteLoss(phase="sft", update=update, quantity="loss", inputs="demonstrations")
    if not bool(torch.isfinite(norm)):
        raise NonFiniteLoss(phase="sft", update=update, quantity="gradient norm", inputs="demonstrations")
