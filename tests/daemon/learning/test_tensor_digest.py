"""Equal weights, equal digests: cards do not count, every bit of every tensor does."""

from pathlib import Path

import pytest
import torch

from daemon.learning.state import CheckpointUnreadable, save_state
from daemon.learning.tensor_digest import PIECE_BYTES, tensors_digest


def saved(folder: Path, tensors: dict[str, torch.Tensor], *, card: int = 0) -> str:
    file = folder / "weights.safetensors"
    save_state(file, tensors, kind="judge", config={"card": card}, card={"made": card})
    return tensors_digest(file)


def weights() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2]), "none": torch.zeros(0)}


def test_cards_and_the_order_of_names_do_not_count(tmp_path):
    first = saved(tmp_path, weights(), card=1)
    assert saved(tmp_path, dict(reversed(weights().items())), card=2) == first


def changed_bit(tensors: dict[str, torch.Tensor]) -> None:
    tensors["a"].view(torch.int32)[1, 2] ^= 1


@pytest.mark.parametrize(
    "change",
    [
        changed_bit,
        lambda tensors: tensors.update(a=tensors["a"].reshape(3, 2)),
        lambda tensors: tensors.update(b=tensors["b"].to(torch.int32)),
        lambda tensors: tensors.update(c=tensors.pop("b")),
        lambda tensors: tensors.pop("none"),
    ],
)
def test_a_bit_a_shape_a_type_a_name_and_a_tensor_count(tmp_path, change):
    before, tensors = saved(tmp_path, weights()), weights()
    change(tensors)
    assert saved(tmp_path, tensors) != before


def test_large_tensors_are_read_to_their_end(tmp_path):
    tensors = {"a": torch.zeros(PIECE_BYTES), "b": torch.zeros(3)}
    before = saved(tmp_path, tensors)
    tensors["a"][-1] = 1.0
    assert saved(tmp_path, tensors) != before


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]"])
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    file = tmp_path / "broken"
    file.write_bytes(content)
    with pytest.raises(CheckpointUnreadable, match="a whole safetensors file"):
        tensors_digest(file)


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    saved(tmp_path, weights())
    file = tmp_path / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointUnreadable, match="cut short"):
        tensors_digest(file)
    with pytest.raises(CheckpointUnreadable):
        tensors_digest(tmp_path / "absent")
