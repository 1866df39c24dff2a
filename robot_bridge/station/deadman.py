"""The dead-man: how long an episode may wait for its next step. It measures nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["wait", "hold", "abort"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadMan:
    """After `hold_after_s` seconds without a step the arm holds, after `abort_after_s` the episode ends."""

    hold_after_s: float
    abort_after_s: float

    def verdict(self, waited_s: float) -> Verdict:
        """What `waited_s` seconds since the last step come to."""
        if waited_s >= self.abort_after_s:
            return "abort"
        return "hold" if waited_s >= self.hold_after_s else "wait"
