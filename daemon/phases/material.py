"""What a finetuning learns from and is measured on: fresh, older and base episodes, and those held out.

Where an iteration does not collect, because nobody asked it to or because that phase was skipped, there may
be nothing fresh: older episodes are learned from, and the newest that were held out before are measured on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from daemon.errors import NothingCollected
from daemon.learning.batch import Clip
from daemon.learning.grasps import grasps_of
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.world_model.latents import LatentClips
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.windows import Pool, frames_within, span_of
from daemon.phases.clips import Shelf, load_clips, load_latents
from daemon.phases.context import PhaseContext
from daemon.phases.manifest import episode_entries
from daemon.spec import FinetuneSpec
from storage import phase_runs, replay
from storage.tables import EpisodeRow

OLDER_EPISODES = 2_000  # newest episodes of the lineage's earlier iterations, mixed in against forgetting
BASE_EPISODES = 400  # newest episodes that were brought in from outside
OLDER_HELD_OUT = 64  # newest held-out episodes of earlier iterations that the gate looks at
MOST_ODDS = 4.0  # of the seldom outcome of a task
ROOM = 3  # frames by which a window may be shifted around a grasp
MOST_FRESH = 100_000  # episodes of one iteration: all of them

Encoded = tuple[LatentClips, Sequence[Clip]]  # the same episodes twice, in the same order


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
        return [row.id for part in self._parts(spec) for row in part.rows]

    def clips(self, spec: FinetuneSpec) -> list[Clip]:
        """The same episodes as clips."""
        return [clip for part in self._parts(spec) for clip in part.clips]

    def _parts(self, spec: FinetuneSpec) -> list[Episodes]:
        shares = (self.fresh, spec.fresh_share), (self.older, spec.older_share), (self.base, spec.base_share)
        return [part for part, share in shares if share > 0]


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

    def encoded(part: Episodes, *, judge: ClassifierJudge | None) -> Encoded:
        return load_latents(world_model, shelf, clips=part.clips, rows=part.rows, judge=judge), part.clips

    return mixture(
        encoded(material.fresh, judge=judge),
        encoded(material.older, judge=judge),
        encoded(material.base, judge=None),  # of others' pictures and sentences a judge knows nothing
        spec=spec,
        window=span_of(spec.frames or window_of(world_model, material.clips(spec)), world_model.stride),
    )


def window_of(world_model: WorldModel, clips: Sequence[Clip]) -> int:
    """Frames per window: what the world model attends to, or what nine of ten clips hold; two at least."""
    lengths = sorted(clip.steps + 1 for clip in clips)
    fitting = frames_within(lengths[len(lengths) // 10], world_model.stride)
    return max(2, min(int(world_model.transformer.config.max_frames), fitting))


def mixture(fresh: Encoded, older: Encoded, base: Encoded, *, spec: FinetuneSpec, window: int) -> list[Pool]:
    """The pools of encoded episodes, and of the moments at which the robot's own gripper moved.

    Args:
        window: frames of an episode that a window reaches over.
    """
    own = evened(fresh, spec=spec), evened(older, spec=spec)
    wanted = (own[0], fresh, spec.fresh_share), (own[1], older, spec.older_share)
    moved = [grasps_of(latents, part[1], frames=window + ROOM) for latents, part, share in wanted if share]
    grasps = sum(moved, LatentClips())
    shares = spec.fresh_share, spec.older_share, spec.base_share
    of_grasps = spec.grasp_share if len(grasps) else 0.0
    whole = 1 - of_grasps
    return [
        Pool(name="fresh", clips=own[0], share=whole * shares[0], samples_per_insert=spec.samples_per_insert),
        Pool(name="older", clips=own[1], share=whole * shares[1], half_life=spec.older_half_life),
        Pool(name="base", clips=evened(base, spec=spec), share=whole * shares[2]),
        Pool(name="grasps", clips=grasps, share=of_grasps * sum(shares)),
    ]


def evened(part: Encoded, *, spec: FinetuneSpec) -> LatentClips:
    """The latents, with the odds that the spec wants them drawn by."""
    if not spec.balance:
        return part[0]
    pairs = zip(part[0].clips, even_odds(part[1]), strict=True)
    return LatentClips(tuple(replace(latents, odds=odds) for latents, odds in pairs))


def even_odds(clips: Sequence[Clip]) -> list[float]:
    """How much likelier each clip is to be drawn, so that successes and failures of its task weigh the same.

    A world model that saw a task fail three times in four imagines that it fails where it cannot tell. Clips
    without a label, and those of tasks that only succeeded or only failed, stay as they are; what happened
    once in a hundred times is not shown again and again either.
    """
    ends = Counter((clip.instruction, clip.success) for clip in clips)

    def odds(clip: Clip) -> float:
        same, other = ends[clip.instruction, clip.success], 0
        if clip.success is not None:
            other = ends[clip.instruction, not clip.success]
        return min(MOST_ODDS, (same + other) / (2 * same)) if other else 1.0

    return [odds(clip) for clip in clips]
