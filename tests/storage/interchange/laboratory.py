"""A store with small episodes that differ in everything an exchange could lose, and how they are compared."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from robot_bridge.episode import (
    Episode,
    EpisodeHeader,
    ManifestLabel,
    PolicyRef,
    StepArrays,
    ValidFor,
    assemble,
)
from robot_bridge.frames import FrameBlob
from storage import episodes, labels
from storage.blobs import BlobStore
from storage.db import Database, default_url
from storage.episodes import Provenance
from storage.interchange.exchange import Store, take_out
from storage.interchange.query import ExportQuery, Wanted, episode_ids, wanted_by
from storage.interchange.record import Record

START = datetime(2026, 1, 1, 11, 0, 0, tzinfo=UTC)
TASKS = ("open_drawer", "close_drawer", "put_eggplant_blue_sink")
ANSWERS = (True, False, None)
SIDE = 32


def smooth_pictures(count: int, *, seed: int, width: int = SIDE, height: int = SIDE) -> np.ndarray:
    """Pictures [count, H, W, 3] that drift slowly, as a camera's do; every one is different."""
    random = np.random.default_rng(seed)
    corners = random.uniform(40, 215, (2, 2, 3))
    down, right = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    top = corners[0, 0] * (1 - right) + corners[0, 1] * right
    bottom = corners[1, 0] * (1 - right) + corners[1, 1] * right
    still = top * (1 - down) + bottom * down
    return np.stack([still + 4 * t for t in range(count)]).clip(0, 255).round().astype(np.uint8)


def rubbish(random: np.random.Generator) -> list[np.ndarray]:
    """Memory with something in it, in pieces of many sizes, half of them freed again."""
    return [random.integers(0, 256, random.integers(1, 60_000), dtype=np.uint8) for _ in range(8)][::2]


def arrays(steps: int, *, seed: int) -> StepArrays:
    """Actions inside WorldGym's clip range, grippers 0 or 1; what may be unknown is unknown now and then."""
    random = np.random.default_rng(seed)

    def numbers(rows: int, width: int) -> np.ndarray:
        return random.uniform(-0.04, 0.04, size=(rows, width)).astype(np.float32)

    actions, executed = numbers(steps, 7), numbers(steps, 7)
    actions[:, 6], executed[:, 6] = random.integers(0, 2, (2, steps))
    instants = np.arange(steps + 1) / 5.0 + random.uniform(0, 0.01)
    return StepArrays(
        raw_action=actions,
        executed_action=executed,
        state=numbers(steps + 1, 7),
        qpos=numbers(steps + 1, 8) if seed % 2 else None,
        effort_mA=numbers(steps + 1, 7) if seed % 3 else None,
        target_pose=numbers(steps, 7),
        t_obs=instants,
        t_cmd=instants[:-1] + 0.01,
        infer_ms=random.uniform(1, 30, steps).astype(np.float32),
        flags=random.integers(0, 8, steps).astype(np.uint32),
    )


def an_episode(number: int, *, steps: int | None = None, **changes: Any) -> Episode:
    """Episode `number`: its own length, task, verdicts, metadata and pictures."""
    count = steps if steps is not None else 2 + number % 4
    task = TASKS[number % 3]
    said = ManifestLabel(
        success=ANSWERS[number % 3], source="classifier", judge="judge/1", answer="yes", at=START
    )
    size = {"width": changes.pop("width", SIDE), "height": changes.pop("height", SIDE)}
    fields: dict[str, Any] = {
        "episode_id": str(UUID(int=number + 1)),
        "station_id": f"cell-{number % 2}",
        "task_id": task,
        "instruction": task.replace("_", " ") if number % 5 else f"«{task}», please",
        "mode": "stepped",
        "policy": PolicyRef(name="nano", version=str(number)),
        "transform_id": "test/1",
        "control_hz": 5.0,
        "outcome": "completed" if number % 7 else "aborted_hw",
        "labels": (said,) if number % 4 else (),
        "valid_for": ValidFor(policy_eval=bool(number % 7), world_model=True),
        "started_at": START + timedelta(minutes=number),
        "ended_at": START + timedelta(minutes=number, seconds=count / 5),
        "metadata": {"seed": str(number)},
    }
    frames = FrameBlob.of_images(smooth_pictures(count + 1, seed=number, **size))
    return assemble(EpisodeHeader(**{**fields, **changes}), steps=arrays(count, seed=number), frames=frames)


def a_store(folder: Path) -> Store:
    """An empty store on SQLite."""
    database = Database(default_url(folder))
    database.upgrade()
    return Store(database, BlobStore(folder / "blobs"))


def keep(store: Store, episode: Episode, *, number: int, now: datetime) -> None:
    """Commit an episode; every fourth is held out, every third was looked at by a human afterwards."""
    with store.database.write() as session:
        provenance = Provenance(origin="collect", held_out=number % 4 == 0)
        at = now + timedelta(seconds=number)
        episodes.commit(session, store.blobs, episode, provenance=provenance, now=at)
        if number % 3 == 0:
            verdict = labels.Verdict(success=number % 2 == 0, source="human", at=now, judge="ann")
            labels.append(session, episode.manifest.episode_id, replace(verdict, confidence=0.75), now=now)


def filled(folder: Path, count: int, *, now: datetime, **changes: Any) -> Store:
    """A store with `count` episodes."""
    store = a_store(folder)
    for number in range(count):
        keep(store, an_episode(number, **changes), number=number, now=now)
    return store


def ids_of(store: Store, query: ExportQuery | None = None) -> list[str]:
    with store.database.read() as session:
        return episode_ids(session, query or ExportQuery())


def wanted_of(store: Store, query: ExportQuery | None = None) -> Wanted:
    with store.database.read() as session:
        return wanted_by(session, query or ExportQuery())


def records_of(store: Store) -> dict[str, Record]:
    return {each: take_out(store, each) for each in ids_of(store)}


def assert_same_but_for_pictures(before: Record, after: Record) -> None:
    """Arrays, instruction, verdicts, flag and metadata are equal; nothing is said of pictures."""
    told, found = before.episode.manifest, after.episode.manifest
    assert after.episode.steps.to_npz() == before.episode.steps.to_npz()
    assert after.held_out == before.held_out
    assert set(after.verdicts) == set(before.verdicts)
    assert len(after.verdicts) == len(before.verdicts)
    left_out = {"metadata", "images", "blobs"}
    assert found.model_dump(exclude=left_out) == told.model_dump(exclude=left_out)
    assert told.metadata.items() <= found.metadata.items()


def picture_error(before: Record, after: Record) -> float:
    """Mean distance of pictures in levels of 255, all of them."""
    frames = [each.episode.frames.decode_all().astype(np.float64) for each in (before, after)]
    assert frames[0].shape == frames[1].shape
    return float(np.abs(frames[0] - frames[1]).mean())
