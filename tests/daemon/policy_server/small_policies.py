"""Policies that decide in a millisecond, and ways to make one fail and be well again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from daemon.learning.policy.policy import Policy, new_policy
from robot_bridge.autoeval.wire import ActRequest

SENTENCE = "open the drawer"
OTHER_SENTENCE = "close the drawer"


def a_policy(seed: int = 0, *, chunk: int = 5) -> Policy:
    torch.set_num_threads(1)
    return new_policy((SENTENCE, OTHER_SENTENCE), seed=seed, width=16, layers=1, chunk=chunk)


@contextmanager
def failing(policy: Policy) -> Iterator[None]:
    """For the length of a with block, the network's numbers are none."""
    weight = policy.model.head.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def asked(number: int = 0, instruction: str = SENTENCE, *, encoded: bool = False) -> ActRequest:
    """AutoEval's question about picture `number`; its pixels are read-only, as those of the wire."""
    blocks = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = np.frombuffer(blocks.repeat(32, 0).repeat(32, 1).tobytes(), np.uint8).reshape(256, 256, 3)
    return ActRequest(image=image, instruction=instruction, proprio=np.zeros(8, np.float32), encoded=encoded)
