"""Policies of every kind out of a checkpoint file; which kind it is stands in the file."""

from __future__ import annotations

from pathlib import Path

import torch

from daemon.learning.policy.policy import KIND, Policy
from daemon.learning.policy.vlm_policy import NETWORK, VlmPolicy
from daemon.learning.state import load_state


def load_policy(
    path: Path, *, device: torch.device | None = None, precision: torch.dtype = torch.float32
) -> Policy:
    """Read a checkpoint of kind "policy".

    Raises:
        CheckpointUnreadable: not a policy checkpoint, or its parts do not fit together.
    """
    state = load_state(path, kind=KIND)
    if state.config.get("network") == NETWORK:
        return VlmPolicy.of_state(state, path, device=device or torch.device("cpu"), precision=precision)
    return Policy.load(path, device=device, precision=precision)
