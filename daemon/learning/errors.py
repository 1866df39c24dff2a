"""The root of everything that learning refuses; each module below defines its own branches.

LearningError
├── BadTensor         a tensor of the wrong shape, type or with values that are not finite
└── NonFiniteLoss     an update produced a loss or gradient that is not finite
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
