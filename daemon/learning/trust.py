"""How far a world model is to be trusted: measured on held-out real episodes, and told in numbers.

Drift says how pictures diverge; action sensitivity, whether the actions steer them; outcome agreement,
whether an episode ends in imagination as it ended on the robot. *Optimism* is imagined minus real success:
above zero, a policy is rewarded for what will not happen. The horizon is the last step whose latent error
stays below a stated threshold: how long the next policy update may imagine.

Action sensitivity is the latent error with the actions of another episode over that with its own; 1 means
that the world model does not listen.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from daemon.learning.batch import Clip
from daemon.learning.drift import Drift, Rehearsal, Replay, drift_of, measure_drift, replayed
from daemon.learning.reward.judge import Judge, Verdicts
from daemon.learning.world_model.model import WorldModel

LEAST_ERROR = 1e-12  # keeps a ratio finite where imagination is perfect
OUTCOMES = ("hits", "false_hopes", "missed", "rightly_failed", "declined")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What the judge said of imagined episodes beside the labels of the real ones.

    Attributes:
        hits: both success. false_hopes: imagined success alone. missed: real success alone.
        rightly_failed: both failure. declined: the judge did not know.
    """

    hits: int
    false_hopes: int
    missed: int
    rightly_failed: int
    declined: int

    @property
    def known(self) -> int:
        return self.hits + self.false_hopes + self.missed + self.rightly_failed

    @property
    def agreement(self) -> float | None:
        """Share of the known that agree; None when nothing is known."""
        return (self.hits + self.rightly_failed) / self.known if self.known else None

    @property
    def optimism(self) -> float | None:
        """Imagined minus real success rate of the known; None when nothing is known."""
        return (self.false_hopes - self.missed) / self.known if self.known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What was measured on some held-out episodes.

    Attributes:
        drift: at every step that is imagined up to the longest that was asked for.
        shuffled: latent error by step with the actions of another episode.
        sensitivity: shuffled over true latent error, mean over steps; None with fewer than two episodes.
        outcomes: by instruction.
        horizon: steps that may be imagined.
        threshold: the latent error that the horizon stays below.
    """

    drift: Drift
    shuffled: dict[int, float]
    sensitivity: float | None
    outcomes: dict[str, Outcomes]
    horizon: int
    threshold: float


def measure_trust(
    world_model: WorldModel,
    judge: Judge,
    rehearsal: Rehearsal,
    *,
    threshold: float,
    seed: int,
    older: Sequence[Rehearsal] = (),
) -> Trust:
    """Measure on episodes that training has never seen; those without a label count for drift alone.

    Args:
        rehearsal: of these episodes by this world model.
        threshold: the latent error that the horizon stays below.
        seed: of the noise with strangers' actions; the rehearsal's own compares like with like.
        older: of other episodes, whose ends alone count.
    """
    drift, clips = rehearsal.drift, rehearsal.clips
    shuffled: dict[int, float] = {}
    ratios: list[float] = []
    if len(clips) > 1:
        strangers = with_strangers_actions(clips)
        reached = min(max(drift.latents), max(clip.steps for clip in strangers))
        steps = range(1, reached + 1)
        shuffled = measure_drift(world_model, strangers, horizons=steps, seed=seed).latents
        own = _as_long(world_model, rehearsal, strangers, horizons=steps)
        ratios = [error / max(own[step], LEAST_ERROR) for step, error in shuffled.items()]
    return Trust(
        drift=drift,
        shuffled=shuffled,
        sensitivity=sum(ratios) / len(ratios) if ratios else None,
        outcomes=outcomes_of(world_model, judge, [r for part in (rehearsal, *older) for r in part.replays]),
        horizon=imagination_horizon(drift.latents, threshold=threshold),
        threshold=threshold,
    )


def with_strangers_actions(clips: Sequence[Clip]) -> list[Clip]:
    """Every clip with the actions of the next one, the last with the first's; cut to the shorter."""
    mixed = []
    for clip, other in zip(clips, [*clips[1:], clips[0]], strict=True):
        steps = min(clip.steps, other.steps)
        mixed.append(replace(_cut(clip, steps), actions=other.told[:steps], asked=None))
    return mixed


def _cut(clip: Clip, steps: int) -> Clip:
    """The first steps of an episode."""
    frames, told = clip.frames[: steps + 1], clip.told[:steps]
    return replace(clip, frames=frames, actions=told, asked=None, success_by_frame=None, subject=None)


def _as_long(
    world_model: WorldModel, rehearsal: Rehearsal, strangers: Sequence[Clip], *, horizons: Sequence[int]
) -> dict[int, float]:
    """Latent errors of the rehearsal, of each episode no further than it goes on with a stranger's actions.

    Else the two would be means over different episodes.
    """
    if all(clip.steps == other.steps for clip, other in zip(rehearsal.clips, strangers, strict=True)):
        return rehearsal.drift.latents
    lengths = iter(strangers)
    replays = [
        replace(replay, clips=[_cut(clip, next(lengths).steps) for clip in replay.clips])
        for replay in rehearsal.replays
    ]
    return drift_of(world_model, replays, horizons=horizons).latents


def imagination_horizon(errors: dict[int, float], *, threshold: float) -> int:
    """The last step before the error first reaches the threshold, or is no number; at least 1."""
    crossed = [step for step, error in sorted(errors.items()) if not error < threshold]
    return max(1, crossed[0] - 1 if crossed else max(errors))


def outcomes_of(world_model: WorldModel, judge: Judge, replays: Iterable[Replay]) -> dict[str, Outcomes]:
    """Judge the imagined ends of the labelled episodes among these, by instruction."""
    counts: dict[str, Counter[str]] = {}
    for replay in replays:
        rows = [row for row, clip in enumerate(replay.clips) if clip.success is not None]
        if not rows:
            continue
        clips = [replay.clips[row] for row in rows]
        ends = ends_of(world_model, replay, rows, frames=judge.frames)
        verdicts = judge.judge(ends, [clip.instruction for clip in clips])
        for clip, name in zip(clips, _names(verdicts, [clip.success for clip in clips]), strict=True):
            counts.setdefault(clip.instruction, Counter())[name] += 1
    return {
        instruction: Outcomes(**{name: own[name] for name in OUTCOMES}) for instruction, own in counts.items()
    }


def counted(verdicts: Verdicts, real: Sequence[bool | None]) -> Outcomes:
    """Verdicts beside labels; an episode without a label is left out."""
    own = Counter(_names(verdicts, real))
    return Outcomes(**{name: own[name] for name in OUTCOMES})


def _names(verdicts: Verdicts, real: Sequence[bool | None]) -> list[str]:
    return [
        _outcome(bool(said), known=bool(known), real=label)
        for said, known, label in zip(verdicts.success, verdicts.known, real, strict=True)
        if label is not None
    ]


def imagined_ends(world_model: WorldModel, clips: Sequence[Clip], *, frames: int, seed: int) -> list[Tensor]:
    """The last frames uint8 [frames, 3, H, W] of each episode, imagined from its start and actions."""
    return [
        end
        for replay in replayed(world_model, clips, seed=seed)
        for end in ends_of(world_model, replay, range(len(replay.clips)), frames=frames)
    ]


def ends_of(world_model: WorldModel, replay: Replay, rows: Sequence[int], *, frames: int) -> Tensor:
    """The last imagined frames of these episodes, uint8 [rows, frames, 3, H, W].

    The first frame repeats where an episode is shorter.
    """
    last = torch.tensor([replay.clips[row].steps for row in rows])
    kept = (last[:, None] + torch.arange(1 - frames, 1)).clamp(min=0)  # [rows, frames]
    latents = replay.latents[torch.tensor(rows)[:, None], kept]
    pictures = world_model.decode(latents.flatten(0, 1)).cpu()
    return pictures.view(*kept.shape, *pictures.shape[1:])


def _outcome(imagined: bool, *, known: bool, real: bool) -> str:
    if not known:
        return "declined"
    if imagined:
        return "hits" if real else "false_hopes"
    return "missed" if real else "rightly_failed"
