"""The judge that runs everywhere: a small classifier over the last frames of a rollout.

A verdict is the mean probability of success over the last frames, compared with one half; close to one half
the judge declines. `training.py` teaches it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from daemon.learning.batch import fitted
from daemon.learning.devices import autocast
from daemon.learning.errors import BadTensor, LearningError
from daemon.learning.policy.tokenizer import (
    TokenizerUnreadable,
    build_tokenizer,
    from_json,
    to_json,
    tokenize,
)
from daemon.learning.reward.judge import Verdicts, require_films
from daemon.learning.reward.success_classifier import SuccessClassifier, SuccessClassifierConfig
from daemon.learning.state import CheckpointUnreadable, half, load_state, save_state

KIND = "judge"
SIZES = ("image_size", "vocabulary", "width", "channels_per_place")
JUDGED_FRAMES = 3  # success is judged at the end; three frames average out the flicker of imagination
ABSTAIN_WITHIN = 0.2  # a mean probability this close to one half is no verdict: blurred ends give such
FRAMES_AT_ONCE = 512  # bounds the memory of one forward pass


class BadAbstention(LearningError):
    """An abstention band that leaves no verdicts, or is no number."""

    code = "bad_abstention"

    def __init__(self, *, abstain_within: float) -> None:
        super().__init__(f"abstain_within should be in [0, 0.5), found {abstain_within}. Correct the spec.")


class ClassifierJudge:
    """Classifier, tokenizer and the band of probabilities in which it declines."""

    def __init__(
        self,
        model: SuccessClassifier,
        tokenizer: PreTrainedTokenizerFast,
        *,
        abstain_within: float = ABSTAIN_WITHIN,
        precision: torch.dtype = torch.float32,
    ) -> None:
        if not 0 <= abstain_within < 0.5:
            raise BadAbstention(abstain_within=abstain_within)
        self.model = model
        self.tokenizer = tokenizer
        self.abstain_within = abstain_within
        self.precision = precision

    @property
    def frames(self) -> int:
        return JUDGED_FRAMES

    @property
    def image_size(self) -> int:
        """Pixels on a side of the frames that it judges by."""
        return int(self.model.config.image_size)

    @property
    def device(self) -> torch.device:
        return self.model.device  # type: ignore[no-any-return]

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        """Judge rollouts by the last three of the frames given (all of them when there are fewer).

        Frames of another size are seen at the judge's own.

        Raises:
            BadTensor: frames are not uint8 [B, F >= 1, 3, H, W], or there are not B instructions.
        """
        require_films(frames, instructions)
        last = frames[:, -JUDGED_FRAMES:]  # [B, F, 3, H, W]
        count = last.shape[1]
        sentences = [sentence for sentence in instructions for _ in range(count)]
        by_frame = self.probabilities(self._seen(last), sentences).view(-1, count)  # [B, F]
        probability = by_frame.mean(dim=1)  # [B]
        known = torch.isfinite(probability) & ((probability - 0.5).abs() >= self.abstain_within)
        return Verdicts(success=probability > 0.5, known=known, probability=probability)

    @torch.no_grad()
    def probabilities(self, frames: Tensor, instructions: Sequence[str]) -> Tensor:
        """Probability of success, float32 [B], of each frame [B, 3, H, W] on its own."""
        self.model.eval()
        parts = [
            self.logits(frames[at : at + FRAMES_AT_ONCE], instructions[at : at + FRAMES_AT_ONCE]).sigmoid()
            for at in range(0, max(len(frames), 1), FRAMES_AT_ONCE)
        ]
        return torch.cat(parts)

    def along(self, films: Tensor, instructions: Sequence[str]) -> Tensor:
        """Probability of success, float32 [B, F], if films [B, F, 3, H, W] ended at each of their frames.

        It is the mean over the last three frames until then, as in a verdict; the first have fewer.

        Raises:
            BadTensor: films are not uint8 [B, F >= 1, 3, H, W], or there are not B instructions.
        """
        require_films(films, instructions)
        frames = films.shape[1]
        sentences = [sentence for sentence in instructions for _ in range(frames)]
        by_frame = self.probabilities(self._seen(films), sentences).view(-1, frames).double().cpu()
        sums = torch.nn.functional.pad(by_frame.cumsum(dim=1), (1, 0))  # [B, F + 1]
        until = torch.arange(1, frames + 1)
        begun = (until - JUDGED_FRAMES).clamp_min(0)
        return ((sums[:, until] - sums[:, begun]) / (until - begun)).float()

    def _seen(self, films: Tensor) -> Tensor:
        """The frames of films [B, F, 3, H, W] one by one, at this judge's size."""
        frames = films.flatten(0, 1)
        return fitted(frames, self.image_size) if len(frames) else frames

    def logits(self, frames: Tensor, instructions: Sequence[str]) -> Tensor:
        """Logits float32 [B] of frames [B, 3, H, W], with gradient.

        Raises:
            BadTensor: the numbers of frames and instructions differ, or frames have another size.
        """
        if len(frames) != len(instructions):
            found = f"{len(instructions)} for {len(frames)} frames"
            raise BadTensor(name="instructions", expected="one per frame", found=found)
        ids, mask = tokenize(self.tokenizer, instructions, device=self.device)
        with autocast(self.device, self.precision):
            logits: Tensor = self.model(frames.to(self.device), ids, mask)
        return logits.float()

    @property
    def looks(self) -> bool:
        """Whether it has learned where the subject of an instruction is (`looking.py`)."""
        return self.model.look is not None

    @torch.no_grad()
    def subject_shares(self, frames: Tensor, instruction: str) -> Tensor:
        """Share of each place of frames [F, 3, H, W] that shows what the instruction is about.

        Returns:
            float32 [F, image_size / 8, image_size / 8] in [0, 1].

        Raises:
            BadTensor: frames have another size, or this judge has not learned to look.
        """
        self.model.eval()
        parts = [self.share_logits(part, [instruction] * len(part)) for part in frames.split(FRAMES_AT_ONCE)]
        return torch.cat(parts).sigmoid().cpu()

    def share_logits(self, frames: Tensor, instructions: Sequence[str]) -> Tensor:
        """Logits float32 [B, h, w] of those shares, with a gradient for the head that tells them.

        Raises:
            BadTensor: frames have another size, or this judge has not learned to look.
        """
        ids, mask = tokenize(self.tokenizer, instructions, device=self.device)
        with autocast(self.device, self.precision):
            logits: Tensor = self.model.shares(frames.to(self.device), ids, mask)
        return logits.float()

    def save(self, path: Path, card: Mapping[str, Any]) -> None:
        """Write one checkpoint file with float16 weights."""
        sizes = {name: getattr(self.model.config, name) for name in SIZES}
        config = {
            "model": {**sizes, "looks": self.looks},
            "abstain_within": self.abstain_within,
        }
        extra = {"tokenizer": to_json(self.tokenizer)}
        save_state(path, half(self.model.state_dict()), kind=KIND, config=config, card=card, extra=extra)

    @classmethod
    def load(
        cls, path: Path, *, device: torch.device | None = None, precision: torch.dtype = torch.float32
    ) -> ClassifierJudge:
        """Read a checkpoint of kind "judge".

        Raises:
            CheckpointUnreadable: not a judge checkpoint, or its parts do not fit together.
        """
        state = load_state(path, kind=KIND)
        try:
            sizes = {name: state.config["model"][name] for name in SIZES}
            looks = bool(state.config["model"].get("looks", False))  # older checkpoints say nothing
            model = SuccessClassifier(SuccessClassifierConfig(**sizes, looks=looks))
            model.load_state_dict(state.tensors)
            return cls(
                model.to(device or torch.device("cpu")).eval(),
                from_json(state.extra["tokenizer"]),
                abstain_within=float(state.config["abstain_within"]),
                precision=precision,
            )
        except (KeyError, TypeError, RuntimeError, BadAbstention, TokenizerUnreadable) as error:
            expected = "a classifier and a tokenizer that fit together"
            raise CheckpointUnreadable(path=path, expected=expected, found=str(error)) from error


def new_judge(corpus: Sequence[str], *, seed: int, width: int = 64) -> ClassifierJudge:
    """An untrained judge, its tokenizer learned from `corpus`; one seed always gives one judge."""
    tokenizer = build_tokenizer(corpus)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SuccessClassifier(SuccessClassifierConfig(vocabulary=len(tokenizer), width=width))
    return ClassifierJudge(model, tokenizer)
