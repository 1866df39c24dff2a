"""A world model that has learned nothing."""

import pytest
import torch

from daemon.learning.world_model.model import WorldModel, nano_world_model


@pytest.fixture
def untaught() -> WorldModel:
    model = nano_world_model(seed=0, in_channels=4, dim=32, layers=1, heads=2, max_frames=4)
    model.precision = torch.float32
    return model
