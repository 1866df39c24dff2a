"""The state of a training: written when due, bound to its training, and restored only where it fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from daemon.learning.resumable import Resumable, every, optimizer_state, optimizer_tensors
from daemon.learning.state import CheckpointUnreadable


class Counting:
    """A training whose whole state is one tensor and one number."""

    def __init__(self, size: int = 2) -> None:
        self.weights, self.updates = torch.zeros(size), 0

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"weights": self.weights}

    def numbers(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def restore(self, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]) -> None:
        self.weights.copy_(tensors["weights"])
        self.updates = numbers["updates"]


def state(folder: Path, binding: str = "this one", *, due: bool = True) -> Resumable:
    return Resumable(file=folder / "state.safetensors", binding=binding, due=lambda: due)


def test_a_training_goes_on_where_its_state_says(tmp_path: Path) -> None:
    before, after = Counting(), Counting()
    before.weights += 3
    before.updates = 7
    state(tmp_path).save_if_due(before)
    state(tmp_path).restore(after)
    assert (after.weights.tolist(), after.updates) == ([3.0, 3.0], 7)


def test_without_a_state_it_begins_at_the_beginning(tmp_path: Path) -> None:
    fresh = Counting()
    state(tmp_path).restore(fresh)
    assert fresh.updates == 0


def test_nothing_is_written_before_it_is_due(tmp_path: Path) -> None:
    state(tmp_path, due=False).save_if_due(Counting())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("binding", "size"), [("another", 2), ("this one", 3)])
def test_the_state_of_another_training_is_refused_and_changes_nothing(
    tmp_path: Path, binding: str, size: int
) -> None:
    saved = Counting()
    saved.weights += 1
    state(tmp_path).save_if_due(saved)
    other = Counting(size)
    with pytest.raises(CheckpointUnreadable):
        state(tmp_path, binding).restore(other)
    assert (other.weights.abs().sum(), other.updates) == (0, 0)


def test_a_state_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    state(tmp_path).save_if_due(Counting())
    file = tmp_path / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CheckpointUnreadable):
        state(tmp_path).restore(Counting())


def test_it_is_due_once_in_so_many_seconds_and_first_after_as_many() -> None:
    now = iter([0.0, 5.0, 10.0, 12.0, 19.9, 20.0])
    due = every(10.0, clock=lambda: next(now))
    assert [due() for _ in range(5)] == [False, True, False, False, True]


def test_with_no_seconds_it_is_always_due() -> None:
    due = every(0.0, clock=lambda: 1.0)
    assert [due(), due()] == [True, True]


def test_moments_of_an_optimizer_go_through_named_tensors_and_back() -> None:
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(12)]
    optimizer = torch.optim.AdamW(weights)
    sum((weight * place).sum() for place, weight in enumerate(weights)).backward()
    optimizer.step()
    moments = optimizer.state_dict()["state"]
    named = {**optimizer_tensors(moments, "optimizer"), "weights.1": torch.zeros(1)}
    back = optimizer_state(named, "optimizer")
    assert set(back) == set(range(12))
    assert all(torch.equal(back[i][name], moments[i][name]) for i in back for name in moments[i])
    assert optimizer_state(named, "other") == {}
