"""A checkpoint on disk: one safetensors file whose header carries kind, config and card as JSON.

The file says by itself what it is and how to build the module around its tensors; nothing in it is
code. It is written beside its final name, fsynced and renamed, so a reader sees all of it or nothing.
Rows, digests and lineage belong to `storage`, not here.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from daemon.learning.errors import LearningError

FORMAT = "gymnastd/1"
EXTRA = "extra."  # prefix that keeps a caller's header entries apart from ours


class CheckpointUnreadable(LearningError):
    """A checkpoint file is missing, cut short, foreign or of another kind."""

    code = "checkpoint_unreadable"

    def __init__(self, *, path: Path, expected: str, found: str) -> None:
        self.path = path
        super().__init__(
            f"checkpoint file {path} cannot be used: expected {expected}, found {found}. "
            "Restore it from its sha256, or go on from its parent."
        )


class StateNotFinite(LearningError):
    """Weights that hold NaN or infinity are not worth a checkpoint."""

    code = "state_not_finite"

    def __init__(self, *, kind: str, names: Sequence[str]) -> None:
        super().__init__(
            f"{kind} weights were not saved: {len(names)} tensors hold NaN or infinity, first {names[0]}. "
            "The training that made them diverged: lower its learning rate and start from the parent."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What `load_state` found: tensors as stored, and the three records of the header."""

    tensors: dict[str, Tensor]
    kind: str
    config: dict[str, Any]
    card: dict[str, Any]
    extra: dict[str, str]


def half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating tensors in float16, others untouched: the form in which nano checkpoints travel."""
    return {
        name: tensor.detach().to(torch.float16) if tensor.is_floating_point() else tensor.detach()
        for name, tensor in tensors.items()
    }


def save_state(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    kind: str,
    config: Mapping[str, Any],
    card: Mapping[str, Any],
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write one checkpoint file, whole or not at all; pass `half(tensors)` for float16.

    Args:
        kind: "world_model", "policy" or "judge".
        config: what builds the module again; JSON.
        card: how it was made: seed, updates, measured numbers; JSON.
        extra: further header strings, such as a tokenizer.

    Raises:
        StateNotFinite: a tensor holds NaN or infinity (float16 overflow included).
        TypeError: config or card is not JSON.
    """
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise StateNotFinite(kind=kind, names=broken)
    header = {
        "format": FORMAT,
        "kind": kind,
        "config": json.dumps(config, sort_keys=True),
        "card": json.dumps(card, sort_keys=True),
    }
    header.update({EXTRA + name: text for name, text in (extra or {}).items()})
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    _write_whole(path, _in_order(save(stored, metadata=header)))


def load_state(path: Path, *, kind: str | None = None) -> State:
    """Read a checkpoint file back; `kind` refuses a file of another kind.

    Raises:
        CheckpointUnreadable: missing, cut short, not ours, or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointUnreadable(
            path=path, expected="a whole safetensors file", found=str(error)
        ) from error
    if header.get("format") != FORMAT:
        raise CheckpointUnreadable(path=path, expected=f"format {FORMAT}", found=str(header.get("format")))
    if kind is not None and header.get("kind") != kind:
        raise CheckpointUnreadable(path=path, expected=f"kind {kind}", found=str(header.get("kind")))
    return State(
        tensors=tensors,
        kind=_entry(path, header, "kind"),
        config=_record(path, header, "config"),
        card=_record(path, header, "card"),
        extra={name.removeprefix(EXTRA): text for name, text in header.items() if name.startswith(EXTRA)},
    )


def _entry(path: Path, header: Mapping[str, str], name: str) -> str:
    if name not in header:
        raise CheckpointUnreadable(path=path, expected=f"a header with {name}", found="none")
    return header[name]


def _record(path: Path, header: Mapping[str, str], name: str) -> dict[str, Any]:
    text = _entry(path, header, name)
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise CheckpointUnreadable(path=path, expected=f"{name} as JSON", found=str(error)) from error
    if not isinstance(record, dict):
        raise CheckpointUnreadable(path=path, expected=f"{name} as an object", found=type(record).__name__)
    return record


def _in_order(content: bytes) -> bytes:
    """The same safetensors file with its header's entries sorted: the library writes them in any order.

    The same weights and records then give the same bytes and the same digest.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":"))
    encoded = header.encode()
    encoded += b" " * (-len(encoded) % 8)  # tensors stay aligned to eight bytes
    return len(encoded).to_bytes(8, "little") + encoded + content[8 + length :]


def _write_whole(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
