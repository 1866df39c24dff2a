"""The judge that is a vision-language model in this process: p(success) from the logits of one token.

Any transformers folder with an `AutoModelForImageTextToText` and its processor. No text is generated and none
is parsed: after the question the next token is "1" or "0", and how much more likely the one is than the other
is the verdict. Close to one half it declines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from daemon.judges.errors import JudgeError
from daemon.learning.reward.judge import Verdicts, require_films
from daemon.learning.reward.vlm import Rubric, shown, yes_or_no
from daemon.learning.vlm_inputs import UNREADABLE, inputs_of, prompt_of, read_processor

ABSTAIN_WITHIN = 0.1  # a probability this close to one half is no verdict
YES, NO = "1", "0"


class JudgeModelUnusable(JudgeError):
    """The folder holds no model that can answer."""

    code = "judge_model_unusable"

    def __init__(self, *, folder: Path, reason: str) -> None:
        super().__init__(
            f"the judge's model in {folder} cannot be used: {reason}. Expected a transformers folder with an "
            "image-text-to-text model in safetensors and its processor."
        )


class VlmLocalJudge:
    """A model and its processor. Obeys `Judge`.

    Args:
        frames: of a rollout that the judge wants to see, the last ones; every third is shown.
        rubrics: by instruction; an instruction without one is its own.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        frames: int,
        rubrics: Mapping[str, Rubric] | None = None,
        abstain_within: float = ABSTAIN_WITHIN,
    ) -> None:
        self._model, self._processor = model.eval(), processor
        self._frames, self._rubrics = frames, dict(rubrics or {})
        self._abstain_within = abstain_within
        self._answers = [_only_token(processor.tokenizer, word) for word in (YES, NO)]

    @property
    def frames(self) -> int:
        return self._frames

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        frames: int,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        rubrics: Mapping[str, Rubric] | None = None,
    ) -> VlmLocalJudge:
        """Read a folder; nothing in it is run, and only safetensors are read.

        Raises:
            JudgeModelUnusable: it holds no such model, or one that has no token for its answers.
        """
        try:
            processor = read_processor(folder)
            model = AutoModelForImageTextToText.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=precision
            )
            return cls(model.to(device), processor, frames=frames, rubrics=rubrics)
        except UNREADABLE as error:
            raise JudgeModelUnusable(folder=folder, reason=str(error).splitlines()[0]) from error

    @torch.no_grad()
    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        """Verdicts on uint8 [B, F, 3, H, W], one rollout after the other.

        Raises:
            BadTensor: frames of another type or shape, or not one instruction each.
        """
        require_films(frames, instructions)
        probability = torch.tensor(
            [self._probability(film, sentence) for film, sentence in zip(frames, instructions, strict=True)],
            dtype=torch.float32,
        )
        known = probability.isfinite() & ((probability - 0.5).abs() >= self._abstain_within)
        return Verdicts(success=probability > 0.5, known=known, probability=probability)

    def _probability(self, film: Tensor, instruction: str) -> float:
        pictures = [film[place] for place in shown(len(film))]
        text = yes_or_no(instruction, self._rubrics.get(instruction, Rubric()), pictures=len(pictures))
        prompt = prompt_of(self._processor, text, pictures=len(pictures), ending="Answer: ")
        inputs = inputs_of(self._processor, [prompt], [pictures], device=self._model.device)
        logits = self._model(**inputs).logits[0, -1, self._answers].float()  # yes, no
        return float(logits.softmax(0)[0])


def _only_token(tokenizer: Any, word: str) -> int:
    """The token that an answer begins with.

    Raises:
        ValueError: the tokenizer has none for it.
    """
    found = tokenizer.encode(word, add_special_tokens=False)
    if not found or found[-1] == tokenizer.unk_token_id:
        raise ValueError(f"its tokenizer has no token for {word!r}")
    return int(found[-1])
