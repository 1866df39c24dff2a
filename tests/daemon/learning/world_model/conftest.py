"""Small world models whose every weight matters, and clips of a square that goes where it is told."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from daemon.learning.batch import Clip
from daemon.learning.world_model.model import Sampling, WorldModel, nano_world_model, with_told_path
from daemon.learning.world_model.transformer import WorldModelTransformer

TINY = {"in_channels": 4, "patch": 2, "dim": 32, "layers": 2, "heads": 2, "max_frames": 4}


def stirred(module: nn.Module, *, seed: int, spread: float = 0.2) -> nn.Module:
    """Random weights everywhere: a fresh transformer's gates are zero and would hide any mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * spread)
    return module


@pytest.fixture
def tiny_transformer() -> WorldModelTransformer:
    torch.manual_seed(0)
    return stirred(WorldModelTransformer(**TINY), seed=1).eval()


@pytest.fixture
def tiny_world_model(tiny_transformer: WorldModelTransformer) -> WorldModel:
    model = nano_world_model(seed=0, **TINY)
    model = WorldModel(tiny_transformer, model.autoencoder, sampling=Sampling(denoise_steps=3))
    model.precision = torch.float32
    return model


@pytest.fixture
def told_world_model(tiny_world_model: WorldModel) -> WorldModel:
    """The same one, told the path, with weights for it that matter."""
    model = with_told_path(tiny_world_model)
    stirred(model.transformer.path_mlp, seed=2)
    return model


@pytest.fixture
def square_clip() -> Callable[..., Clip]:
    """A dark square on grey that moves by its actions: 1 cm is one pixel right (dx) and down (dy)."""

    def build(seed: int, *, steps: int = 8, episode_id: str | None = None) -> Clip:
        generator = torch.Generator().manual_seed(seed)
        moves = torch.randint(-4, 5, (steps, 2), generator=generator)
        at = torch.randint(20, 40, (2,), generator=generator)
        frames = [_picture(at)]
        for step, move in enumerate(moves):
            moved = (at + move).clamp(4, 52)
            moves[step], at = moved - at, moved
            frames.append(_picture(at))
        actions = torch.zeros(steps, 7)
        actions[:, :2] = moves * 0.01
        return Clip(
            frames=torch.stack(frames),
            actions=actions,
            instruction="move the square",
            episode_id=episode_id or f"square-{seed}",
        )

    return build


def _picture(at: Tensor) -> Tensor:
    picture = torch.full((3, 64, 64), 150, dtype=torch.uint8)
    picture[:, at[1] : at[1] + 8, at[0] : at[0] + 8] = torch.tensor([30, 60, 90], dtype=torch.uint8)[
        :, None, None
    ]
    return picture
