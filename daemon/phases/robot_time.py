"""Between two episodes: may the robot begin another one, and until when does it wait if not.

A robot that waits is given back to people: its collector holds no lease meanwhile. Limits of a day or an
iteration are looked at before every episode; robots side by side may each begin one more than is left.
"""

from __future__ import annotations

import threading
from collections.abc import Container
from typing import Final

from daemon.phases.sink import EpisodeSink
from daemon.phases.todo import Todo
from daemon.scheduling.hours import Closed
from daemon.scheduling.robot_budget import tell_episodes_spent, untold
from daemon.scheduling.waiting import episodes_left, iteration_is_spent, robot_waits

LOOK_EVERY_S: Final = 1.0  # how often a robot that waits looks whether it may go on


class RobotTime:
    """The time of one robot in one collect phase."""

    def __init__(self, sink: EpisodeSink, station_id: str) -> None:
        self._sink, self._station_id = sink, station_id

    def closed(self) -> Closed | None:
        """Why no episode may begin now; None when one may."""
        context = self._sink.context
        now, day = context.now(), context.settings.robot_episodes_per_day
        with context.database.read() as session:
            most = context.spec.collect.max_episodes
            return iteration_is_spent(session, context.iteration_id, most=most) or robot_waits(
                session, self._station_id, episodes_per_day=day, now=now
            )

    def room(self, at_most: int) -> int:
        """How many episodes may be asked for together: so many, unless a budget has less."""
        context = self._sink.context
        with context.database.read() as session:
            left = episodes_left(
                session,
                context.iteration_id,
                most=context.spec.collect.max_episodes,
                episodes_per_day=context.settings.robot_episodes_per_day,
                now=context.now(),
            )
        return at_most if left is None else min(at_most, left)

    def wait(self, todo: Todo, tasks: Container[str], *, stop: threading.Event) -> bool:
        """Wait until an episode may begin, telling so again and again, as long as there is something to do.

        Returns:
            Whether one may begin; False also once the iteration's episodes are spent: then nothing is left.

        Raises:
            LeaseLost: another worker has the phase run by now.
        """
        while (found := self.closed()) is not None:
            if any(slot.task_id in tasks for slot in todo.left):
                self._tell_spent(found)
            if found.until is None:
                todo.give_up(lambda slot: True)
            if stop.is_set() or not any(slot.task_id in tasks for slot in todo.left):
                return False
            self._sink.tell(todo, f"{self._station_id}: {found}")
            stop.wait(LOOK_EVERY_S)
        return not stop.is_set()

    def _tell_spent(self, found: Closed) -> None:
        """Tell people of episodes that are used up, before slots are waited with or given up."""
        context = self._sink.context
        with context.database.read() as session:
            if not untold(session, context.iteration_id, found=found, now=context.now()):
                return
        with context.database.write() as session:
            tell_episodes_spent(session, context.iteration_id, found=found, now=context.now())
