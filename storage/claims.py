"""What a worker holds while it does a phase run."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRun:
    """What a worker needs to do a phase and to prove that it is still the one who does it."""

    phase_run_id: str
    iteration_id: str
    iteration_number: int
    phase: str
    attempt: int
    worker: str
    fence: int
    ttl_s: float
    spec: dict[str, Any]
