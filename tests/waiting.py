"""Waiting on evidence: never for a time, and never for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

LOOK_EVERY_S = 0.01


def until(condition: Callable[[], Any], what: str = "it", *, within_s: float = 60.0) -> Any:
    """What the condition gives once it is true; a test that waits for nothing fails with a reason."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {within_s} s")
        time.sleep(LOOK_EVERY_S)
    return found
