"""Training the transformer on encoded clips: the same loop pretrains it and finetunes it.

It changes the transformer that it is given and ends with the moving average of the weights; the caller
copies first what must survive. The autoencoder is frozen, so latents are encoded once, before. A training can
be stopped between any two updates and gone on with from its state (`training_state.py`), losses and all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from daemon.learning.devices import autocast
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.resumable import Resumable
from daemon.learning.world_model.adapters import with_adapters, without_adapters
from daemon.learning.world_model.latents import LatentWindows
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.objective import Forcing, ForcingWay, forcing_loss, place_weights
from daemon.learning.world_model.optimizing import OptimizerName, Optimizing, stepped
from daemon.learning.world_model.own_context import OwnContextInvalid, own_context
from daemon.learning.world_model.training_state import Progress
from daemon.learning.world_model.windows import Pool, WindowSource

OnUpdate = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One run of updates.

    Attributes:
        batch: windows per update.
        frames: frames per window.
        accumulate: parts that a batch is cut into, one after the other, where memory is short.
        learning_rate: after the warm-up.
        decays: whether the rate falls to nearly zero along a cosine until the last update.
        ema: decay of the moving average that is kept in the end; 0 keeps the last weights.
        action_dropout: share of windows that are not told their actions: what guidance needs.
        lora_rank: 0 trains every weight; more trains adapters of this rank and merges them in the end.
        optimizer: how a step is made of a gradient, see `optimizing.py`.
        forcing: how a window shows what came before each frame, see `objective.py`.
        own_context: share of windows whose context the model imagines itself, see `own_context.py`.
        save_memory: compute activations again on the way back instead of keeping them.

    Raises:
        OwnContextInvalid: no share, or context that diffusion forcing would not show.
    """

    updates: int
    batch: int = 32
    frames: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-3
    decays: bool = True
    ema: float = 0.995
    action_dropout: float = 0.0
    lora_rank: int = 0
    optimizer: OptimizerName = "adamw"
    forcing: ForcingWay = "teacher"
    own_context: float = 0.0
    save_memory: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.own_context <= 1 or (self.own_context and self.forcing != "teacher"):
            raise OwnContextInvalid(share=self.own_context, forcing=self.forcing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training did: how many updates, and the episodes that were too short for a window."""

    updates: int
    left_out: tuple[str, ...]


def train_transformer(
    world_model: WorldModel,
    pools: Sequence[Pool],
    *,
    config: TrainingConfig,
    on_update: OnUpdate,
    resumable: Resumable | None = None,
) -> Trained:
    """Train the transformer of `world_model` in place.

    Args:
        on_update: called after every update with its number and {"loss", "learning_rate"}; what it raises
            stops the training and leaves the weights of that update, not their average.
        resumable: where the state of an interrupted training lies, and when to write it.

    Returns:
        the updates made; fewer than asked for where a pool's samples per insert ran out.

    Raises:
        NoWindow: every clip is too short.
        SharesInvalid: the pools' shares divide nothing.
        NonFiniteLoss: names the episodes; the weights are those before that update.
        CheckpointUnreadable: there is a state, and it is of another training.
    """
    stride = world_model.stride
    source = WindowSource(pools, batch=config.batch, frames=config.frames, seed=config.seed, stride=stride)
    updates = source.updates_allowed(config.updates)
    forcing = _forcing(world_model, source, config)
    module = with_adapters(world_model.transformer, rank=config.lora_rank, seed=config.seed)
    optimizing = Optimizing.of(
        module, rate=config.learning_rate, updates=updates, decays=config.decays, name=config.optimizer
    )
    progress = Progress(module, optimizing, source.generator, ema=config.ema)
    if resumable is not None:
        resumable.restore(progress)
    if config.save_memory:
        world_model.transformer.enable_gradient_checkpointing()
    module.train()
    while progress.updates < updates:
        loss = _descended(world_model, source.draw(), forcing=forcing, config=config, progress=progress)
        progress.count()
        if resumable is not None:
            resumable.save_if_due(progress)
        on_update(progress.updates - 1, {"loss": loss, "learning_rate": optimizing.rate})
    progress.take_average()
    world_model.transformer = without_adapters(module)
    world_model.transformer.disable_gradient_checkpointing()
    world_model.transformer.eval()
    return Trained(updates=progress.updates, left_out=source.left_out)


def _forcing(world_model: WorldModel, source: WindowSource, config: TrainingConfig) -> Forcing:
    schedule = world_model.schedule
    return Forcing(
        way=config.forcing,
        schedule=schedule,
        walk=tuple(schedule.walk(world_model.sampling.denoise_steps)),
        weights=place_weights(source.clips.movement()).to(world_model.device),
        action_dropout=config.action_dropout,
    )


def _descended(
    world_model: WorldModel,
    windows: LatentWindows,
    *,
    forcing: Forcing,
    config: TrainingConfig,
    progress: Progress,
) -> float:
    """One optimizer step on these windows; their mean loss."""

    def losses() -> Iterator[Tensor]:
        for part in windows.parts(config.accumulate):
            seen = part.to(world_model.device)
            # before the loss's autocast begins, so that no weight cast without a gradient is kept for it
            own = own_context(world_model, seen, share=config.own_context, generator=progress.generator)
            with autocast(world_model.device, world_model.precision):  # ends before any optimizer step
                loss = forcing_loss(
                    world_model.transformer, seen, forcing=forcing, generator=progress.generator, own=own
                )
            yield len(part) / len(windows) * loss

    loss = stepped(losses(), progress.module, progress.optimizing)
    if loss is None:
        inputs = "windows of episodes " + ", ".join(sorted(set(windows.episode_ids)))
        raise NonFiniteLoss(
            phase="world model training", update=progress.updates, quantity="loss or gradient", inputs=inputs
        )
    return loss
