"""What the gateway is told about one AutoEval job, and what it tells the policy about each attempt of it."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field
from typing import Final, get_args

from robot_bridge.autoeval.gateway_errors import GatewayJobInvalid
from robot_bridge.autoeval.tasks import Rotation
from robot_bridge.autoeval.wire import INSTRUCTION_MAX
from robot_bridge.callback import PolicyResetRequest
from robot_bridge.conventions import CONTROL_HZ
from robot_bridge.protocol import STEPS_MAX

JOB_ID: Final = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z._-]{0,79}")  # a folder's name, and part of a session's
CAPABILITY: Final = re.compile(r"[0-9a-zA-Z_-]{22,128}")  # 128 bits are 22 characters of base64 or 32 of hex
SEEDS: Final = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayJob:
    """One job: AutoEval may call its `capability` path while it is open, with exactly this instruction.

    `max_steps` is of one attempt. `seed` is the job's; every attempt draws its own from it. In `rotation`
    "raw" AutoEval is told the policy's numbers as they are, comparable with published results; in
    "bridge_compensated" it is told numbers by which its own rotation rule arrives where bridge_v2 would.

    Raises:
        GatewayJobInvalid: a field that cannot be served.
    """

    job_id: str
    capability: str = field(repr=False)  # whoever has it can ask the policy: it is in no log
    task_id: str
    instruction: str
    max_steps: int
    seed: int
    rotation: Rotation = "raw"
    control_hz: float = CONTROL_HZ

    def __post_init__(self) -> None:
        self._require("job_id", JOB_ID.pattern, JOB_ID.fullmatch(self.job_id) is not None)
        self._require("capability", CAPABILITY.pattern, CAPABILITY.fullmatch(self.capability) is not None)
        self._require("task_id", "1..100 characters", 1 <= len(self.task_id) <= 100)
        length = len(self.instruction)
        self._require("instruction", f"1..{INSTRUCTION_MAX} characters", 1 <= length <= INSTRUCTION_MAX)
        self._require("max_steps", f"1..{STEPS_MAX}", 1 <= self.max_steps <= STEPS_MAX)
        self._require("seed", f"0..{SEEDS - 1}", 0 <= self.seed < SEEDS)
        self._require("rotation", str(get_args(Rotation)), self.rotation in get_args(Rotation))
        self._require("control_hz", "above 0", math.isfinite(self.control_hz) and self.control_hz > 0)

    def session(self, index: int) -> PolicyResetRequest:
        """What begins the policy's session of attempt `index`."""
        return PolicyResetRequest(
            session=f"{self.job_id}-{index}",
            task_id=self.task_id,
            instruction=self.instruction,
            control_hz=self.control_hz,
            seed=attempt_seed(self.seed, index),
        )

    def _require(self, thing: str, expected: str, fine: bool) -> None:
        if not fine:
            raise GatewayJobInvalid(job_id=self.job_id, thing=thing, expected=expected)


def attempt_seed(seed: int, index: int) -> int:
    """The seed of attempt `index`, 0 .. 2^63 - 1: the same for the same job seed, unlike its neighbours'."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEEDS
