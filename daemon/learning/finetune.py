"""Bringing a world model up to date with what the robot did last.

Finetuning works on a copy: the world model that it starts from is never changed. What it draws from which
episodes is the pools' business (`world_model/windows.py`); whether it helped is measured in `drift.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daemon.learning.mixing import mix, weights_of
from daemon.learning.resumable import Resumable
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.training import TrainingConfig, train_transformer
from daemon.learning.world_model.windows import Pool

OnUpdate = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetunedWorldModel:
    """The new world model, how many updates it took, and episodes too short to teach."""

    world_model: WorldModel
    updates: int
    left_out: tuple[str, ...]


def finetune_world_model(
    world_model: WorldModel,
    pools: Sequence[Pool],
    *,
    config: TrainingConfig,
    on_update: OnUpdate,
    resumable: Resumable | None = None,
    mixing: float = 1.0,
) -> FinetunedWorldModel:
    """Train a copy of `world_model` on windows of these pools.

    Args:
        mixing: how much of what it learned it takes on. Fresh episodes are few and nobody marks there what
            matters, so a whole finetuning lowers the error of pictures and loses small things in them.

    Raises:
        NoWindow: every clip is shorter than a window.
        NonFiniteLoss: names the episodes of the update that diverged.
        CheckpointUnreadable: the state to go on from is of another training.
    """
    candidate = world_model.copy()
    trained = train_transformer(candidate, pools, config=config, on_update=on_update, resumable=resumable)
    mix(candidate.transformer, weights_of(world_model.transformer), share=mixing)
    return FinetunedWorldModel(world_model=candidate, updates=trained.updates, left_out=trained.left_out)
