"""A checkpoint file as a folder: a diffusers one for a world model, a transformers one for policy and judge.

Weights are safetensors in the type that they are stored in, configs are what the libraries read, and
`gymnastd.json` has the rest, with the sha256 of every file. The file that the folder came from is made again
from it, byte for byte; nothing in a folder is run here. No database here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import diffusers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from daemon.hub.errors import CheckpointFolderInvalid
from daemon.hub.pipeline import CODE, MODULE, WorldModelPipeline
from daemon.learning.state import State, save_state

FORMAT: Final = "gymnastd-checkpoint/1"
INDEX: Final = "gymnastd.json"
README: Final = "README.md"  # may be edited: it is not sealed
DIFFUSERS_WEIGHTS: Final = "diffusion_pytorch_model.safetensors"
NETWORKS: Final = {  # by the network that a checkpoint names, or by its kind: class and model_type
    "policy": ("NanoVLA", "nano_vla"),
    "judge": ("SuccessClassifier", "success_classifier"),
    "vlm": ("VlmActionModel", "vlm_action"),
}

Document = dict[str, Any]
Hashed = Callable[[int, int], None]


def write_folder(state: State, folder: Path, *, about: Mapping[str, Any], hashed: Hashed) -> None:
    """Write everything but the model card.

    Args:
        about: what the index says of the checkpoint: its id, number, sha256, spec_digest, parent_id.
        hashed: is told how many files are hashed, and how many there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = (
        _write_diffusers(state, folder) if state.kind == "world_model" else _write_transformers(state, folder)
    )
    extra = {}
    for name, text in state.extra.items():
        file = "tokenizer.json" if name == "tokenizer" else PurePosixPath(name).name
        (folder / file).write_text(text, encoding="utf-8")
        extra[name] = file
    index: Document = {
        "format": FORMAT,
        "kind": state.kind,
        "config": state.config,
        "card": state.card,
        "extra": extra,
        "weights": weights,
        "checkpoint": dict(about),
        "files": {},
    }
    files = _files(folder)
    for done, path in enumerate(files, start=1):
        index["files"][_name(path, folder)] = _digest(path)
        hashed(done, len(files))
    _write_json(folder / INDEX, index)


def read_folder(folder: Path, file: Path, *, hashed: Hashed) -> Document:
    """Make the checkpoint file that a folder came from; gives the folder's index.

    Args:
        hashed: is told how many files are hashed, and how many there are.

    Raises:
        CheckpointFolderInvalid: no folder of ours, a file of it is gone or changed, or another checkpoint
            comes out than it says.
    """
    index = _index(folder)
    _check_files(folder, index, hashed=hashed)
    try:
        tensors: dict[str, Tensor] = {}
        for prefix, name in index["weights"].items():
            tensors |= {prefix + each: tensor for each, tensor in load_file(folder / name).items()}
        extra = {name: (folder / each).read_text(encoding="utf-8") for name, each in index["extra"].items()}
        save_state(file, tensors, kind=index["kind"], config=index["config"], card=index["card"], extra=extra)
        wanted = index["checkpoint"]["sha256"]
    except (KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointFolderInvalid(
            path=folder, expected="the parts that its index names", found=str(error)
        ) from error
    found = _digest(file)
    if found != wanted:
        raise CheckpointFolderInvalid(path=folder, expected=f"a checkpoint of sha256 {wanted}", found=found)
    return index


def _write_diffusers(state: State, folder: Path) -> dict[str, str]:
    classes = {"transformer": "WorldModelTransformer", "autoencoder": state.config["autoencoder_class"]}
    weights = {}
    for part, class_name in classes.items():
        own = {
            name.removeprefix(f"{part}."): tensor
            for name, tensor in state.tensors.items()
            if name.startswith(f"{part}.")
        }
        place = folder / part
        place.mkdir()
        save_file(own, place / DIFFUSERS_WEIGHTS, metadata={"format": "pt"})
        config = {
            "_class_name": class_name,
            "_diffusers_version": diffusers.__version__,
            **state.config[part],
        }
        _write_json(place / "config.json", config)
        weights[f"{part}."] = f"{part}/{DIFFUSERS_WEIGHTS}"
    named = [MODULE, WorldModelPipeline.__name__]
    pipeline = {"_class_name": named, "_diffusers_version": diffusers.__version__}
    (folder / f"{MODULE}.py").write_text(CODE, encoding="utf-8")
    module = "daemon.learning.world_model"
    parts = {"transformer": f"{module}.transformer", "autoencoder": f"{module}.autoencoder"}
    if state.config["autoencoder_class"] == "AutoencoderKL":
        parts["autoencoder"] = "diffusers"
    listed = {part: [parts[part], class_name] for part, class_name in classes.items()}
    rest = {"sampling": state.config["sampling"], "image_size": state.config.get("image_size")}
    _write_json(folder / "model_index.json", {**pipeline, **listed, **rest})
    return weights


def _write_transformers(state: State, folder: Path) -> dict[str, str]:
    save_file(state.tensors, folder / "model.safetensors", metadata={"format": "pt"})
    named, model_type = NETWORKS[state.config.get("network", state.kind)]
    config = {"architectures": [named], "model_type": model_type, **state.config["model"]}
    _write_json(folder / "config.json", config)
    beside = {name: value for name, value in state.config.items() if name not in {"model", "network"}}
    _write_json(
        folder / "action_config.json" if state.kind == "policy" else folder / "judge_config.json", beside
    )
    if "tokenizer" in state.extra:
        _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    return {"": "model.safetensors"}


def _index(folder: Path) -> Document:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        found = str(index.get("format")) if isinstance(index, dict) else type(index).__name__
    except (OSError, ValueError) as error:
        raise CheckpointFolderInvalid(path=path, expected="an index as JSON", found=str(error)) from error
    if found != FORMAT:
        raise CheckpointFolderInvalid(path=path, expected=f"format {FORMAT}", found=found)
    return dict(index)


def _check_files(folder: Path, index: Document, *, hashed: Hashed) -> None:
    """Every file that the index names is in the folder, under it, and as it was."""
    named = index.get("files")
    needed = [*index.get("weights", {}).values(), *index.get("extra", {}).values()]
    if not isinstance(named, dict) or not set(needed) <= set(named):
        raise CheckpointFolderInvalid(path=folder / INDEX, expected="a digest of each file", found="fewer")
    for done, (name, wanted) in enumerate(named.items(), start=1):
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise CheckpointFolderInvalid(path=path, expected="a file of this folder", found="none")
        found = _digest(path)
        if found != wanted:
            raise CheckpointFolderInvalid(path=path, expected=f"sha256 {wanted}", found=found)
        hashed(done, len(named))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in {INDEX, README})


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
