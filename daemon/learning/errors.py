"""The root of everything that learning refuses; each module below defines its own branches.

LearningError
├── BadTensor             a tensor of another shape or type than promised, or not finite
├── NonFiniteLoss         an update met NaN or infinity
├── ClipInvalid           batch.py: a clip breaks its contract
├── NoWindow              batch.py: no clip is long enough
├── CheckpointUnreadable  state.py: a checkpoint file cannot be used
├── StateNotFinite        state.py: a model with NaN or infinity is not written
├── NothingImagined       imagine.py: asked before it was reset
├── StepsUneven           world_model/schedule.py: denoise steps that miss the clean frame
├── EngineUnavailable     world_model/engine.py: an engine that this machine cannot run
├── SharesInvalid         world_model/windows.py: shares that divide no batch
├── OwnContextInvalid     world_model/own_context.py: no share, or a forcing without context
├── WorldgymUnreadable    world_model/worldgym.py: not a checkpoint of WorldGym's
├── AutoencoderUnreadable world_model/worldgym.py: no autoencoder that fits the transformer
├── BinningInvalid        policy/tokens.py: bounds that cut nothing
├── TokenizerUnreadable   policy/tokenizer.py: not a tokenizer of ours
├── BadTemperature        policy/policy.py: no distribution has it
├── AdaptersUnknown       policy/policy.py: adapters of a policy that has none
├── NoDemonstrations      sft.py: nothing to imitate
├── NothingJudged         reward/training.py: no labelled frame
├── NothingMarked         reward/looking.py: no clip that marks what it is about
├── JudgeExhausted        reward/judge.py: a judge that may not be asked any more
├── BadAbstention         reward/classifier.py: a judge that would never speak
├── GroupTooSmall         grpo.py: nothing to compare with
└── ClipRangeInvalid      grpo.py: no range for a ratio
"""

from __future__ import annotations

from typing import ClassVar


class LearningError(Exception):
    """Root. `code` is stable and reaches REST clients; `retryable` says whether trying again can help."""

    code: ClassVar[str] = "learning_error"
    retryable: ClassVar[bool] = False


class BadTensor(LearningError):
    """A tensor that does not have the shape, type or values that the callee was promised."""

    code = "bad_tensor"

    def __init__(self, *, name: str, expected: str, found: str) -> None:
        super().__init__(f"{name} should be {expected}, found {found}. Check what built it.")
        self.name = name


class NonFiniteLoss(LearningError):
    """Training met NaN or infinity; the model was left as it was before that update."""

    code = "non_finite_loss"

    def __init__(self, *, phase: str, update: int, quantity: str, inputs: str) -> None:
        super().__init__(
            f"{phase} stopped at update {update}: {quantity} is not finite on {inputs}. The model keeps its "
            "values from before this update: lower the learning rate, or look at these inputs."
        )
        self.update = update
