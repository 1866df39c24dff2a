"""How a spec's world model part becomes a training's config."""

from typing import Any

import pytest

from daemon.learning.world_model.training import TrainingConfig
from daemon.phases.finetune_world_model import training_config
from daemon.spec import parse_spec


def config_of(**asked: Any) -> TrainingConfig:
    return training_config(parse_spec({"world_model": asked}).world_model, seed=3, frames=12)


def test_what_is_asked_for_is_what_is_trained():
    config = config_of(
        updates=7, batch=8, accumulate=2, optimizer="muon", learning_rate=1e-3, lora_rank=4, save_memory=True
    )
    assert (config.updates, config.batch, config.accumulate, config.seed) == (7, 8, 2, 3)
    assert (config.optimizer, config.learning_rate, config.lora_rank) == ("muon", 1e-3, 4)
    assert config.save_memory


@pytest.mark.parametrize(("asked", "frames"), [({}, 12), ({"frames": 5}, 5)])
def test_a_window_is_as_long_as_the_world_model_attends_unless_the_spec_says_so(
    asked: dict[str, int], frames: int
):
    assert config_of(**asked).frames == frames
