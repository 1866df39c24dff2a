"""What is still to be recorded, shared by all robots of a collect phase. Safe to use from their threads.

A robot takes a slot that it offers the task of, and puts it back when it cannot do it after all: another may.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from daemon.phases.slots import Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A slot without a valid episode, and which tries at it were not made yet."""

    slot: Slot
    tries: tuple[int, ...]


class Todo:
    """Wanted slots in order.

    Args:
        total: how many slots the iteration has, filled ones included.
        settled: told after every slot that is filled or given up, in the thread of the robot that did it.
    """

    def __init__(
        self,
        wanted: Sequence[Wanted],
        *,
        total: int,
        settled: Callable[[Todo], None] = lambda todo: None,
    ) -> None:
        self.total = total
        self._settled = settled
        self._lock = threading.Lock()
        self._waiting = list(wanted)
        self._done = total - len(wanted)

    def take(self, tasks: Container[str]) -> Wanted | None:
        """The next slot of one of these tasks; None when there is none left."""
        with self._lock:
            for place, wanted in enumerate(self._waiting):
                if wanted.slot.task_id in tasks:
                    return self._waiting.pop(place)
        return None

    def take_task(self, tasks: Container[str], *, at_most: int, arm: str | None = None) -> list[Wanted]:
        """Waiting slots of one of these tasks and one policy, the first one's; none when there is none left.

        Args:
            arm: of this policy; None takes the first one's.
        """

        def fits(each: Wanted) -> bool:
            return each.slot.task_id in tasks and arm in {None, each.slot.arm}

        with self._lock:
            first = next((each.slot for each in self._waiting if fits(each)), None)
            if first is None:
                return []
            alike = [
                each
                for each in self._waiting
                if (each.slot.task_id, each.slot.arm) == (first.task_id, first.arm)
            ]
            taken = alike[:at_most]
            self._waiting = [wanted for wanted in self._waiting if wanted not in taken]
        return taken

    def put_back(self, wanted: Wanted) -> None:
        """Somebody else may try; it goes to the front, so that tasks stay in turn."""
        with self._lock:
            self._waiting.insert(0, wanted)

    def settle(self) -> None:
        """One slot is filled or given up."""
        with self._lock:
            self._done += 1
        self._settled(self)

    def give_up(self, which: Callable[[Slot], bool]) -> int:
        """Nobody is to fill these of the waiting slots any more; how many."""
        with self._lock:
            kept = [wanted for wanted in self._waiting if not which(wanted.slot)]
            given_up = len(self._waiting) - len(kept)
            self._waiting = kept
            self._done += given_up
        return given_up

    @property
    def share(self) -> float:
        """How much is settled, 0..1."""
        return self._done / self.total if self.total else 1.0

    @property
    def place(self) -> int:
        """The number of the slot that is worked on now, from 1."""
        return min(self._done + 1, self.total)

    @property
    def left(self) -> tuple[Slot, ...]:
        """What nobody has taken."""
        with self._lock:
            return tuple(wanted.slot for wanted in self._waiting)
