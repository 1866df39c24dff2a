"""Finetuning of the world model without an iteration: on stored episodes of one origin, at the command line.

What it makes is kept as a *candidate*: it has a row and a lineage, but no iteration goes on from it. A world
model that was taught another robot's clips must not slip under the policy of this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from daemon.errors import NothingCollected
from daemon.iteration import require_lineage
from daemon.learning.batch import Clip
from daemon.learning.devices import choose_device
from daemon.learning.drift import measure_drift
from daemon.learning.finetune import FinetunedWorldModel, finetune_world_model
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.training import TrainingConfig
from daemon.learning.world_model.windows import Pool
from daemon.phases.checkpoints import Made, bring_in, current
from daemon.phases.clips import Shelf, load_clips, load_latents
from daemon.phases.film import EVERY, imagined, strip_jpeg
from daemon.phases.gating import HORIZONS, held_out_record
from daemon.phases.material import Episodes, window_of
from daemon.progress_bar import Bars
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database, utc_now
from storage import checkpoints, replay
from storage.adoption import CANDIDATE
from storage.array_cache import ArrayCache
from storage.db import Database
from storage.lineages import MAIN
from storage.replay import EpisodeQuery
from storage.tables import CheckpointRow

PHASE = "finetune-world-model"
CONFIG = TrainingConfig(  # a few clips are soon known by heart; half a batch from its own frames is not
    updates=0, batch=16, optimizer="muon", learning_rate=1e-3, ema=0.98, own_context=0.5
)


def finetune_offline(
    settings: Settings,
    query: EpisodeQuery,
    *,
    updates: int,
    bars: Bars,
    film: Path | None = None,
    lineage: str = MAIN,
) -> CheckpointRow:
    """Finetune the current world model on the episodes of a query; held-out ones are only measured on.

    Args:
        lineage: whose world model.
        film: gets the first held-out episode as a JPEG of three rows: real, imagined before and after.

    Returns:
        the candidate; its card has the error on held-out episodes before and after.

    Raises:
        PageNotFound: no iteration is of this lineage.
        NothingCollected: no such episode to train on, or none held out.
        StorageError, LearningError: an episode or checkpoint is damaged, or training diverged.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database, blobs = open_database(settings), open_blobs(settings)
    try:
        database.upgrade()
        with database.read() as session:
            require_lineage(session, lineage)
        preset, now = settings.preset, utc_now()
        parent = current(database, blobs, "world_model", lineage=lineage, preset=preset, now=now)
        before = WorldModel.load(checkpoints.path(parent, blobs), device=choose_device())
        shelf = Shelf(blobs=blobs, cache=ArrayCache(settings.data_dir / "cache"))
        train, held_out = episodes_of(database, shelf, query, size=before.image_size)
        bars.say(f"{len(train)} episodes to train on, {len(held_out)} held out")
        done = finetuned(before, train, shelf=shelf, updates=updates, bars=bars)
        after = done.world_model
        record = compared(before, after, held_out.clips)
        if film is not None:
            film.write_bytes(filmed(held_out.clips[0], before, after))
        card = {"held_out_error": record, CANDIDATE: True}
        ids = [row.id for row in train.rows if row.id not in done.left_out]
        made = Made(kind="world_model", parent=parent, card=card, lineage=lineage, episode_ids=ids)
        row = bring_in(after, made, database=database, blobs=blobs, now=utc_now())
    finally:
        database.dispose()
    for line in error_lines(record):
        bars.say(line)
    bars.say(f"kept as world model {row.number} (candidate, id {row.id})")
    return row


def finetuned(
    before: WorldModel, train: Episodes, *, shelf: Shelf, updates: int, bars: Bars
) -> FinetunedWorldModel:
    """A copy of a world model that has learned from these episodes alone."""
    config = replace(CONFIG, updates=updates, frames=window_of(before, train.clips))
    latents = load_latents(before, shelf, clips=train.clips, rows=train.rows)
    pools = [Pool(name="episodes", clips=latents)]

    def told(update: int, metrics: Mapping[str, float]) -> None:
        bars.count(PHASE, update + 1, updates, unit="updates", text=f"loss {metrics['loss']:.4f}")

    done = finetune_world_model(before, pools, config=config, on_update=told)
    if done.left_out:
        told_short = f"{len(done.left_out)} episodes of fewer than {config.frames} frames taught nothing"
        bars.say(f"{told_short}: {', '.join(done.left_out[:3])}{', …' if len(done.left_out) > 3 else ''}")
    return done


def compared(before: WorldModel, after: WorldModel, clips: Sequence[Clip]) -> dict[str, object]:
    """The error of both on held-out episodes."""
    one, other = (measure_drift(model, clips, horizons=HORIZONS, seed=0) for model in (before, after))
    return held_out_record(one, other)


def filmed(clip: Clip, *models: WorldModel) -> bytes:
    """A clip as a JPEG: real in the first row, imagined by each model in the next ones."""
    rows = [imagined(model, clip, seed=0, every=EVERY) for model in models]
    return strip_jpeg(clip.frames[::EVERY], *rows)


def episodes_of(
    database: Database, shelf: Shelf, query: EpisodeQuery, *, size: int
) -> tuple[Episodes, Episodes]:
    """Training and held-out episodes of a query.

    Raises:
        NothingCollected: one of the two is empty.
    """
    found = []
    with database.read() as session:
        for held_out in (False, True):
            rows = replay.select(session, replace(query, held_out=held_out))
            if not rows:
                kind, whose = "held-out" if held_out else "training", query.lineage or "any"
                wanted = f"{kind} episodes of origin {query.origin or 'any'} and lineage {whose}"
                raise NothingCollected(phase=PHASE, wanted=wanted)
            found.append(Episodes(rows=rows, clips=load_clips(session, shelf, rows, size=size)))
    return found[0], found[1]


def error_lines(record: Mapping[str, Any]) -> list[str]:
    """What `gymnastd finetune-world-model` prints: two lines per horizon, pixels and latents."""
    by_horizon: Mapping[str, Mapping[str, float]] = record["by_horizon"]
    lines = []
    for horizon, error in by_horizon.items():
        steps = f"{horizon} step{'' if horizon == '1' else 's'}"
        lines.append(f"held-out error at {steps}: {changed(error['before'], error['after'])}")
        latents = changed(error["latents_before"], error["latents_after"])
        lines.append(f"held-out latent error at {steps}: {latents}")
    return lines


def changed(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "imagination ran away"
    return f"{before:.5f} before, {after:.5f} after ({100 * (after / before - 1):+.0f} %)"
