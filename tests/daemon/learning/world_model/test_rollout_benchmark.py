"""The benchmark of imagination counts what it says it counts, and compares equal frames."""

import pytest
import torch

from benchmarks.world_model_rollout import SIDE, disagreement, ours, shown_again, world_model

SIZE = {"in_channels": 4, "patch": 2, "dim": 16, "layers": 2, "heads": 2, "max_frames": 4}
FRAMES, STEPS = 6, 3


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("uncached", STEPS * (2 + 3 + 4 + 4 + 4 + 4)),
        ("per-frame cache", (2 + 3 + 4 + 4 + 4 + 4) + FRAMES * (STEPS - 1)),
    ],
)
def test_every_schedule_costs_its_passes_and_imagines_the_same_frames(name: str, passes: int):
    model = world_model(SIZE, denoise_steps=STEPS)
    first, actions = torch.randn(2, 4, SIDE, SIDE), torch.randn(FRAMES, 2, 10)
    own, other = ours(model, first, actions), shown_again(name, model, first, actions)
    assert (own.passes, other.passes) == (FRAMES * (STEPS + 1), passes)
    assert len(own.seconds) == len(other.seconds) == FRAMES
    assert disagreement(other, own, frames=3) < 1e-5
    assert float(own.frames[0].std()) > 0.01
    assert disagreement(own, ours(model, first, -actions), frames=3) > 1e-3, "the comparison says something"
