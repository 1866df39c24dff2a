"""The transformer learns from windows, mixes fresh with base, and leaves no half-trained model behind."""

from collections.abc import Callable

import pytest
import torch

from daemon.learning.batch import Clip, NoWindow
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.world_model.latents import LatentClip, LatentClips, encode_clips
from daemon.learning.world_model.model import WorldModel, nano_world_model
from daemon.learning.world_model.training import TrainingConfig, WindowSource, train_transformer


def named(name: str, frames: int = 9) -> LatentClip:
    return LatentClip(
        latents=torch.randn(frames, 4, 8, 8), actions=torch.zeros(frames - 1, 10), episode_id=name
    )


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
    clips = encode_clips(model, [square_clip(0, steps=3)])
    losses: list[float] = []
    train_transformer(
        model,
        clips,
        config=config(updates=120, batch=8, learning_rate=5e-3, ema=0.0),
        on_update=lambda _update, metrics: losses.append(metrics["loss"]),
    )
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_windows_are_mixed_in_the_share_asked_for():
    source = WindowSource(
        LatentClips((named("fresh"),)), LatentClips((named("base"),)), config(batch=8, fresh_share=0.25)
    )
    assert sorted(source.draw().episode_ids) == ["base"] * 6 + ["fresh"] * 2


@pytest.mark.parametrize("only", ["fresh", "base"])
def test_without_the_other_kind_all_windows_come_from_one(only: str):
    clips = {
        kind: LatentClips((named(kind),)) if kind == only else LatentClips() for kind in ("fresh", "base")
    }
    source = WindowSource(clips["fresh"], clips["base"], config())
    assert source.draw().episode_ids == (only,) * 4


@pytest.mark.parametrize(("share", "kinds"), [(0.0, {"base"}), (1.0, {"fresh"})])
def test_a_share_of_none_or_all_draws_from_one_kind_only(share: float, kinds: set[str]):
    source = WindowSource(
        LatentClips((named("fresh"),)), LatentClips((named("base"),)), config(fresh_share=share)
    )
    assert set(source.draw().episode_ids) == kinds


def test_fresh_clips_that_are_all_too_short_leave_the_base_to_teach():
    short, long = LatentClips((named("short", frames=3),)), LatentClips((named("base"),))
    source = WindowSource(short, long, config())
    assert source.left_out == ("short",)
    assert set(source.draw().episode_ids) == {"base"}


def test_clips_too_short_for_a_window_are_reported():
    left_out = train_transformer(
        fresh_model(),
        LatentClips((named("long"), named("short", frames=3))),
        config=config(),
        on_update=lambda *_: None,
    )
    assert left_out == ("short",)


def test_when_nothing_is_long_enough_training_refuses_and_says_so():
    with pytest.raises(NoWindow, match="none of 2 clips holds a window of 20 frames; the longest has 9"):
        train_transformer(
            fresh_model(),
            LatentClips((named("a"),)),
            fresh=LatentClips((named("b"),)),
            config=config(frames=20),
            on_update=lambda *_: None,
        )


def test_the_same_seed_trains_the_same_weights_and_another_seed_others():
    clips = LatentClips((named("a"), named("b")))
    models = [fresh_model() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        train_transformer(model, clips, config=config(seed=seed, ema=0.0), on_update=lambda *_: None)
    one, two, other = (model.transformer.final_layer.linear.weight for model in models)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_the_kept_weights_are_the_moving_average_of_those_trained():
    clips, trained = LatentClips((named("a"),)), []
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
        train_transformer(
            fresh_model(), LatentClips((named("a"),)), config=config(updates=50), on_update=report
        )
    assert seen == [0, 1]


def test_a_diverging_update_names_its_episodes_and_leaves_the_weights_before_it():
    model = fresh_model()
    poisoned = named("poisoned")
    poisoned.latents[:, 0, 0, 0] = float("inf")
    before = {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}
    with pytest.raises(NonFiniteLoss, match=r"update 0.*episodes poisoned") as stopped:
        train_transformer(model, LatentClips((poisoned,)), config=config(), on_update=lambda *_: None)
    assert stopped.value.code == "non_finite_loss"
    assert all(torch.equal(t, before[name]) for name, t in model.transformer.state_dict().items())


def test_the_autoencoder_is_not_touched():
    model = fresh_model()
    before = {name: tensor.clone() for name, tensor in model.autoencoder.state_dict().items()}
    train_transformer(model, LatentClips((named("a"),)), config=config(), on_update=lambda *_: None)
    assert all(torch.equal(t, before[name]) for name, t in model.autoencoder.state_dict().items())
