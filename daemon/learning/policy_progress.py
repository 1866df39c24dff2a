"""A policy between two updates: weights, moments, chance, and the groups that wait to be learned from.

A group is imagined with the policy of one update and may be learned from in a later one, since its old
log-probabilities travel with it; one that waited too long is given up, because the ratio would be clipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from daemon.learning.decisions import Decisions
from daemon.learning.policy_report import Groups, UpdateOutcome
from daemon.learning.resumable import optimizer_state, optimizer_tensors
from daemon.learning.start_draws import StartDraws

LONGEST_WAIT = 2  # updates
TENSORS = ("images", "tokens", "log_probs", "advantages")  # of a group's decisions


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An informative group, and the update that imagined it."""

    group: Decisions
    since: int


class UpdateProgress:
    """Everything that the next update depends on.

    Attributes:
        history: one outcome per update that was made.
        waiting: informative groups, oldest first.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        generator: torch.Generator,
        draws: StartDraws,
    ) -> None:
        self.module, self.optimizer, self.generator, self.draws = module, optimizer, generator, draws
        self.history: list[UpdateOutcome] = []
        self.waiting: list[Waiting] = []

    @property
    def update(self) -> int:
        """The number of the update to make, from 1."""
        return len(self.history) + 1

    def admit(self, groups: Sequence[Decisions]) -> None:
        """Groups of this update join the end of those that wait."""
        self.waiting += [Waiting(group=group, since=self.update) for group in groups]

    def expire(self) -> int:
        """Give up what waited too long; how many groups."""
        kept = [entry for entry in self.waiting if self.update - entry.since <= LONGEST_WAIT]
        given_up = len(self.waiting) - len(kept)
        self.waiting = kept
        return given_up

    def take(self, most: int | None) -> list[Decisions]:
        """The groups that waited longest, at most so many; the others go on waiting."""
        most = len(self.waiting) if most is None else most
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return [entry.group for entry in taken]

    def chance(self) -> tuple[Tensor, Tensor]:
        """What the next draws depend on, to `go_back` to."""
        return self.generator.get_state(), self.draws.counts.clone()

    def go_back(self, chance: tuple[Tensor, Tensor]) -> None:
        """Draw again what was drawn since."""
        self.generator.set_state(chance[0])
        self.draws.counts.copy_(chance[1])

    def _learning(self) -> list[tuple[str, nn.Parameter]]:
        """The weights that change; what stands still is in the checkpoint that the updates began with."""
        return [(name, weight) for name, weight in self.module.named_parameters() if weight.requires_grad]

    def tensors(self) -> dict[str, Tensor]:
        found = {f"weights.{name}": weight.detach() for name, weight in self._learning()}
        found |= optimizer_tensors(self.optimizer.state_dict()["state"], "optimizer")
        found |= {"generator": self.generator.get_state()}
        found |= {"draws.counts": self.draws.counts, "draws.outcomes": self.draws.outcomes}
        for place, entry in enumerate(self.waiting):
            for name in TENSORS:
                found[f"waiting.{place}.{name}"] = getattr(entry.group, name)
        return found

    def numbers(self) -> dict[str, Any]:
        return {
            "history": [asdict(outcome) for outcome in self.history],
            "waiting": [
                {"since": entry.since, "instructions": list(entry.group.instructions)}
                for entry in self.waiting
            ],
        }

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        for name, weight in self._learning():
            weight.copy_(tensors[f"weights.{name}"])
        state = optimizer_state(tensors, "optimizer")
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.generator.set_state(tensors["generator"])
        self.draws.counts.copy_(tensors["draws.counts"])
        self.draws.outcomes.copy_(tensors["draws.outcomes"])
        self.history = [
            UpdateOutcome(**{**outcome, "groups": Groups(**outcome["groups"])})
            for outcome in numbers["history"]
        ]
        self.waiting = [
            Waiting(
                since=entry["since"],
                group=Decisions(
                    instructions=tuple(entry["instructions"]),
                    **{name: tensors[f"waiting.{place}.{name}"] for name in TENSORS},
                ),
            )
            for place, entry in enumerate(numbers["waiting"])
        ]
