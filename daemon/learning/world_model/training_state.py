"""Everything that the next update of a world model's training depends on.

Weights, their moving average, the optimizer's moments, the learning rate's place and the generator that
draws windows, levels and noise. A training that goes on from its file makes the losses it would have made.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from daemon.learning.resumable import optimizer_state, optimizer_tensors
from daemon.learning.world_model.optimizing import Optimizing


class Progress:
    """A training between two updates.

    Attributes:
        updates: made so far.
    """

    def __init__(
        self, module: nn.Module, optimizing: Optimizing, generator: torch.Generator, *, ema: float
    ) -> None:
        self.module, self.optimizing, self.generator = module, optimizing, generator
        self.trained = [weight for weight in module.parameters() if weight.requires_grad]
        self.average = EMAModel(self.trained, decay=ema)
        self.updates = 0

    def count(self) -> None:
        """One more update was made."""
        self.average.step(self.trained)
        self.updates += 1

    def take_average(self) -> None:
        """Put the moving average in the place of the weights."""
        self.average.copy_to(self.trained)

    def tensors(self) -> dict[str, Tensor]:
        """Everything but plain numbers."""
        found: dict[str, Tensor] = {"generator": self.generator.get_state()}
        for i, (weight, mean) in enumerate(zip(self.trained, self.average.shadow_params, strict=True)):
            found |= {f"weights.{i}": weight.detach(), f"average.{i}": mean}
        for which, optimizer in enumerate(self.optimizing.optimizers):
            found |= optimizer_tensors(optimizer.state_dict()["state"], f"optimizer.{which}")
        return found

    def numbers(self) -> dict[str, Any]:
        """The plain numbers, as JSON takes them."""
        return {
            "updates": self.updates,
            "averaged": self.average.optimization_step,
            "rate": self.optimizing.steps,
        }

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Become what `tensors` and `numbers` say."""
        self.generator.set_state(tensors["generator"])
        for i, (weight, mean) in enumerate(zip(self.trained, self.average.shadow_params, strict=True)):
            weight.copy_(tensors[f"weights.{i}"])
            mean.copy_(tensors[f"average.{i}"])
        for which, optimizer in enumerate(self.optimizing.optimizers):
            state = optimizer_state(tensors, f"optimizer.{which}")
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        self.updates, self.average.optimization_step = numbers["updates"], numbers["averaged"]
        self.optimizing.go_to(numbers["rate"])
