"""Published checkpoints: read without running them, placed by name, computing what their weights mean."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from typer.testing import CliRunner

from daemon.cli import app
from daemon.learning.world_model.attention import Rotary, spatial_turn
from daemon.learning.world_model.model import WORLDGYM_TRANSFORMER, Sampling, WorldModel
from daemon.learning.world_model.transformer import WorldModelTransformer
from daemon.learning.world_model.worldgym import (
    ORIGIN_FILE,
    AutoencoderUnreadable,
    WorldgymUnreadable,
    import_worldgym,
    with_autoencoder,
)
from tests.daemon.learning.world_model.test_transformer import Reference

DIM, LAYERS, CHANNELS = 128, 2, 4


def weights(*, seed: int = 0) -> dict[str, Tensor]:
    """Random numbers under the names and in the shapes of a small published checkpoint."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.07

    linears = {
        "timestep_mlp.0": (DIM, 256),
        "timestep_mlp.2": (DIM, DIM),
        "action_embedder": (DIM, 10),
        "final_layer.linear": (4 * CHANNELS, DIM),
        "final_layer.adaLN_modulation.1": (2 * DIM, DIM),
    }
    found = {"x_proj.weight": drawn(DIM, CHANNELS, 2, 2), "x_proj.bias": drawn(DIM)}
    for layer in range(LAYERS):
        for block in ("s_block", "t_block"):
            prefix = f"blocks.{layer}.{block}"
            found[f"{prefix}.attn.qkv_proj.weight"] = drawn(3 * DIM, DIM)
            linears |= {
                f"{prefix}.adaLN_modulation.1": (6 * DIM, DIM),
                f"{prefix}.attn.out_proj": (DIM, DIM),
                f"{prefix}.ffwd.0": (4 * DIM, DIM),
                f"{prefix}.ffwd.2": (DIM, 4 * DIM),
            }
    for name, (rows, columns) in linears.items():
        found |= {f"{name}.weight": drawn(rows, columns), f"{name}.bias": drawn(rows)}
    return found


def published(path: Path, **content: Any) -> Path:
    torch.save(
        {"model": weights(seed=1), "ema": weights(), "optimizer": {}, "step": 580_000, **content}, path
    )
    return path


@torch.no_grad()
@pytest.mark.parametrize("rotary", ["standard", "pixel"])
def test_an_imported_checkpoint_computes_what_its_weights_mean(tmp_path: Path, rotary: Rotary) -> None:
    import_worldgym(published(tmp_path / "ckpt.pt"), tmp_path / "out", rotary=rotary)
    ours = WorldModelTransformer.from_pretrained(tmp_path / "out")
    assert {
        name: bool(torch.equal(t, weights()[name])) for name, t in ours.state_dict().items()
    } == dict.fromkeys(weights(), True)
    generator = torch.Generator().manual_seed(3)
    latents, actions = (
        torch.randn(1, 3, CHANNELS, 8, 4, generator=generator),
        torch.randn(1, 3, 10, generator=generator),
    )
    levels = torch.tensor([[14, 14, 700]])
    book = Reference(ours).forward(latents[0], levels[0], actions[0])
    computed = ours(latents, levels, actions)[0]
    assert float(book.abs().mean()) > 0.1, "the comparison says something"
    assert float((computed - book).abs().max()) < 1e-4 * max(1.0, float(book.abs().max()))


@torch.no_grad()
def test_the_two_rotaries_are_not_the_same(tmp_path: Path) -> None:
    file = published(tmp_path / "ckpt.pt")
    latents, actions = torch.ones(1, 2, CHANNELS, 8, 4).cumsum(3), torch.ones(1, 2, 10)
    levels = torch.tensor([[14, 700]])
    standard, pixel = (
        import_worldgym(file, tmp_path / rotary, rotary=rotary)(latents, levels, actions)  # type: ignore[arg-type]
        for rotary in ("standard", "pixel")
    )
    assert not torch.allclose(standard, pixel, atol=1e-2)


def test_pixel_angles_run_from_edge_to_edge_whatever_the_resolution() -> None:
    coarse, fine = (
        spatial_turn(side, side, width=64, device=torch.device("cpu"), rotary="pixel") for side in (3, 5)
    )
    for corner in (0, -1):
        assert torch.allclose(coarse.cos[corner], fine.cos[corner], atol=1e-4)
    assert torch.allclose(coarse.cos[4], torch.ones(64)), "the middle of the frame is not turned"
    assert torch.allclose(coarse.sin[4], torch.zeros(64))


def test_the_averaged_weights_are_preferred_and_the_origin_is_told(tmp_path: Path) -> None:
    file = published(tmp_path / "ckpt.pt")
    import_worldgym(file, tmp_path / "out")
    origin = json.loads((tmp_path / "out" / ORIGIN_FILE).read_text())
    assert origin == {
        "format": "worldgym/1",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "weights": "ema",
        "step": 580_000,
        "action_slot": "acts_at_frame",
    }
    assert (tmp_path / "out" / "diffusion_pytorch_model.safetensors").exists()


def test_without_averaged_weights_the_trained_ones_are_taken(tmp_path: Path) -> None:
    torch.save({"model": {f"module.{name}": t for name, t in weights(seed=1).items()}}, tmp_path / "ckpt.pt")
    model = import_worldgym(tmp_path / "ckpt.pt", tmp_path / "out")
    assert torch.equal(model.x_proj.bias, weights(seed=1)["x_proj.bias"])
    assert json.loads((tmp_path / "out" / ORIGIN_FILE).read_text())["weights"] == "model"


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    found = {**weights(), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        (lambda: changed(final_layer__linear__bias=None), r"1 missing \['final_layer.linear.bias'\]"),
        (lambda: changed(rope__freqs=torch.zeros(3)), r"1 unknown \['rope.freqs'\]"),
        (lambda: changed(blocks__1__s_block__ffwd__0__bias=torch.zeros(7)), r"ffwd.0.bias \[7\]"),
        (lambda: changed(x_proj__bias=torch.full((DIM,), torch.nan)), "NaN or infinity in x_proj.bias"),
        (lambda: changed(x_proj__weight=None), "x_proj.weight"),
        (lambda: changed(x_proj__weight=torch.zeros(100, 4, 2, 2)), "multiple of 64"),
        (lambda: changed(action_embedder__weight=torch.zeros(DIM, 7)), r"found \[128, 7\]"),
        (dict, "x_proj.weight"),
        (lambda: {"x_proj.weight": 3}, "a dict of tensors"),
    ],
    ids=["missing", "unknown", "shape", "nan", "no_kernel", "width", "actions", "empty", "number"],
)
def test_weights_that_are_not_worldgyms_are_refused_by_name_and_nothing_is_written(
    tmp_path: Path, spoiled: Callable[[], dict[str, Any]], words: str
) -> None:
    file = published(tmp_path / "ckpt.pt", ema=spoiled())
    with pytest.raises(WorldgymUnreadable, match=words):
        import_worldgym(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit(3)",))


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "pickle", "list", "other"])
def test_a_file_that_is_no_checkpoint_is_refused_and_never_run(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "ckpt.pt"
    if kind == "empty":
        file.touch()
    elif kind == "truncated":
        whole = published(tmp_path / "whole.pt").read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
    elif kind == "pickle":
        file.write_bytes(pickle.dumps(Harmful(), protocol=2))
    elif kind == "list":
        torch.save([torch.zeros(1)], file)
    elif kind == "other":
        torch.save({"state_dict": weights()}, file)
    with pytest.raises(WorldgymUnreadable, match="no WorldGym checkpoint"):
        import_worldgym(file, tmp_path / "out")


def test_the_command_says_what_it_made(tmp_path: Path) -> None:
    file = published(tmp_path / "ckpt.pt")
    answer = CliRunner().invoke(
        app, ["import", "worldgym-checkpoint", str(file), "--out", str(tmp_path / "out"), "--rotary", "pixel"]
    )
    assert answer.exit_code == 0, answer.output
    assert "M parameters in" in answer.output
    assert json.loads((tmp_path / "out" / "config.json").read_text())["rotary"] == "pixel"
    again = CliRunner().invoke(
        app, ["import", "worldgym-checkpoint", str(file), "--out", str(tmp_path / "again"), "--json"]
    )
    told = json.loads(again.stdout)
    assert (told["sha256"], told["step"]) == (hashlib.sha256(file.read_bytes()).hexdigest(), 580_000)
    assert (told["folder"], told["world_model"]) == (str(tmp_path / "again"), None)
    assert told["parameters"] == sum(tensor.numel() for tensor in weights().values())


def an_autoencoder(folder: Path, *, channels: int = CHANNELS) -> Path:
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=1024,
        scaling_factor=1.5305,
        shift_factor=0.0609,
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("inside", ["", "vae"])
def test_with_an_autoencoder_it_is_a_world_model_that_imagines(tmp_path: Path, inside: str) -> None:
    folder = tmp_path / "sd3"
    an_autoencoder(folder / inside)
    arguments = ["import", "worldgym-checkpoint", str(published(tmp_path / "ckpt.pt"))]
    said = CliRunner().invoke(
        app, [*arguments, "--out", str(tmp_path / "out"), "--autoencoder", str(folder), "--guidance", "3"]
    )
    assert said.exit_code == 0, said.output
    assert "a whole world model in" in said.output
    model = WorldModel.load(tmp_path / "out" / "world_model.safetensors")
    assert (model.image_size, model.latent_side) == (256, 32), (
        "not the size that the autoencoder was made for"
    )
    assert model.sampling == Sampling(denoise_steps=10, guidance=3.0)
    assert model.transformer.config.action_slot == "acts_at_frame"
    assert torch.equal(model.transformer.x_proj.weight, weights()["x_proj.weight"]), "every bit is kept"


@pytest.mark.parametrize("fault", ["missing", "channels", "pickled"])
def test_an_autoencoder_that_does_not_fit_is_refused(tmp_path: Path, fault: str) -> None:
    transformer = import_worldgym(published(tmp_path / "ckpt.pt"), tmp_path / "out")
    folder = tmp_path / "vae-of-another"
    if fault != "missing":
        an_autoencoder(folder, channels=CHANNELS + (fault == "channels"))
    if fault == "pickled":
        (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(AutoencoderUnreadable, match="an AutoencoderKL of 4 channels with safetensors"):
        with_autoencoder(transformer, folder)


def test_an_import_that_is_cut_short_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(Exception):
        pass

    def cut_short(self: object, folder: str) -> None:
        (Path(folder) / "config.json").write_text("{}")
        raise Full

    file = published(tmp_path / "ckpt.pt")
    monkeypatch.setattr(WorldModelTransformer, "save_pretrained", cut_short)
    with pytest.raises(Full):
        import_worldgym(file, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    import_worldgym(file, tmp_path / "out")
    assert {found.name for found in (tmp_path / "out").iterdir()} >= {"config.json", ORIGIN_FILE}


def test_the_published_size_has_six_hundred_million_weights() -> None:
    with torch.device("meta"):
        transformer = WorldModelTransformer(**WORLDGYM_TRANSFORMER)
    assert transformer.num_parameters() == pytest.approx(600e6, rel=0.1)
