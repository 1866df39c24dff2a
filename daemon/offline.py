"""Finetuning of the world model without an iteration: on stored episodes of one origin, at the command line.

What it makes is kept as a *candidate*: it has a row and a lineage, but no iteration goes on from it. A world
model that was taught another robot's clips must not slip under the policy of this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from daemon.errors import NothingCollected
from daemon.learning.batch import Clip
from daemon.learning.devices import choose_device
from daemon.learning.drift import measure_drift
from daemon.learning.finetune import finetune_world_model
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.training import TrainingConfig
from daemon.learning.world_model.windows import Pool
from daemon.phases.checkpoints import CANDIDATE, Made, bring_in, current
from daemon.phases.clips import Shelf, load_clips, load_latents
from daemon.phases.film import EVERY, imagined, strip_jpeg
from daemon.phases.gating import HORIZONS, held_out_record
from daemon.phases.material import Episodes
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database, utc_now
from storage import checkpoints, replay
from storage.array_cache import ArrayCache
from storage.db import Database
from storage.lineages import MAIN

PHASE = "finetune-world-model"
CONFIG = TrainingConfig(updates=0, batch=16, learning_rate=3e-4, ema=0.98)
TOLD_EVERY = 50  # updates between two lines of progress


def finetune_offline(
    settings: Settings,
    *,
    origin: str,
    updates: int,
    report: Callable[[str], None],
    film: Path | None = None,
) -> dict[str, object]:
    """Finetune the current world model on episodes of `origin`; held-out ones are only measured on.

    Args:
        film: gets the first held-out episode as a JPEG of three rows: real, imagined before and after.

    Returns:
        the error on held-out episodes before and after, as an iteration records it.

    Raises:
        NothingCollected: no episode of this origin to train on, or none held out.
        StorageError, LearningError: an episode or checkpoint is damaged, or training diverged.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database, blobs = open_database(settings), open_blobs(settings)
    try:
        database.upgrade()
        parent = current(database, blobs, "world_model", lineage=MAIN, preset=settings.preset, now=utc_now())
        before = WorldModel.load(checkpoints.path(parent, blobs), device=choose_device())
        shelf = Shelf(blobs=blobs, cache=ArrayCache(settings.data_dir / "cache"))
        train, held_out = episodes_of(database, shelf, origin, size=before.image_size)
        report(f"{len(train)} episodes to train on, {len(held_out)} held out")
        config = replace(CONFIG, updates=updates, frames=window_of(before, train.clips))
        latents = load_latents(before, shelf, clips=train.clips, rows=train.rows)
        pools, tell = [Pool(name=origin, clips=latents)], partial(told, report)
        after = finetune_world_model(before, pools, config=config, on_update=tell).world_model
        errors = [measure_drift(m, held_out.clips, horizons=HORIZONS, seed=0) for m in (before, after)]
        record = held_out_record(errors[0], errors[1])
        if film is not None:
            film.write_bytes(filmed(held_out.clips[0], before, after))
        card = {"held_out_error": record, CANDIDATE: True}
        ids = [clip.episode_id for clip in train.clips]
        made = Made(kind="world_model", parent=parent, card=card, episode_ids=ids)
        row = bring_in(after, made, database=database, blobs=blobs, now=utc_now())
    finally:
        database.dispose()
    for line in error_lines(record):
        report(line)
    report(f"kept as world model {row.number} (candidate, id {row.id})")
    return record


def filmed(clip: Clip, *models: WorldModel) -> bytes:
    """A clip as a JPEG: real in the first row, imagined by each model in the next ones."""
    rows = [imagined(model, clip, seed=0) for model in models]
    return strip_jpeg(clip.frames[::EVERY], *rows)


def window_of(world_model: WorldModel, clips: Sequence[Clip]) -> int:
    """Frames per window: what the world model was made for, or less where the clips are shorter."""
    return min(int(world_model.transformer.config.max_frames), min(clip.steps for clip in clips) + 1)


def episodes_of(database: Database, shelf: Shelf, origin: str, *, size: int) -> tuple[Episodes, Episodes]:
    """Training and held-out episodes of an origin.

    Raises:
        NothingCollected: one of the two is empty.
    """
    found = []
    with database.read() as session:
        for held_out in (False, True):
            rows = replay.select(session, replay.EpisodeQuery(origin=origin, held_out=held_out))
            if not rows:
                wanted = f"{'held-out' if held_out else 'training'} episodes of origin {origin}"
                raise NothingCollected(phase=PHASE, wanted=wanted)
            found.append(Episodes(rows=rows, clips=load_clips(session, shelf, rows, size=size)))
    return found[0], found[1]


def told(report: Callable[[str], None], update: int, metrics: Mapping[str, float]) -> None:
    if update % TOLD_EVERY == 0:
        report(f"update {update}, loss {metrics['loss']:.4f}")


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
