"""What a policy's numbers mean: in which convention its actions are, and how often it decides one.

It travels in the checkpoint. The same tokens sent ten times a second move an arm twice as far as five times a
second, and a gripper that counts the other way opens where it should close; so a robot that means something
else by an action is refused before it moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from robot_bridge.conventions import BRIDGE_V2, CONTROL_HZ
from robot_bridge.description import StationAnswer

SAME_RATE = 0.02  # relative; clocks of cameras are not better


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContract:
    """How a policy and a robot understand an action; as it is made, the one of Bridge V2.

    Attributes:
        action: name of the convention (`robot_bridge.conventions`).
        gripper: "norm01", 0 closed and 1 open.
        control_hz: steps a second.
    """

    action: str = BRIDGE_V2
    gripper: str = "norm01"
    control_hz: float = CONTROL_HZ

    @classmethod
    def of(cls, record: Mapping[str, Any] | None) -> ActionContract:
        """That of a checkpoint's config; checkpoints of before it was written down are of Bridge V2.

        Raises:
            TypeError, ValueError: the record holds something else.
        """
        known = cls(**(record or {}))
        return cls(action=str(known.action), gripper=str(known.gripper), control_hz=float(known.control_hz))

    @classmethod
    def at(cls, robot: StationAnswer) -> ActionContract:
        """That of a robot, as its station describes it."""
        means = robot.conventions
        return cls(action=means.action, gripper=means.gripper, control_hz=robot.control_hz)

    def document(self) -> dict[str, Any]:
        """For a checkpoint's config."""
        return asdict(self)

    def differences(self, other: ActionContract) -> list[str]:
        """What the other means otherwise, each as `control_hz 5 against 10`."""
        found = [
            f"{name} {own} against {its}"
            for name in ("action", "gripper")
            if (own := getattr(self, name)) != (its := getattr(other, name))
        ]
        if abs(self.control_hz - other.control_hz) > SAME_RATE * self.control_hz:
            found.append(f"control_hz {self.control_hz:g} against {other.control_hz:g}")
        return found
