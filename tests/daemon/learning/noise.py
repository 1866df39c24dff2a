"""Episodes of pure noise, for tests that only count."""

import torch

from daemon.learning.batch import Clip


def a_clip(name: str, *, steps: int = 6, seed: int = 0) -> Clip:
    """The same seed gives the same pictures and actions."""
    generator = torch.Generator().manual_seed(seed)
    return Clip(
        frames=torch.randint(256, (steps + 1, 3, 64, 64), dtype=torch.uint8, generator=generator),
        actions=torch.randn(steps, 7, generator=generator) * 0.02,
        instruction="open the drawer",
        episode_id=name,
    )
