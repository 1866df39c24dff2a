"""The transformer learns from windows, mixes fresh with base, and leaves no half-trained model behind."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from daemon.learning.batch import Clip, NoWindow
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.resumable import Resumable
from daemon.learning.state import CheckpointUnreadable
from daemon.learning.world_model.latents import LatentClip, LatentClips, encode_clips
from daemon.learning.world_model.model import WorldModel, nano_world_model
from daemon.learning.world_model.training import TrainingConfig, train_transformer
from daemon.learning.world_model.windows import Pool


def named(name: str, frames: int = 9) -> LatentClip:
    return LatentClip(
        latents=torch.randn(frames, 4, 8, 8), actions=torch.zeros(frames - 1, 10), episode_id=name
    )


def pools(*clips: LatentClip) -> list[Pool]:
    return [Pool(name="all", clips=LatentClips(clips))]


def config(**changes: object) -> TrainingConfig:
    return TrainingConfig(**{"updates": 2, "batch": 4, "frames": 4, **changes})  # type: ignore[arg-type]


def fresh_model() -> WorldModel:
    model = nano_world_model(seed=0, in_channels=4, dim=32, layers=1, heads=2, max_frames=4)
    model.precision = torch.float32
    return model


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_tiny_world_model_overfits_a_few_windows(square_clip: Callable[..., Clip], precision: torch.dtype):
    """In low precision too: optimizer steps inside autocast would train on stale casts and learn nothing."""
    model = fresh_model()
    model.precision = precision
    clips = [Pool(name="squares", clips=encode_clips(model, [square_clip(0, steps=3)]))]
    losses: list[float] = []
    train_transformer(
        model,
        clips,
        config=config(updates=120, batch=8, learning_rate=5e-3, ema=0.0),
        on_update=lambda _update, metrics: losses.append(metrics["loss"]),
    )
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_clips_too_short_for_a_window_are_reported():
    done = train_transformer(
        fresh_model(),
        pools(named("long"), named("short", frames=3)),
        config=config(),
        on_update=lambda *_: None,
    )
    assert (done.updates, done.left_out) == (2, ("short",))


def test_when_nothing_is_long_enough_training_refuses_and_says_so():
    with pytest.raises(NoWindow, match="none of 2 clips holds a window of 20 frames; the longest has 9"):
        train_transformer(
            fresh_model(),
            pools(named("a"), named("b")),
            config=config(frames=20),
            on_update=lambda *_: None,
        )


def test_the_same_seed_trains_the_same_weights_and_another_seed_others():
    clips = pools(named("a"), named("b"))
    models = [fresh_model() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        train_transformer(model, clips, config=config(seed=seed, ema=0.0), on_update=lambda *_: None)
    one, two, other = (model.transformer.final_layer.linear.weight for model in models)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_the_kept_weights_are_the_moving_average_of_those_trained():
    clips, trained = pools(named("a")), []
    model = fresh_model()
    weight = model.transformer.final_layer.linear.weight.detach()
    start = weight.clone()
    train_transformer(
        model,
        clips,
        config=config(updates=6, ema=0.5),
        on_update=lambda *_: trained.append(weight.clone()),
    )
    distances = [float((weight - t).norm()) for t in (start, trained[-1])]
    assert min(distances) > 0, "neither the first nor the last"
    assert float((weight - start).norm()) < float((trained[-1] - start).norm())


def test_a_callback_that_raises_stops_training_at_once():
    seen: list[int] = []

    class LeaseGone(Exception):
        pass

    def report(update: int, _metrics: dict[str, float]) -> None:
        seen.append(update)
        if update == 1:
            raise LeaseGone

    with pytest.raises(LeaseGone):
        train_transformer(fresh_model(), pools(named("a")), config=config(updates=50), on_update=report)
    assert seen == [0, 1]


def test_a_diverging_update_names_its_episodes_and_leaves_the_weights_before_it():
    model = fresh_model()
    poisoned = named("poisoned")
    poisoned.latents[:, 0, 0, 0] = float("inf")
    before = {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}
    with pytest.raises(NonFiniteLoss, match=r"update 0.*episodes poisoned") as stopped:
        train_transformer(model, pools(poisoned), config=config(), on_update=lambda *_: None)
    assert stopped.value.code == "non_finite_loss"
    assert all(torch.equal(t, before[name]) for name, t in model.transformer.state_dict().items())


def test_the_autoencoder_is_not_touched():
    model = fresh_model()
    before = {name: tensor.clone() for name, tensor in model.autoencoder.state_dict().items()}
    train_transformer(model, pools(named("a")), config=config(), on_update=lambda *_: None)
    assert all(torch.equal(t, before[name]) for name, t in model.autoencoder.state_dict().items())


class Killed(Exception):
    pass


def losses_of(
    model: WorldModel,
    *,
    to: TrainingConfig,
    resumable: Resumable | None = None,
    killed_after: int | None = None,
) -> list[float]:
    """Losses of a training on two clips; it dies right after an update when told to."""
    torch.manual_seed(3)
    clips, losses = pools(named("a"), named("b")), []
    torch.seed()  # the training goes by its own seed alone

    def on_update(update: int, metrics: dict[str, float]) -> None:
        losses.append(metrics["loss"])
        if update == killed_after:
            raise Killed

    with contextlib.suppress(Killed):
        train_transformer(model, clips, config=to, on_update=on_update, resumable=resumable)
    return losses


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulate": 2, "action_dropout": 0.5},
        {"lora_rank": 2},
        {"optimizer": "muon"},
        {"own_context": 0.6},
        {"own_context": 0.6, "accumulate": 2, "lora_rank": 2},
    ],
)
@pytest.mark.parametrize("killed_after", [0, 3])
def test_a_killed_training_goes_on_with_the_losses_it_would_have_had(
    tmp_path: Path, killed_after: int, changes: dict[str, object]
):
    asked = config(updates=6, ema=0.5, **changes)
    whole, parts = fresh_model(), fresh_model()
    expected = losses_of(whole, to=asked)
    state = Resumable(file=tmp_path / "state", binding="this", due=lambda: True)
    first = losses_of(parts, to=asked, resumable=state, killed_after=killed_after)
    again = fresh_model()
    rest = losses_of(again, to=asked, resumable=state)
    assert first + rest == expected
    for name, tensor in whole.transformer.state_dict().items():
        assert torch.equal(again.transformer.state_dict()[name], tensor), name


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_own_context_leaves_no_weight_without_a_gradient(
    told_world_model: WorldModel, precision: torch.dtype
):
    """Imagining takes none; the loss after it does, in low precision too."""
    told_world_model.precision = precision
    taught: set[str] = set()

    def watch(name: str) -> Callable[[torch.Tensor], None]:
        return lambda gradient: taught.add(name) if bool(gradient.any()) else None

    for name, weight in told_world_model.transformer.named_parameters():
        weight.register_hook(watch(name))
    clips = pools(replace(named("a"), actions=torch.randn(8, 10)))
    asked = config(updates=1, own_context=1.0)
    train_transformer(told_world_model, clips, config=asked, on_update=lambda *_: None)
    assert taught == set(told_world_model.transformer.state_dict())


def test_own_context_makes_other_losses_and_none_of_it_the_usual_ones():
    usual, none, some = (losses_of(fresh_model(), to=config(own_context=s)) for s in (0.0, 0.0, 1.0))
    assert usual == none
    assert some != usual


def test_the_state_of_another_training_is_refused_and_so_is_half_of_one(tmp_path: Path):
    state = Resumable(file=tmp_path / "state", binding="this", due=lambda: True)
    losses_of(fresh_model(), to=config(), resumable=state)
    with pytest.raises(CheckpointUnreadable, match="expected the training other, found that of this"):
        losses_of(fresh_model(), to=config(), resumable=replace(state, binding="other"))
    state.file.write_bytes(state.file.read_bytes()[:-100])
    with pytest.raises(CheckpointUnreadable, match="whole safetensors file"):
        losses_of(fresh_model(), to=config(), resumable=state)


def test_a_batch_in_parts_has_the_loss_of_a_whole_one():
    """Other noise, the same size: parts are averaged, not added."""
    whole, parts = (losses_of(fresh_model(), to=config(updates=1, batch=8, accumulate=n)) for n in (1, 4))
    assert parts[0] == pytest.approx(whole[0], rel=0.25)


def test_saving_memory_changes_no_loss():
    plain = losses_of(fresh_model(), to=config(updates=3))
    assert losses_of(fresh_model(), to=config(updates=3, save_memory=True)) == pytest.approx(plain, rel=1e-5)


def test_adapters_train_few_weights_and_leave_none_behind(tiny_world_model: WorldModel):
    model = tiny_world_model
    before = {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}
    losses_of(model, to=config(updates=4, lora_rank=2, learning_rate=1e-2))
    after = model.transformer.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert any("qkv_proj" in name for name in changed), (
        "queries, keys and values do not bypass their adapters"
    )
    assert all(name.endswith("weight") for name in changed)
    assert not any("x_proj" in name or "final_layer.linear" in name for name in changed)
    assert all(weight.requires_grad for weight in model.transformer.parameters())


def test_a_pool_that_would_be_drawn_too_often_ends_the_training_early():
    clip = named("a", frames=8)
    pool = Pool(name="fresh", clips=LatentClips((clip,)), samples_per_insert=6)
    done = train_transformer(
        fresh_model(), [pool], config=config(updates=50, batch=4), on_update=lambda *_: None
    )
    assert done.updates == 6 * 8 // (4 * 4)
