"""What a collect phase is to record: a slot for each wanted episode, and which are filled already.

A slot is filled by one valid episode. Its number decides the seed of the scene, so that an attempt after a
crash goes on where the last one stopped; episodes that were cut short keep their place in the store and
their slot is tried again under a new id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

import numpy as np

MAX_TRIES = 3  # how often one slot is tried before its task goes on with fewer episodes

CHAMPION = "champion"  # the arm that acts where there is only one

ITERATION_KEY = "iteration_id"  # metadata of an episode, so that one found in a station's spool finds home
SLOT_KEY = "slot"
HELD_OUT_KEY = "held_out"
ENDED_BY_KEY = "ended_by"  # the judge that may end it early, an id; absent: it has its full length


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One wanted episode: the index-th of a task in an iteration, by one of the policies that act in it.

    Its name travels with the episode and must not tell which policy that is. Held-out ones are never trained
    on.
    """

    iteration_id: str
    task_id: str
    index: int
    seed: int
    held_out: bool
    arm: str = CHAMPION

    @property
    def name(self) -> str:
        return f"{self.task_id}/{self.index}"

    def episode_id(self, attempt: int) -> str:
        """The same slot and try always get the same id, whoever asks."""
        return str(uuid5(UUID(self.iteration_id), f"{self.name}/{attempt}"))


def slots_of(
    iteration_id: str,
    tasks: Sequence[str],
    *,
    episodes_per_task: int,
    held_out_every: int,
    seed: int,
    arms: Sequence[str] = (CHAMPION,),
) -> list[Slot]:
    """All slots of an iteration, tasks in turn, so that a drift of the cell hits all tasks alike.

    Each policy gets so many of each task. Policies act one after the other in the same scene, where the
    robot's can be chosen, and which comes first is left to chance: nobody at the robot can guess it.
    """
    slots = []
    for index in range(episodes_per_task):
        for task in tasks:
            scene = scene_seed(seed, task=task, index=index)
            for place, arm in enumerate(arms if scene % 2 else reversed(arms)):
                slots.append(
                    Slot(
                        iteration_id=iteration_id,
                        task_id=task,
                        index=index * len(arms) + place,
                        seed=scene,
                        held_out=index % held_out_every == held_out_every - 1,
                        arm=arm,
                    )
                )
    return slots


def scene_seed(seed: int, *, task: str, index: int) -> int:
    """A seed of its own for every (iteration seed, task, index), in [0, 2**31)."""
    words = [seed, index, *task.encode()]
    return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)


def leg_seed(seed: int, leg: int) -> int:
    """The seed of the scenes of a trial's leg, 0 the first: one that goes on meets scenes that are new to it.

    The same spec would set the same scenes again, and what is seen twice is no more evidence.
    """
    return int(np.random.SeedSequence([seed, leg]).generate_state(1)[0] >> 1) if leg else seed


def is_filled(slot: Slot, valid: Mapping[str, bool]) -> bool:
    """Whether one of the slot's episodes is valid.

    Args:
        valid: for each episode id in the store, whether it counts for policy evaluation.
    """
    return any(valid.get(slot.episode_id(attempt), False) for attempt in range(1, MAX_TRIES + 1))


def tries_left(slot: Slot, valid: Mapping[str, bool]) -> list[int]:
    """Which tries of a slot were not made yet, in order; `valid` as in `is_filled`."""
    return [attempt for attempt in range(1, MAX_TRIES + 1) if slot.episode_id(attempt) not in valid]
