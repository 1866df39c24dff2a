"""An episode is one story told three times (manifest, arrays, pictures), or it is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from robot_bridge.episode import (
    Episode,
    EpisodeHeader,
    PolicyRef,
    assemble,
    episode_of_bytes,
    parse_manifest,
)
from robot_bridge.errors import EpisodeInvalid, FramesCorrupt, StepsCorrupt
from robot_bridge.frames import FrameBlob
from tests.robot_bridge.builders import NOON, a_header, a_label, an_episode, some_images, some_steps

EPISODE = an_episode()


def changed(**fields: object) -> Episode:
    """The same arrays and pictures under a manifest that says something else."""
    return replace(EPISODE, manifest=EPISODE.manifest.model_copy(update=fields))


def as_json(**fields: object) -> str:
    return json.dumps({**json.loads(EPISODE.manifest.canonical_json()), **fields})


def test_an_episode_comes_back_from_its_three_byte_strings():
    again = episode_of_bytes(
        EPISODE.manifest.canonical_json(), steps=EPISODE.steps.to_npz(), frames=EPISODE.frames.data
    )
    assert again.digest == EPISODE.digest
    assert again.manifest == EPISODE.manifest
    assert (again.frames.decode_all() == EPISODE.frames.decode_all()).all()


def test_the_manifest_names_its_schema_and_counts_one_picture_more_than_actions():
    tree = json.loads(EPISODE.manifest.canonical_json())
    assert tree["schema"] == "episode/1"
    assert tree["T"] == 4
    assert tree["images"]["primary"]["count"] == 5
    assert tree["arrays"]["raw_action"] == ["f4", [4, 7]]
    assert tree["convention"] == {
        "state": "bridge_v2",
        "action": "bridge_v2",
        "gripper": "norm01",
        "image": "rgb8_hwc",
        "native": "bridge_v2",
        "rotation": "raw",
    }


def test_the_digest_is_of_the_canonical_json_and_reaches_every_byte_through_the_blobs_digests():
    assert EPISODE.digest == hashlib.sha256(EPISODE.manifest.canonical_json()).hexdigest()
    assert EPISODE.manifest.blob_sha256("steps.npz") == hashlib.sha256(EPISODE.steps.to_npz()).hexdigest()
    assert EPISODE.manifest.blob_sha256("frames.bin") == hashlib.sha256(EPISODE.frames.data).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        an_episode(seed=1),
        an_episode(5),
        an_episode(instruction="close the drawer"),
        an_episode(labels=(a_label(False),)),
        an_episode(metadata={"seed": "4"}),
    ],
)
def test_episodes_that_differ_anywhere_have_different_digests(other):
    assert other.digest != EPISODE.digest


def test_the_same_episode_has_the_same_digest_whatever_order_and_time_zone_its_json_was_written_in():
    tree = json.loads(EPISODE.manifest.canonical_json())
    reversed_json = json.dumps(dict(reversed(tree.items())), indent=3)
    assert parse_manifest(reversed_json).digest == EPISODE.digest
    berlin = NOON.astimezone(timezone(timedelta(hours=1)))
    assert an_episode(started_at=berlin).manifest.started_at == EPISODE.manifest.started_at
    assert an_episode(started_at=berlin).digest == EPISODE.digest


@given(st.text(max_size=100), st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3))
def test_any_text_survives_the_manifest(instruction, metadata):
    manifest = changed(instruction=instruction, metadata=metadata).manifest
    again = parse_manifest(manifest.canonical_json())
    assert again == manifest
    assert again.digest == manifest.digest


@pytest.mark.parametrize(
    ("fields", "about"),
    [
        ({"T": 3}, "T must be 3, found 4"),
        ({"arrays": {**EPISODE.manifest.arrays, "state": ("f4", (4, 7))}}, "arrays"),
        ({"arrays": {}}, "arrays"),
        ({"images": {}}, "images"),
        ({"images": {"primary": EPISODE.manifest.images["primary"].model_copy(update={"w": 8})}}, "images"),
        ({"blobs": {**EPISODE.manifest.blobs, "steps.npz": "sha256:" + "0" * 64}}, "blobs"),
        ({"blobs": {**EPISODE.manifest.blobs, "more.bin": "sha256:" + "0" * 64}}, "blobs"),
        ({"ended_at": NOON - timedelta(seconds=1)}, "ended_at"),
    ],
)
def test_a_manifest_that_contradicts_its_blobs_is_refused(fields, about):
    with pytest.raises(EpisodeInvalid, match=about):
        changed(**fields).validate()


@pytest.mark.parametrize("pictures", [4, 6])
def test_t_actions_need_exactly_t_plus_one_pictures(pictures):
    frames = FrameBlob.of_images(some_images(pictures))
    with pytest.raises(EpisodeInvalid, match=r"pictures \(T \+ 1\) must be 5"):
        assemble(a_header(), steps=some_steps(4), frames=frames)


def test_blobs_of_two_episodes_do_not_make_one():
    with pytest.raises(EpisodeInvalid, match="blobs"):
        episode_of_bytes(
            EPISODE.manifest.canonical_json(),
            steps=an_episode(seed=1).steps.to_npz(),
            frames=EPISODE.frames.data,
        )


def test_a_blob_that_was_cut_off_is_refused_with_its_own_error():
    manifest, steps, frames = EPISODE.manifest.canonical_json(), EPISODE.steps.to_npz(), EPISODE.frames.data
    with pytest.raises(StepsCorrupt):
        episode_of_bytes(manifest, steps=steps[:-1], frames=frames)
    with pytest.raises(FramesCorrupt):
        episode_of_bytes(manifest, steps=steps, frames=frames[:-1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "{}",
        as_json(schema="episode/2"),
        as_json(surprise=1),
        as_json(T=0),
        as_json(T="four"),
        as_json(control_hz=0),
        as_json(episode_id="../../elsewhere"),
        as_json(episode_id=""),
        as_json(outcome="fine"),
        as_json(mode="guessed"),
        as_json(started_at="2026-01-01T12:00:00"),  # of which time zone?
        as_json(blobs={"steps.npz": "sha256:short"}),
        as_json(policy={"name": "x", "digest": "md5:0"}),
        as_json(labels=[{"success": True, "source": "rumour", "judge": "x", "at": "2026-01-01T00:00:00Z"}]),
        as_json().replace("5.0", "NaN"),
    ],
)
def test_json_that_is_no_manifest_of_this_schema_is_refused(text):
    with pytest.raises(EpisodeInvalid, match="schema episode/1"):
        parse_manifest(text)


def test_a_judge_may_say_that_it_does_not_know():
    episode = an_episode(labels=(a_label(None, source="vlm", answer="the gripper hides it"),))
    again = parse_manifest(episode.manifest.canonical_json())
    assert again.labels[0].success is None
    assert again.labels[0].answer == "the gripper hides it"


def test_a_manifest_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        EPISODE.manifest.task_id = "close_drawer"


def test_a_header_has_no_room_for_unknown_facts():
    with pytest.raises(ValidationError, match="surprise"):
        EpisodeHeader(**dict(a_header()), surprise=1)


@pytest.mark.parametrize("digest", ["0" * 64, "sha256:" + "G" * 64, "sha256:", ""])
def test_a_policy_is_named_by_a_whole_sha256_or_by_none(digest):
    with pytest.raises(ValidationError):
        PolicyRef(name="nano", digest=digest)
    assert PolicyRef(name="nano").digest is None


def test_times_without_a_zone_are_refused():
    with pytest.raises(ValidationError, match="timezone"):
        a_header(started_at=datetime(2026, 1, 1))  # noqa: DTZ001  (that is the point)
    assert a_header(started_at=datetime(2026, 1, 1, tzinfo=UTC)).started_at.tzinfo is not None
