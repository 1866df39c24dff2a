"""Episodes in from an RLDS dataset in TFRecord files: ours whole, those of others with what they tell.

T + 1 steps are T actions: the last step's action was never executed and is left out. The camera of a dataset
of others is `image_0`, `image`, or the only one there is.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from robot_bridge.conventions import ACTION_DIMS, BRIDGE_V2, PROPRIO_DIMS
from robot_bridge.errors import RobotBridgeError
from robot_bridge.frames import FrameBlob, decode_jpeg, encode_jpeg
from storage.interchange import rlds_layout as layout
from storage.interchange.errors import DatasetInvalid, DatasetUndeclared
from storage.interchange.foreign import Origin, check_rows, foreign_record
from storage.interchange.record import F32, Found, Record, read_side, require_equal, restored
from storage.interchange.seal import Seal
from storage.interchange.tf_example import ExampleBroken, Values, decode_example
from storage.interchange.tfrecord import read_records

CONVENTIONS: Final = (BRIDGE_V2,)
PNG: Final = b"\x89PNG"
CAMERAS: Final = (layout.CAMERA, "image")  # in this order, where there are several


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What features.json says is in every episode."""

    camera: str
    instruction: str | None


def find_rlds(folder: Path, seal: Seal | None, *, convention: str | None = None) -> Iterator[Found]:
    """Every episode of the dataset, not read yet.

    Raises:
        DatasetInvalid: a head or a shard is not what the format says.
        DatasetUndeclared: a dataset of others, and nobody said what its numbers mean.
    """
    if seal is None and convention not in CONVENTIONS:
        raise DatasetUndeclared(folder=folder, known=CONVENTIONS)
    head = read_head(folder / layout.FEATURES_FILE)
    for path, count in read_shards(folder / layout.INFO_FILE):
        number = 0
        for content in read_records(path):
            number += 1
            yield _found(folder, path, content, head=head, seal=seal)
        if number != count:
            raise DatasetInvalid(path=path, expected=f"{count} episodes", found=f"{number}")


def read_head(path: Path) -> Head:
    """features.json, checked for what an episode of ours needs.

    Raises:
        DatasetInvalid: it is none, or a feature is missing or has another shape.
    """
    try:
        top = json.loads(path.read_bytes())["featuresDict"]["features"]
        step = top["steps"]["sequence"]["feature"]["featuresDict"]["features"]
        observation = step["observation"]["featuresDict"]["features"]
        kinds = {"action": step.get("action"), "state": observation.get("state")}
        cameras = sorted(name for name, each in observation.items() if "image" in each)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetInvalid(path=path, expected="features of RLDS steps", found=repr(error)) from error
    for name, width in (("action", ACTION_DIMS), ("state", PROPRIO_DIMS)):
        shape = _shape(kinds[name])
        if shape != ("float32", [str(width)]):
            raise DatasetInvalid(path=path, expected=f"{name} float32 [{width}]", found=str(shape))
    known = [name for name in CAMERAS if name in cameras] or cameras
    if not known or (len(known) > 1 and known[0] not in CAMERAS):
        found = ", ".join(cameras) or "none"
        raise DatasetInvalid(path=path, expected="a camera image_0, image or one alone", found=found)
    instruction = layout.INSTRUCTIONS if "language_instruction" in step else None
    return Head(camera=f"steps/observation/{known[0]}", instruction=instruction)


def _shape(feature: Any) -> tuple[str, list[str]] | str:
    try:
        tensor = feature["tensor"]
        return str(tensor["dtype"]), list(tensor["shape"].get("dimensions", []))
    except (KeyError, TypeError, AttributeError):
        return "no such tensor"


def read_shards(path: Path) -> list[tuple[Path, int]]:
    """Every shard that dataset_info.json names, with the number of episodes in it.

    Raises:
        DatasetInvalid: it is none.
    """
    shards = []
    try:
        tree = json.loads(path.read_bytes())
        if tree.get("fileFormat", "tfrecord") != "tfrecord":
            raise DatasetInvalid(path=path, expected="fileFormat tfrecord", found=str(tree["fileFormat"]))
        for split in tree["splits"]:
            lengths = [int(each) for each in split["shardLengths"]]
            for number, length in enumerate(lengths):
                name = f"{tree['name']}-{split['name']}.tfrecord-{number:05d}-of-{len(lengths):05d}"
                shards.append((path.parent / Path(name).name, length))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetInvalid(path=path, expected="the head of a TFDS dataset", found=repr(error)) from error
    return shards


def _found(folder: Path, path: Path, content: bytes, *, head: Head, seal: Seal | None) -> Found:
    if seal is None:
        digest = hashlib.sha256(content).hexdigest()
        origin = Origin(format=layout.FORMAT, path=path, digest=digest)
        read = partial(_read_foreign, origin, content, head=head)
        return Found(episode_id=origin.episode_id, digest=digest, read=read)
    told = _decoded(path, content).get(layout.EPISODE_ID)
    episode_id = told[0].decode(errors="replace") if isinstance(told, list) and told else ""
    if episode_id not in seal.places:
        raise DatasetInvalid(path=path, expected="episodes that manifest.json knows", found=repr(episode_id))
    digest = read_side(folder, episode_id).manifest.digest
    read = partial(_read_ours, folder, path, content=content, episode_id=episode_id)
    return Found(episode_id=episode_id, digest=digest, read=read)


def _read_ours(folder: Path, path: Path, *, content: bytes, episode_id: str) -> Record:
    side, features = read_side(folder, episode_id), _decoded(path, content)
    actions, states = _rows(path, features)
    require_equal(path, "action", told=side.steps.raw_action, found=actions[:-1])
    require_equal(path, "state", told=side.steps.state, found=states)
    return restored(side, _frames(path, features, layout.PICTURES), codec="jpeg")


def _read_foreign(origin: Origin, content: bytes, *, head: Head) -> Record:
    features = _decoded(origin.path, content)
    actions, states = _rows(origin.path, features)
    told = features.get(head.instruction, []) if head.instruction else []
    instruction = told[0].decode(errors="replace") if isinstance(told, list) and told else ""
    frames = _frames(origin.path, features, head.camera)
    return foreign_record(origin, actions=actions[:-1], states=states, frames=frames, instruction=instruction)


def _decoded(path: Path, content: bytes) -> dict[str, Values]:
    try:
        return decode_example(content)
    except (ExampleBroken, ValueError) as error:
        raise DatasetInvalid(path=path, expected="a tf.train.Example", found=str(error)) from error


def _rows(path: Path, features: dict[str, Values]) -> tuple[F32, F32]:
    """Actions and states [T + 1, 7]."""
    found = []
    for name, width in ((layout.ACTIONS, ACTION_DIMS), (layout.STATES, PROPRIO_DIMS)):
        values = features.get(name)
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or len(values) % width:
            what = "no such feature" if values is None else f"{len(values)} values"
            raise DatasetInvalid(path=path, expected=f"{name} as rows of {width} floats", found=what)
        rows = values.astype(np.float32).reshape(-1, width)
        check_rows(path, name, rows, width=width)
        found.append(rows)
    return found[0], found[1]


def _frames(path: Path, features: dict[str, Values], camera: str) -> FrameBlob:
    """The pictures as they are, each decoded once to see that it is whole."""
    pictures = features.get(camera)
    if not isinstance(pictures, list) or not pictures:
        raise DatasetInvalid(path=path, expected=f"{camera} as JPEGs", found="none")
    try:
        jpegs = [_as_jpeg(each) for each in pictures]
        with Image.open(io.BytesIO(jpegs[0])) as first:
            width, height = first.size
        for jpeg in jpegs:
            decode_jpeg(jpeg, width=width, height=height)
        return FrameBlob.of_jpegs(jpegs, width=width, height=height)
    except (RobotBridgeError, UnidentifiedImageError, OSError) as error:
        raise DatasetInvalid(
            path=path, expected=f"{camera} as JPEGs of one size", found=str(error)
        ) from error


def _as_jpeg(picture: bytes) -> bytes:
    """A JPEG as it is; a PNG, which others use too, encoded anew."""
    if not picture.startswith(PNG):
        return picture
    with Image.open(io.BytesIO(picture), formats=["PNG"]) as opened:
        return encode_jpeg(np.asarray(opened.convert("RGB")))
