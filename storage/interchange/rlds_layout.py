"""An RLDS dataset as TFDS expects it: names of features, features.json, dataset_info.json."""

from __future__ import annotations

from typing import Any, Final

from robot_bridge.conventions import ACTION_DIMS, PROPRIO_DIMS

FORMAT: Final = "rlds"
NAME: Final = "gymnastd"
VERSION: Final = "1.0.0"
FEATURES_FILE: Final = "features.json"
INFO_FILE: Final = "dataset_info.json"
TEMPLATE: Final = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
SPLITS: Final = ("train", "test")  # held-out episodes are in the second
CAMERA: Final = "image_0"
PICTURES: Final = f"steps/observation/{CAMERA}"
STATES: Final = "steps/observation/state"
ACTIONS: Final = "steps/action"
INSTRUCTIONS: Final = "steps/language_instruction"
EPISODE_ID: Final = "episode_metadata/episode_id"
FILE_PATH: Final = "episode_metadata/file_path"

PACKAGE: Final = "tensorflow_datasets.core.features"


def shard_name(split: str, number: int, of: int) -> str:
    return f"{NAME}-{split}.tfrecord-{number:05d}-of-{of:05d}"


def shard_pattern(split: str) -> str:
    """What the names of all shards of a split look like."""
    return f"{NAME}-{split}.tfrecord-?????-of-?????"


def shard_number(name: str) -> int:
    """12 of gymnastd-train.tfrecord-00012-of-00040."""
    return int(name.split("-")[-3])


def features_tree(*, width: int, height: int) -> dict[str, Any]:
    """What features.json holds."""
    observation = {
        CAMERA: _image(width=width, height=height),
        "state": _tensor("float32", PROPRIO_DIMS),
    }
    step = {
        "action": _tensor("float32", ACTION_DIMS),
        "discount": _scalar("float32"),
        "is_first": _scalar("bool"),
        "is_last": _scalar("bool"),
        "is_terminal": _scalar("bool"),
        "language_instruction": _text(),
        "observation": _dict(observation),
        "reward": _scalar("float32"),
    }
    steps = {
        "pythonClassName": f"{PACKAGE}.dataset_feature.Dataset",
        "sequence": {"feature": _dict(step), "length": "-1"},
    }
    metadata = _dict({"episode_id": _text(), "file_path": _text()})
    return _dict({"episode_metadata": metadata, "steps": steps})


def info_tree(splits: dict[str, tuple[int, list[int]]]) -> dict[str, Any]:
    """What dataset_info.json holds; splits by name: bytes, and how many episodes each shard has."""
    return {
        "citation": "",
        "description": "Real episodes of a WidowX, exported by gymnastd. See manifest.json for conventions.",
        "fileFormat": "tfrecord",
        "moduleName": "gymnastd",
        "name": NAME,
        "releaseNotes": {VERSION: "exported"},
        "splits": [
            {
                "filepathTemplate": TEMPLATE,
                "name": name,
                "numBytes": str(size),
                "shardLengths": [str(each) for each in lengths],
            }
            for name, (size, lengths) in splits.items()
        ],
        "version": VERSION,
    }


def _dict(features: dict[str, Any]) -> dict[str, Any]:
    return {
        "pythonClassName": f"{PACKAGE}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def _tensor(dtype: str, width: int) -> dict[str, Any]:
    tensor = {"shape": {"dimensions": [str(width)]}, "dtype": dtype, "encoding": "none"}
    return {"pythonClassName": f"{PACKAGE}.tensor_feature.Tensor", "tensor": tensor}


def _scalar(dtype: str) -> dict[str, Any]:
    tensor = {"shape": {}, "dtype": dtype, "encoding": "none"}
    return {"pythonClassName": f"{PACKAGE}.scalar.Scalar", "tensor": tensor}


def _text() -> dict[str, Any]:
    return {"pythonClassName": f"{PACKAGE}.text_feature.Text", "text": {}}


def _image(*, width: int, height: int) -> dict[str, Any]:
    shape = {"dimensions": [str(height), str(width), "3"]}
    image = {"shape": shape, "dtype": "uint8", "encodingFormat": "jpeg"}
    return {"pythonClassName": f"{PACKAGE}.image_feature.Image", "image": image}
