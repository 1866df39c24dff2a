"""What a policy's numbers mean travels with it, and differences are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from daemon.learning.policy.contract import ActionContract
from daemon.learning.policy.loading import load_policy
from daemon.learning.policy.policy import new_policy
from daemon.learning.state import CheckpointUnreadable, load_state, save_state


def test_a_contract_stands_in_the_checkpoint(tmp_path: Path) -> None:
    policy = new_policy(("open the drawer",), seed=0, width=16, layers=1)
    policy.contract = ActionContract(control_hz=10.0)
    policy.save(tmp_path / "policy", {})
    assert load_policy(tmp_path / "policy").contract == policy.contract
    assert policy.frozen_copy().contract == policy.contract


def saved_with(path: Path, **config: Any) -> Path:
    """A policy's checkpoint with these entries of its config; None leaves one out."""
    new_policy(("open the drawer",), seed=0, width=16, layers=1).save(path, {})
    state = load_state(path)
    known = {name: value for name, value in {**state.config, **config}.items() if value is not None}
    save_state(path, state.tensors, kind=state.kind, config=known, card={}, extra=state.extra)
    return path


def test_checkpoints_of_before_are_of_bridge_v2_at_five_hertz(tmp_path: Path) -> None:
    contract = load_policy(saved_with(tmp_path / "old", contract=None)).contract
    assert contract == ActionContract(action="bridge_v2", gripper="norm01", control_hz=5.0)


@pytest.mark.parametrize("record", [{"speed": 3}, {"control_hz": "fast"}, [1, 2]])
def test_a_contract_that_nobody_can_read_is_no_policy(tmp_path: Path, record: Any) -> None:
    with pytest.raises(CheckpointUnreadable, match="contract"):
        load_policy(saved_with(tmp_path / "odd", contract=record))


@pytest.mark.parametrize(
    ("hertz", "same"), [(5.0, True), (5.05, True), (4.95, True), (5.2, False), (10.0, False)]
)
def test_rates_may_differ_by_as_much_as_cameras_do(hertz: float, same: bool) -> None:
    found = ActionContract().differences(ActionContract(control_hz=hertz))
    assert found == ([] if same else [f"control_hz 5 against {hertz:g}"])


def test_every_difference_is_named() -> None:
    other = ActionContract(action="autoeval_mg", gripper="norm10", control_hz=3.0)
    assert ActionContract().differences(other) == [
        "action bridge_v2 against autoeval_mg",
        "gripper norm01 against norm10",
        "control_hz 5 against 3",
    ]


def test_a_contract_changes_nothing_of_what_a_policy_decides(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    one, other = (load_policy(saved_with(tmp_path / name)) for name in ("a", "b"))
    other.contract = ActionContract(control_hz=10.0)
    decided = [policy.act(images, ["open the drawer"]).tokens for policy in (one, other)]
    assert torch.equal(*decided)
