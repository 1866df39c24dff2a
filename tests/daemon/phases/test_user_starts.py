"""Updates start from pictures that people brought where the spec says so, and the manifest names them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from daemon.errors import NothingCollected
from daemon.iteration_manifest import inputs_of
from daemon.learning.batch import resize_frames
from daemon.phases import update_policy
from daemon.phases.user_starts import brought
from daemon.worlds.pictures import picture_of_pixels
from storage import manifests, start_images
from storage.world_tables import StartImageRow
from tests.daemon.phases.conftest import SMALL, Lab, wall_clock
from tests.robot_bridge.toy_driver import TASKS


def spec(**policy: Any) -> dict[str, Any]:
    learning = {**SMALL["policy"], "start_images": True, **policy}  # type: ignore[dict-item]
    return {**SMALL, "phases": ["update_policy"], "policy": learning}


def bring(lab: Lab, task: str, *, seed: int = 0) -> StartImageRow:
    pixels = np.random.default_rng(seed).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    picture = picture_of_pixels(pixels)
    new = start_images.NewStartImage(
        task_id=task,
        instruction=TASKS[task],
        sha256=lab.blobs.put(picture.png),
        width=picture.width,
        height=picture.height,
    )
    with lab.database.write() as session:
        return start_images.add(session, new, who="ann", now=wall_clock())


def test_an_update_can_start_from_pictures_alone_and_says_from_which(lab: Lab) -> None:
    lab.request(spec())
    rows = [bring(lab, task, seed=seed) for seed, task in enumerate(("open_drawer", "close_drawer"))]
    outcome = lab.do("update_policy", update_policy.run)
    assert set(outcome["imagined_success"]) == {"open_drawer", "close_drawer"}  # type: ignore[call-overload]
    with lab.database.read() as session:
        kept = manifests.of_iteration(session, lab.iteration_id)["update_policy"]
    assert inputs_of(kept)["start_images"] == [
        {
            "id": row.id,
            "sha256": (row.image or {})["sha256"],
            "task": row.task_id,
            "instruction": row.instruction,
        }
        for row in rows
    ]


def test_nothing_is_started_from_pictures_unless_the_spec_says_so(lab: Lab) -> None:
    lab.request(spec(start_images=False))
    bring(lab, "open_drawer")
    context = lab.context("update_policy")
    assert brought(context, size=64).images == ()
    with pytest.raises(NothingCollected):
        update_policy.run(context)


def test_only_pictures_of_the_specs_tasks_that_are_trusted_are_taken(lab: Lab) -> None:
    lab.request(spec())
    first, other = bring(lab, "open_drawer"), bring(lab, "close_drawer")
    context = lab.context("update_policy")
    assert [row.id for row in brought(context, size=64).rows] == [first.id, other.id]
    assert [row.id for row in brought(context, size=64, without={"open_drawer"}).rows] == [other.id]


def test_a_picture_is_shrunk_as_the_cameras_pictures_are(lab: Lab) -> None:
    lab.request(spec())
    bring(lab, "open_drawer", seed=4)
    pixels = np.random.default_rng(4).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    (image,) = brought(lab.context("update_policy"), size=64).images
    assert image.equal(resize_frames(pixels[None], 64))
