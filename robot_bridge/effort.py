"""The effort guard: an arm that presses too hard goes back the way it came, never further than was asked.

It looks at the largest current of the arm joints, of either sign. AutoEval's guard compares the signed
maximum, so an overload against a joint's negative direction passes unseen, and it answers with minus half of
whatever is asked, so that asking to come free presses harder; both are avoided here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from robot_bridge.conventions import Pose
from robot_bridge.turns import angle_between, partway

ARM_JOINTS: Final = 6  # the gripper's current, the seventh, is not guarded: it grips by pressing
RELEASE_SHARE: Final = 0.8  # of the limit; an overload ends below it, so that the guard does not chatter
BACK_OFF_SHARE: Final = 0.5  # of what was asked, where it is turned round


class EffortGuard:
    """Remembers whether the arm is overloaded, and the last target at which it was not near to it."""

    def __init__(self, limit_mA: float) -> None:  # noqa: N803 - mA is the unit
        self.limit_mA = limit_mA
        self.overloaded = False
        self._quiet: Pose | None = None

    def clear(self) -> None:
        """Forget everything: a new episode starts."""
        self.overloaded, self._quiet = False, None

    def read(self, effort_mA: NDArray[np.floating], *, held: Pose) -> None:  # noqa: N803
        """Take the currents [7] (or more) that were measured while the arm was to hold `held`.

        A reading that is not finite counts as an overload: nobody knows what the arm presses on.
        """
        peak = float(np.abs(np.asarray(effort_mA, dtype=np.float64)[:ARM_JOINTS]).max(initial=0.0))
        if not peak <= self.limit_mA:
            self.overloaded = True
        elif peak < RELEASE_SHARE * self.limit_mA:
            self.overloaded, self._quiet = False, held

    def eased(self, previous: Pose, target: Pose) -> Pose:
        """The target that an overloaded arm may be given instead; `target` itself when it is not overloaded.

        Along each axis only the way back to the last quiet target is open: asked for, it is taken as far as
        asked; asked against, half as far as asked. The gripper turns back in the same manner.
        """
        if not self.overloaded:
            return target
        if self._quiet is None:
            return previous
        asked, back = target.position - previous.position, self._quiet.position - previous.position
        share = np.where(asked * back > 0.0, 1.0, BACK_OFF_SHARE)
        step = np.sign(back) * np.minimum(share * np.abs(asked), np.abs(back))
        return Pose(previous.position + step, self._eased_turn(previous, target, quiet=self._quiet))

    def _eased_turn(self, previous: Pose, target: Pose, *, quiet: Pose) -> NDArray[np.float64]:
        turned = angle_between(previous.rotation, target.rotation)
        back = angle_between(previous.rotation, quiet.rotation)
        allowed = BACK_OFF_SHARE * turned
        return partway(previous, quiet, allowed / back if back > allowed else 1.0).rotation
