"""Which real episodes a policy's update begins at, imitates, and is held by; each as a manifest names it.

What begins at an episode is confined as its arm was: see `daemon.learning.confines`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from sqlalchemy.orm import Session

from daemon.errors import NothingCollected
from daemon.learning.batch import Clip
from daemon.learning.confines import together
from daemon.learning.rollout import Starts
from daemon.phases.clips import load_clips, shelf_of, succeeded
from daemon.phases.context import PhaseContext
from daemon.phases.manifest import episode_entries
from daemon.phases.material import was_collected
from daemon.phases.user_starts import Brought
from storage import replay
from storage.tables import EpisodeRow
from storage.tasks import list_tasks

EARLIER_STARTS = 200  # newest episodes that an iteration begins from which does not collect
IMITABLE = 400  # newest real episodes among which successes are looked for


def all_starts(
    context: PhaseContext, own: Brought, *, size: int, without: Collection[str] = ()
) -> tuple[Starts | None, dict[str, str], list[dict[str, Any]]]:
    """First observations of training episodes and pictures that people brought, the task of each instruction,
    and the episodes as a manifest names them.

    Args:
        without: tasks that are left out; where that leaves nothing, the starts are None.

    A picture that somebody brought is confined as an episode of its task, where there is one.

    Raises:
        NothingCollected: there was no episode at all, and no picture.
        StorageError, ClipInvalid: an episode is damaged.
    """
    with context.database.read() as session:
        rows = [row for row in start_rows(session, context) if row.task_id not in without]
        begun_from = episode_entries(session, {"start": rows})
        clips = load_clips(session, shelf_of(context), rows, size=size)
    asked = [*((row.instruction, row.task_id) for row in rows), *own.asked]
    instructions, tasks = [sentence for sentence, _ in asked], dict(asked)
    of_task = {row.task_id: clip.confines for row, clip in zip(rows, clips, strict=True)}
    images = [*(clip.frames[:1] for clip in clips), *own.images]
    confines = [*(clip.confines for clip in clips), *(of_task.get(task_id) for _, task_id in own.asked)]
    if not images and without:
        return None, {}, []
    if not images:
        raise NothingCollected(phase="update_policy", wanted="an episode to start from")
    starts = Starts(images=torch.cat(images), instructions=tuple(instructions), confines=together(confines))
    return starts, tasks, begun_from


def proven_episodes(context: PhaseContext, *, size: int) -> tuple[list[Clip], list[dict[str, Any]]]:
    """The newest real episodes that succeeded and may be learned from, whichever policy acted; and the same
    as a manifest names them.

    Empty where the spec does not ask for imitation. Tasks that are left out of the update count too: it is
    they that would be unlearned.

    Raises:
        StorageError, ClipInvalid: an episode is damaged.
    """
    if not context.spec.policy.imitation:
        return [], []
    query = earlier(context, at_most=IMITABLE)
    with context.database.read() as session:
        rows = succeeded(session, replay.select(session, query))
        clips = load_clips(session, shelf_of(context), rows, size=size)
        return clips, episode_entries(session, {"proven": rows})


def anchored_episodes(
    context: PhaseContext, imagined: Collection[str], *, size: int
) -> tuple[list[Clip], list[dict[str, Any]]]:
    """The newest real episodes of the lineage's other tasks, however they ended, and the same as a manifest
    names them: what is not imagined would be unlearned on the way, whether the audit left it out or the spec.

    Empty where every task is imagined, or the spec lets the others go.

    Raises:
        StorageError, ClipInvalid: an episode is damaged.
    """
    if not context.spec.policy.anchor:
        return [], []
    with context.database.read() as session:
        others = {row.id for row in list_tasks(session)}.difference(imagined)
        if not others:
            return [], []
        query = earlier(context, at_most=IMITABLE, only=tuple(sorted(others)))
        rows = replay.select(session, query)
        clips = load_clips(session, shelf_of(context), rows, size=size)
        return clips, episode_entries(session, {"anchored": rows})


def start_rows(session: Session, context: PhaseContext) -> list[EpisodeRow]:
    """This iteration's training episodes; where it does not collect and has none, the newest earlier ones."""
    here = replay.EpisodeQuery(iteration_ids=(context.iteration_id,), held_out=False)
    rows = replay.select(session, here)
    if rows or was_collected(session, context.iteration_id):
        return rows
    return replay.select(session, earlier(context, at_most=EARLIER_STARTS))


def earlier(
    context: PhaseContext, *, at_most: int, only: tuple[str, ...] | None = None
) -> replay.EpisodeQuery:
    """The newest training episodes that the lineage has collected of these tasks, or of the spec's."""
    of, wanted = context.spec.lineage, only or context.spec.tasks
    return replay.EpisodeQuery(origin="collect", lineage=of, tasks=wanted, held_out=False, limit=at_most)
