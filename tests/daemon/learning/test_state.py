"""A checkpoint file is whole or absent, says what it is, and refuses to be taken for something else."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from daemon.learning.state import CheckpointUnreadable, StateNotFinite, half, load_state, save_state

TENSORS = {"layer.weight": torch.arange(6.0).view(2, 3) / 7, "steps": torch.tensor([3, 4])}


def saved(path: Path, **changes: object) -> Path:
    parts = {"kind": "policy", "config": {"dim": 8}, "card": {"seed": 1}, "extra": {"tokenizer": "{}"}}
    save_state(path, TENSORS, **{**parts, **changes})  # type: ignore[arg-type]
    return path


def test_what_was_saved_comes_back_exactly(tmp_path: Path):
    state = load_state(saved(tmp_path / "a.safetensors"), kind="policy")
    assert state.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(state.tensors[name], tensor)
        assert state.tensors[name].dtype == tensor.dtype
    assert (state.kind, state.config, state.card) == ("policy", {"dim": 8}, {"seed": 1})
    assert state.extra == {"tokenizer": "{}"}


def test_the_same_content_gives_the_same_bytes(tmp_path: Path):
    """Checkpoints are named by their digest: the order in which things were given must not show."""
    parts = {"extra": {"a": "1", "b": "2", "c": "3"}, "card": {"x": 1, "y": 2}}
    one = saved(tmp_path / "one", **parts)
    turned = {name: dict(reversed(entries.items())) for name, entries in parts.items()}
    assert saved(tmp_path / "two", **turned).read_bytes() == one.read_bytes()


def test_any_reader_of_safetensors_can_open_the_file(tmp_path: Path):
    path = saved(tmp_path / "a.safetensors", extra={"names": "Gerät – 机器人"})
    assert torch.equal(load_file(path)["layer.weight"], TENSORS["layer.weight"])
    assert load_state(path).extra == {"names": "Gerät – 机器人"}


def test_an_extra_entry_cannot_pose_as_one_of_ours(tmp_path: Path):
    state = load_state(saved(tmp_path / "a.safetensors", extra={"kind": "judge", "config": "[]"}))
    assert state.kind == "policy"
    assert state.extra == {"kind": "judge", "config": "[]"}


def test_half_precision_halves_floats_and_leaves_integers(tmp_path: Path):
    save_state(tmp_path / "a.safetensors", half(TENSORS), kind="policy", config={}, card={})
    state = load_state(tmp_path / "a.safetensors")
    assert state.tensors["layer.weight"].dtype == torch.float16
    assert state.tensors["steps"].dtype == torch.int64
    assert torch.allclose(state.tensors["layer.weight"].float(), TENSORS["layer.weight"], atol=1e-3)


def test_tensors_that_share_memory_or_are_views_are_saved_by_value(tmp_path: Path):
    base = torch.arange(12.0).view(3, 4)
    save_state(tmp_path / "a.safetensors", {"a": base, "b": base.T, "c": base}, kind="x", config={}, card={})
    state = load_state(tmp_path / "a.safetensors")
    assert torch.equal(state.tensors["b"], base.T)
    assert torch.equal(state.tensors["c"], base)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_never_reach_the_disk(tmp_path: Path, value: float):
    broken = {**TENSORS, "bad": torch.tensor([1.0, value])}
    with pytest.raises(StateNotFinite, match="first bad"):
        save_state(tmp_path / "a.safetensors", broken, kind="policy", config={}, card={})
    assert list(tmp_path.iterdir()) == []


def test_a_float16_overflow_is_refused_like_infinity(tmp_path: Path):
    with pytest.raises(StateNotFinite):
        save_state(tmp_path / "a", half({"w": torch.tensor([1e6])}), kind="policy", config={}, card={})


def test_a_config_that_is_not_json_leaves_the_old_file_alone(tmp_path: Path):
    path = saved(tmp_path / "a.safetensors")
    before = path.read_bytes()
    with pytest.raises(TypeError):
        saved(path, config={"path": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_half_way_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = saved(tmp_path / "a.safetensors")
    before = path.read_bytes()

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        saved(path, card={"seed": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saving_over_a_file_replaces_it_whole(tmp_path: Path):
    path = saved(tmp_path / "a.safetensors")
    saved(path, card={"seed": 2})
    assert load_state(path).card == {"seed": 2}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_a_file_cut_short_is_unreadable_and_the_error_names_it(tmp_path: Path, keep: int):
    path = saved(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointUnreadable, match=r"a\.safetensors") as refused:
        load_state(path)
    assert refused.value.code == "checkpoint_unreadable"


def test_a_missing_file_is_unreadable(tmp_path: Path):
    with pytest.raises(CheckpointUnreadable, match="nowhere"):
        load_state(tmp_path / "nowhere.safetensors")


def test_another_kind_is_refused_by_name(tmp_path: Path):
    with pytest.raises(CheckpointUnreadable, match="expected kind world_model, found policy"):
        load_state(saved(tmp_path / "a.safetensors"), kind="world_model")


OURS = {"format": "gymnastd/1", "kind": "policy", "config": "{}", "card": "{}"}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "format gymnastd/1"),
        ({**OURS, "format": "pt"}, "format gymnastd/1, found pt"),
        ({name: text for name, text in OURS.items() if name != "kind"}, "header with kind"),
        ({name: text for name, text in OURS.items() if name != "card"}, "header with card"),
        ({**OURS, "config": "{"}, "config as JSON"),
        ({**OURS, "config": json.dumps([1])}, "config as an object, found list"),
    ],
)
def test_a_foreign_or_damaged_header_is_refused(tmp_path: Path, header: dict[str, str] | None, reason: str):
    save_file(TENSORS, tmp_path / "a.safetensors", metadata=header)
    with pytest.raises(CheckpointUnreadable, match=reason):
        load_state(tmp_path / "a.safetensors")
