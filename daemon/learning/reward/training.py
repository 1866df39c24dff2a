"""Teaching the classifier judge: labelled frames in, a judge that agrees with them out.

Labels are rarely balanced, so every batch draws each (instruction, label) pair equally often: a judge that
always says yes must not look good. What nobody can tell is a label of its own, one half, where a judge
declines. `agreement` measures what was learned on frames held out.

A few episodes teach a judge more than they know: it forgets ends that none of them had. `mixing` stops on the
way from what it was to what it learned (`daemon/learning/mixing.py`).
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
from daemon.learning.batch import Clip, require_images
from daemon.learning.descent import Descent, descend
from daemon.learning.errors import BadTensor, LearningError
from daemon.learning.mixing import mix, weights_of
from daemon.learning.reward.classifier import ClassifierJudge

HALF = 0.5


class NothingJudged(LearningError):
    """There is no labelled frame to learn from."""

    code = "nothing_judged"

    def __init__(self, *, clips: int) -> None:
        super().__init__(
            f"none of {clips} clips carries a verdict. Label some episodes before training a judge."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeExamples:
    """Labelled frames.

    Attributes:
        frames: uint8 [M, 3, H, W].
        instructions: M sentences.
        success: bool [M], would an episode that ends with this frame count as a success.
        doubtful: bool [M], nobody can tell by this frame, whatever `success` says; None: there is no such.
    """

    frames: Tensor
    instructions: tuple[str, ...]
    success: Tensor
    doubtful: Tensor | None = None

    @property
    def targets(self) -> Tensor:
        """Probability float32 [M] of success to be said: 1, 0, or one half where nobody can tell."""
        said = self.success.float()
        return said if self.doubtful is None else said.where(~self.doubtful, HALF)

    def validate(self) -> None:
        """Check shapes and types.

        Raises:
            BadTensor: frames, instructions and labels do not fit each other, or are of another type.
        """
        require_images(self.frames, where="judge examples")
        for name, marks in (("success", self.success), ("doubtful", self.doubtful)):
            if marks is None or (marks.dtype == torch.bool and tuple(marks.shape) == (len(self.frames),)):
                continue
            found, expected = f"{marks.dtype} {list(marks.shape)}", f"bool [{len(self.frames)}]"
            raise BadTensor(name=f"judge examples: {name}", expected=expected, found=found)
        if len(self.instructions) != len(self.frames):
            found, expected = str(len(self.instructions)), f"{len(self.frames)} sentences"
            raise BadTensor(name="judge examples: instructions", expected=expected, found=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """How long and how fast to learn. `augment` is None for pictures as they are.

    Attributes:
        mixing: share of the way from the weights of before to the learned ones at which to stop; 1 is all.
    """

    updates: int = 300
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    augment: Augmentation | None = field(default_factory=Augmentation)
    mixing: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReport:
    """Means over the last tenth of the updates, on balanced batches: chance has loss ln 2, accuracy 0.5.

    They are of the weights while they were learned, before mixing.
    """

    updates: int
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How often the judge says what the label says, over frames of each label apart (None: no such frame)."""

    successes: int
    failures: int
    right_on_successes: float | None
    right_on_failures: float | None


def examples_of(clips: Sequence[Clip]) -> JudgeExamples:
    """Every labelled frame of clips: all frames where `success_by_frame` is given, else the last one.

    Raises:
        NothingJudged: no clip carries a label.
        ClipInvalid: a clip breaks its contract.
    """
    frames: list[Tensor] = []
    labels: list[Tensor] = []
    instructions: list[str] = []
    for clip in clips:
        clip.validate()
        if clip.success_by_frame is not None:
            frames.append(clip.frames)
            labels.append(clip.success_by_frame)
        elif clip.success is not None:
            frames.append(clip.frames[-1:])
            labels.append(torch.tensor([clip.success]))
        else:
            continue
        instructions += [clip.instruction] * len(labels[-1])
    if not frames:
        raise NothingJudged(clips=len(clips))
    return JudgeExamples(
        frames=torch.cat(frames), instructions=tuple(instructions), success=torch.cat(labels)
    )


def balanced_weights(instructions: Sequence[str], labels: Tensor) -> Tensor:
    """Draw weights float64 [M] under which every (instruction, label) pair present is equally likely."""
    pairs = list(zip(instructions, labels.tolist(), strict=True))
    counts = Counter(pairs)
    return torch.tensor([1 / counts[pair] for pair in pairs], dtype=torch.float64)


def train_judge(
    judge: ClassifierJudge,
    examples: JudgeExamples,
    *,
    config: JudgeConfig,
    on_update: Callable[[int, dict[str, float]], None],
) -> JudgeReport:
    """Learn from labelled frames; the judge is changed in place.

    Raises:
        BadTensor: examples do not fit together.
        NonFiniteLoss: loss or gradient is NaN or infinite; weights are those before that update.
    """
    examples.validate()
    generator = torch.Generator().manual_seed(config.seed)
    wanted = examples.targets
    weights = balanced_weights(examples.instructions, wanted)

    def loss_of_batch() -> tuple[Tensor, dict[str, Tensor]]:
        chosen = torch.multinomial(weights, config.batch, replacement=True, generator=generator)
        frames = examples.frames[chosen]  # [B, 3, H, W]
        if config.augment is not None:
            frames = augment(frames, config.augment, generator=generator)
        targets = wanted[chosen].to(judge.device)  # [B]
        logits = judge.logits(frames, [examples.instructions[i] for i in chosen.tolist()])
        loss = F.binary_cross_entropy_with_logits(logits, targets)
        right, decided = (logits > 0) == (targets > HALF), targets != HALF
        return loss, {"accuracy": (right & decided).sum() / decided.sum().clamp_min(1)}

    plan = Descent(
        phase="judge",
        updates=config.updates,
        lr=config.lr,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
    )
    before = weights_of(judge.model)
    last = descend(judge.model, loss_of_batch, plan=plan, on_update=on_update)
    mix(judge.model, before, share=config.mixing)
    return JudgeReport(
        updates=config.updates, loss=last.get("loss", math.nan), accuracy=last.get("accuracy", math.nan)
    )


def agreement(judge: ClassifierJudge, examples: JudgeExamples) -> dict[str, Agreement]:
    """Per instruction, how often single frames are judged as labelled (threshold one half, no declining).

    Doubtful frames have no label that one could agree with.

    Raises:
        BadTensor: examples do not fit together.
    """
    examples.validate()
    said = judge.probabilities(examples.frames, examples.instructions).cpu() > HALF  # [M]
    decided = examples.targets != HALF
    return {
        sentence: _agreement(said[rows[decided[rows]]], examples.success[rows[decided[rows]]])
        for sentence, rows in _rows_by_instruction(examples.instructions).items()
    }


def _agreement(said: Tensor, labels: Tensor) -> Agreement:
    def share(mask: Tensor, hits: Tensor) -> float | None:
        return float(hits[mask].float().mean()) if bool(mask.any()) else None

    return Agreement(
        successes=int(labels.sum()),
        failures=int((~labels).sum()),
        right_on_successes=share(labels, said),
        right_on_failures=share(~labels, ~said),
    )


def _rows_by_instruction(instructions: Sequence[str]) -> dict[str, Tensor]:
    rows: dict[str, list[int]] = {}
    for row, sentence in enumerate(instructions):
        rows.setdefault(sentence, []).append(row)
    return {sentence: torch.tensor(found) for sentence, found in rows.items()}
