"""Everything that the next update of a training depends on, in memory and in one file.

Weights, their moving average, the optimizer's moments, the learning rate's place and the generator that
draws windows, levels and noise. A training that goes on from its file makes the losses it would have made.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from daemon.learning.state import CheckpointUnreadable, load_state, save_state
from daemon.learning.world_model.optimizing import Optimizing

KIND = "training"


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
            for i, moments in optimizer.state_dict()["state"].items():
                found |= {f"optimizer.{which}.{i}.{name}": moment for name, moment in moments.items()}
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
            state: dict[int, dict[str, Tensor]] = {}
            for key, moment in tensors.items():
                if key.startswith(f"optimizer.{which}."):
                    _, _, place, name = key.split(".")
                    state.setdefault(int(place), {})[name] = moment
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        self.updates, self.average.optimization_step = numbers["updates"], numbers["averaged"]
        self.optimizing.go_to(numbers["rate"])


def every(seconds: float, *, clock: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """Something to ask again and again: true once in so many seconds, first after as many."""
    last = [clock()]

    def due() -> bool:
        if clock() - last[0] < seconds:
            return False
        last[0] = clock()
        return True

    return due


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumable:
    """Where the state of an interrupted training lies.

    Attributes:
        binding: what makes it this training: parent, episodes, config; a state of another one is refused.
        due: asked after every update; true writes the state.
    """

    file: Path
    binding: str
    due: Callable[[], bool]

    def restore(self, progress: Progress) -> None:
        """Go on from the file, where there is one.

        Raises:
            CheckpointUnreadable: cut short, or of another training; `progress` is as it was.
        """
        if not self.file.is_file():
            return
        state = load_state(self.file, kind=KIND)
        if state.config.get("binding") != self.binding:
            found = f"that of {state.config.get('binding')}"
            raise CheckpointUnreadable(path=self.file, expected=f"the training {self.binding}", found=found)
        expected = {name: tensor.shape for name, tensor in progress.tensors().items()}
        found_shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
        if any(found_shapes.get(name) != shape for name, shape in expected.items()):
            raise CheckpointUnreadable(
                path=self.file, expected="the tensors of this training", found="others"
            )
        progress.restore(state.tensors, state.card)

    def save_if_due(self, progress: Progress) -> None:
        """Write the state, whole or not at all, when it is time to."""
        if self.due():
            config = {"binding": self.binding}
            save_state(self.file, progress.tensors(), kind=KIND, config=config, card=progress.numbers())
