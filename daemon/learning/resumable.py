"""Going on with an interrupted training: its whole state between two updates, in one file.

What the state consists of is the training's own affair; this module writes it whole or not at all, and
refuses one that is cut short or of another training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from daemon.learning.state import CheckpointUnreadable, load_state, save_state

KIND = "training"


class Progress(Protocol):
    """A training between two updates: everything that the next one depends on."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything but plain numbers; one that has just begun has the least."""

    def numbers(self) -> dict[str, Any]:
        """The plain numbers, as JSON takes them."""

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Become what `tensors` and `numbers` say."""


def every(seconds: float, *, clock: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """Something to ask again and again: true once in so many seconds, first after as many."""
    last = [clock()]

    def due() -> bool:
        now = clock()
        if now - last[0] < seconds:
            return False
        last[0] = now
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


def optimizer_tensors(state: Mapping[int, Mapping[str, Tensor]], prefix: str) -> dict[str, Tensor]:
    """An optimizer's moments as named tensors, from the "state" of its `state_dict`."""
    return {
        f"{prefix}.{place}.{name}": moment
        for place, moments in state.items()
        for name, moment in moments.items()
    }


def optimizer_state(tensors: Mapping[str, Tensor], prefix: str) -> dict[int, dict[str, Tensor]]:
    """The way back from `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, moment in tensors.items():
        if key.startswith(f"{prefix}."):
            place, name = key.removeprefix(f"{prefix}.").split(".")
            state.setdefault(int(place), {})[name] = moment
    return state
