"""What a finetuning learns from and is measured on: fresh, older and base episodes, and those held out.

Where an iteration does not collect, because nobody asked it to or because that phase was skipped, there may
be nothing fresh: older episodes are learned from, and the newest that were held out before are measured on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from daemon.errors import NothingCollected
from daemon.learning.batch import Clip
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.windows import Pool
from daemon.phases.clips import Shelf, load_clips, load_latents
from daemon.phases.context import PhaseContext
from daemon.phases.manifest import episode_entries
from daemon.spec import FinetuneSpec
from storage import phase_runs, replay
from storage.tables import EpisodeRow

OLDER_EPISODES = 200  # newest episodes of the lineage's earlier iterations, mixed in against forgetting
BASE_EPISODES = 400  # newest episodes that were brought in from outside
OLDER_HELD_OUT = 64  # newest held-out episodes of earlier iterations that the gate looks at
MOST_FRESH = 100_000  # episodes of one iteration: all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """Stored episodes and their clips, in the same order, oldest first."""

    rows: Sequence[EpisodeRow]
    clips: Sequence[Clip]

    def __len__(self) -> int:
        return len(self.rows)


NONE = Episodes(rows=(), clips=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What there is to learn from, and what is kept for measuring."""

    fresh: Episodes
    older: Episodes
    base: Episodes
    held_out: Episodes
    held_out_older: Episodes
    entries: Sequence[dict[str, Any]] = ()  # of all of them, for the manifest

    @property
    def labelled(self) -> list[Clip]:
        """Clips of this robot that may be learned from and have a label."""
        return [clip for clip in (*self.fresh.clips, *self.older.clips) if clip.success is not None]

    def learned_from(self, spec: FinetuneSpec) -> list[str]:
        """Ids of all episodes that a world model learns from: those of pools with a share."""
        shares = (self.fresh, spec.fresh_share), (self.older, spec.older_share), (self.base, spec.base_share)
        return [row.id for part, share in shares if share > 0 for row in part.rows]


def gather(context: PhaseContext, shelf: Shelf, *, size: int) -> Material:
    """Episodes of the replay store as clips of `size` pixels.

    Raises:
        NothingCollected: there is no episode to train on, or none held out, where there should be some.
        StorageError, ClipInvalid: an episode is damaged.
    """
    here, outside = (context.iteration_id,), context.spec.world_model.base_share > 0
    with context.database.read() as session:

        def found(query: replay.EpisodeQuery, *, without: Sequence[EpisodeRow] = (), most: int) -> Episodes:
            known = {row.id for row in without}
            rows = [row for row in replay.select(session, query) if row.id not in known][:most][::-1]
            return Episodes(rows=rows, clips=load_clips(session, shelf, rows, size=size))

        def newest(origin: str, *, held_out: bool, most: int, without: Episodes) -> Episodes:
            of = context.spec.lineage if origin == "collect" else None
            query = replay.EpisodeQuery(
                origin=origin, lineage=of, held_out=held_out, limit=most + len(without)
            )
            return found(query, without=without.rows, most=most)

        fresh = found(replay.EpisodeQuery(iteration_ids=here, held_out=False), most=MOST_FRESH)
        held_out = found(replay.EpisodeQuery(iteration_ids=here, held_out=True), most=MOST_FRESH)
        older = newest("collect", held_out=False, most=OLDER_EPISODES, without=fresh)
        earlier = not was_collected(session, context.iteration_id)
        if earlier and not len(held_out):
            held_out = newest("collect", held_out=True, most=OLDER_HELD_OUT, without=NONE)
        if not len(fresh) and not (earlier and len(older)):
            raise NothingCollected(phase="finetune_world_model", wanted=_wanted("to train on", earlier))
        if not len(held_out):
            raise NothingCollected(phase="finetune_world_model", wanted=_wanted("that is held out", earlier))
        parts = {
            "fresh": fresh,
            "older": older,
            "base": newest("imported", held_out=False, most=BASE_EPISODES, without=fresh)
            if outside
            else NONE,
            "held_out": held_out,
            "held_out_older": newest("collect", held_out=True, most=OLDER_HELD_OUT, without=held_out),
        }
        entries = episode_entries(session, {use: part.rows for use, part in parts.items()})
        return Material(**parts, entries=entries)


def was_collected(session: Session, iteration_id: str) -> bool:
    """Whether the iteration's collect phase has finished; otherwise earlier episodes may stand in for its."""
    run = phase_runs.latest(session, iteration_id, phase="collect")
    return run is not None and run.state == "finished"


def _wanted(what_for: str, earlier: bool) -> str:
    return f"an episode {what_for}, of this iteration{' or an earlier one' if earlier else ''}"


def pools_of(
    world_model: WorldModel,
    shelf: Shelf,
    *,
    material: Material,
    spec: FinetuneSpec,
    judge: ClassifierJudge | None = None,
) -> list[Pool]:
    """The mixture that the spec asks for; only fresh episodes are guarded against being drawn too often.

    Args:
        judge: tells where the robot's own pictures show what an episode is about.
    """

    def pool(name: str, part: Episodes, *, share: float, **rest: float | None) -> Pool:
        looks = None if name == "base" else judge  # of others' pictures and sentences it knows nothing
        clips = load_latents(world_model, shelf, clips=part.clips, rows=part.rows, judge=looks)
        return Pool(name=name, clips=clips, share=share, **rest)

    return [
        pool("fresh", material.fresh, share=spec.fresh_share, samples_per_insert=spec.samples_per_insert),
        pool("older", material.older, share=spec.older_share, half_life=spec.older_half_life),
        pool("base", material.base, share=spec.base_share),
    ]
