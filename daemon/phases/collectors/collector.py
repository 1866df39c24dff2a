"""The contract of whoever brings real episodes home; one robot each. What is common to all is in `sink`."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from daemon.phases.todo import Todo


class Collector(Protocol):
    """One robot, and how the current policy acts on it. `collect` runs in a thread of its own."""

    @property
    def name(self) -> str:
        """Id of the station, as its episodes name it."""
        ...

    @property
    def offers(self) -> Mapping[str, str]:
        """Tasks that this robot can do, each with its instruction."""
        ...

    @property
    def facts(self) -> Mapping[str, object]:
        """What the robot says of itself; kept with its row."""
        ...

    def take_home(self) -> None:
        """Commit what an earlier, killed attempt left at the robot; before it is known which slots are open.

        Raises:
            RobotBridgeError, StorageError, LeaseLost: as below.
        """
        ...

    def collect(self, todo: Todo, *, stop: threading.Event) -> None:
        """Fill slots, and commit what came of every try, until nothing is left that this robot can do.

        It returns soon after `stop` is set; the robot is given back however it ends, and an untouched slot is
        put back.

        Raises:
            RobotBridgeError: the robot cannot go on; the slot it was at is put back.
            StorageError: the store cannot take an episode; the robot keeps it.
            LeaseLost: another worker has this phase run by now.
        """
        ...
