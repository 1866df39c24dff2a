"""`gymnastd pretrain --preset nano`: from nothing to three base checkpoints and the card that says how good.

Reads top to bottom: record experts, imitate a few of them, record what that policy does, learn to compress
and to imagine all of it, teach the judge real and blurred pictures, and measure everything on unseen cells.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from daemon.learning.batch import Clip
from daemon.learning.drift import measure_drift
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.world_model.model import WorldModel
from daemon.pretrain import recipe, stages
from daemon.pretrain.cell_episodes import success_rates
from daemon.pretrain.recording import Acting, recorded
from daemon.progress_bar import Bars
from daemon.statistics import wilson_interval

KINDS = ("world_model", "policy", "judge")
MEASURED_HORIZONS = (5, 10, 20, 40)
EPISODES_PER_CELL = 5  # of each task in each of the measuring cells


def pretrain(*, out: Path, seed: int, bars: Bars) -> None:
    """Make `world_model`, `policy` and `judge` checkpoints and `card.json` in `out`.

    Intermediate files lie in `out/work`; a run that was interrupted goes on from them.
    """
    begun = time.monotonic()
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    experts = recorded(recipe.world_model_plans(), work, name="base", bars=bars)
    bars.say(f"experts: {told(experts)}")
    demonstrations = recorded(recipe.demonstration_plans(), work, name="demonstrations", bars=bars)
    policy = stages.supervised_policy(demonstrations, work / "policy.safetensors", seed=seed, bars=bars)
    own = own_episodes(policy, work, bars=bars)
    autoencoder = stages.trained_autoencoder(
        experts + own, work / "autoencoder.safetensors", seed=seed, bars=bars
    )
    first = stages.trained_world_model(
        (experts, own), autoencoder, work / "first_world_model.safetensors", seed=seed, bars=bars
    )
    world_model = stages.corrected_world_model(
        (experts, own), first, work / "world_model.safetensors", seed=seed, bars=bars
    )
    acting = Acting(policy, temperature=0.5)
    emptied = recorded(recipe.emptied_plans(), work, name="emptied", bars=bars, acting=acting)
    judge = stages.trained_judge(
        (experts + own, emptied), world_model, work / "judge.safetensors", seed=seed, bars=bars
    )
    for kind in KINDS:
        shutil.copyfile(work / f"{kind}.safetensors", out / f"{kind}.safetensors")
    card = {
        "command": f"gymnastd pretrain --preset nano --seed {seed}",
        "preset": "nano",
        "seed": seed,
        "data": data_card(experts, demonstrations, own),
        "metrics": measured(work, {"policy": policy, "world_model": world_model, "judge": judge}, bars=bars),
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    bars.say(f"wrote {out} in {(time.monotonic() - begun) / 60:.0f} minutes")


def own_episodes(policy: Path, work: Path, *, bars: Bars) -> list[Clip]:
    """What the supervised policy does in cells of its own, at every temperature of the recipe."""
    own: list[Clip] = []
    wanted = [(f"on-policy-{t:g}", t, recipe.on_policy_plans(t)) for t in recipe.ON_POLICY_CELLS]
    wanted += [(f"eggplant-{t:g}", t, recipe.eggplant_plans(t)) for t in recipe.EGGPLANT_CELLS]
    for name, temperature, plans in wanted:
        acting = Acting(policy, temperature=temperature)
        clips = recorded(plans, work, name=name, bars=bars, acting=acting)
        bars.say(f"supervised policy, training cells, {name}: {told(clips)}")
        own += clips
    return own


def data_card(
    experts: Sequence[Clip], demonstrations: Sequence[Clip], own: Sequence[Clip]
) -> dict[str, object]:
    """What was learned from: counts, success, and one digest over all frames and actions."""
    digest = hashlib.sha256()
    for clip in (*experts, *demonstrations, *own):
        digest.update(clip.frames.numpy().tobytes())
        digest.update(clip.actions.numpy().tobytes())
    return {
        "sha256": digest.hexdigest(),
        "perturbed_expert_episodes": rates(experts),
        "demonstrations": rates(demonstrations),
        "on_policy_episodes": rates(own),
    }


def measured(work: Path, files: Mapping[str, Path], *, bars: Bars) -> dict[str, object]:
    """Everything measured on cells that nothing was trained on, with the greedy policy's own episodes."""
    plans = recipe.measuring_plans(episodes_per_cell=EPISODES_PER_CELL)
    acting = Acting(files["policy"], temperature=0.0)
    clips = recorded(plans, work, name="measuring", bars=bars, acting=acting)
    bars.say(f"supervised policy, unseen cells, greedy: {told(clips)}")
    model = WorldModel.load(files["world_model"])
    error = measure_drift(model, clips, horizons=MEASURED_HORIZONS, seed=0)
    films = stages.imagined_clips(model, clips, seed=0, bars=bars)
    verdicts = ClassifierJudge.load(files["judge"])
    found = {
        "real_success_greedy_unseen_cells": rates(clips),
        "world_model_squared_error_unseen_cells": {
            "imagined": error.pixels,
            "repeating_frame_0": error.still,
        },
        "judge_on_real_ends": stages.agreement_at_the_end(verdicts, [c.frames for c in clips], clips),
        "judge_on_imagined_ends": stages.agreement_at_the_end(verdicts, films, clips),
    }
    bars.say(json.dumps(found, indent=2))
    return found


def rates(clips: Sequence[Clip]) -> dict[str, dict[str, float | int]]:
    """Success per instruction as k of n with Wilson's 95 % interval."""
    found: dict[str, dict[str, float | int]] = {}
    for sentence, (successes, episodes) in success_rates(clips).items():
        interval = wilson_interval(successes, episodes)
        found[sentence] = {
            "successes": successes,
            "episodes": episodes,
            "wilson_low": round(interval.low, 4),
            "wilson_high": round(interval.high, 4),
        }
    return found


def told(clips: Sequence[Clip]) -> str:
    return ", ".join(f"{sentence} {k}/{n}" for sentence, (k, n) in success_rates(clips).items())
