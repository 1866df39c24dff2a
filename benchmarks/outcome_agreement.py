"""Do episodes end in imagination as they end in the cell? Before and after one iteration's finetuning.

    python -m benchmarks.outcome_agreement --cell-seed 7 --held-out 40

The base policy acts greedily in one simulated cell that no checkpoint was trained on. `--fresh` episodes of
each task teach the world model and the judge with an iteration's default spec; `--held-out` others of each
task are imagined from their first frame with their real actions, and the judge's verdict on the imagined end
is compared with the label of the real one at the same step. Printed per task: agreement among those that the
judge does not decline, their number, optimism (imagined minus real success) and real success; then the drift,
of whole pictures and of the pixels that show what the task is about.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from daemon.learning.batch import Clip
from daemon.learning.devices import choose_precision
from daemon.learning.drift import Replay, rehearse
from daemon.learning.finetune import finetune_world_model
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.reward.training import train_judge
from daemon.learning.trust import Trust, measure_trust
from daemon.learning.world_model.latents import LatentClips, encode_clips
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.windows import span_of
from daemon.phases.checkpoints import ASSETS
from daemon.phases.clips import emphasis_seen
from daemon.phases.finetune_world_model import training_config
from daemon.phases.judging import judge_config, last_frames
from daemon.phases.material import Encoded, mixture, window_of
from daemon.pretrain.cell_episodes import EpisodePlan
from daemon.pretrain.clip_files import marks_of
from daemon.pretrain.recipe import TASKS
from daemon.pretrain.recording import Acting, recorded
from daemon.progress_bar import Bars
from daemon.spec import IterationSpec

SHOWN_STEPS = (1, 5, 10, 20, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is compared: a world model, a judge, and episodes to learn from and to measure on."""

    world_model: WorldModel
    judge: ClassifierJudge
    fresh: Sequence[Clip]
    held_out: Sequence[Clip]


def episodes(
    work: Path, *, cell: int, fresh: int, held_out: int, steps: int
) -> tuple[list[Clip], list[Clip]]:
    """Greedy episodes of every task in one cell, cut at `steps`, with the label of that moment."""
    acting = Acting(ASSETS / "nano" / "policy.safetensors", temperature=0.0)
    found = []
    for name, first, count in (("fresh", 100, fresh), ("held-out", 5_000, held_out)):
        plans = [
            EpisodePlan(task_id=task, cell_seed=cell, seed=first + index)
            for task in TASKS
            for index in range(count)
        ]
        clips = recorded(plans, work, name=f"cell-{cell}-{name}-{count}", bars=Bars(), acting=acting)
        found.append([ended_at(clip, steps) for clip in clips])
    return found[0], found[1]


def ended_at(clip: Clip, steps: int) -> Clip:
    """The clip as if its episode had ended there."""
    marks = marks_of(clip)[: steps + 1]
    return replace(
        clip,
        frames=clip.frames[: steps + 1],
        actions=clip.actions[:steps],
        success=bool(marks[-1]),
        success_by_frame=marks,
        subject=None if clip.subject is None else clip.subject[: steps + 1],
    )


def from_a_robot(clips: Sequence[Clip]) -> list[Clip]:
    """As a real robot tells them: nobody marks there what the task is about, the judge has to find it."""
    return [replace(clip, subject=None) for clip in clips]


def finetuned(bench: Bench, spec: IterationSpec) -> Bench:
    """One iteration's finetuning of both, as the phase does it."""
    clips = from_a_robot(bench.fresh)
    frames = window_of(bench.world_model, clips)
    window = span_of(frames, bench.world_model.stride)
    encoded = [
        replace(latents, emphasis=emphasis_seen(bench.judge, clip, grid=latents.latents.shape[-1]))
        for latents, clip in zip(encode_clips(bench.world_model, clips).clips, clips, strict=True)
    ]
    none: Encoded = LatentClips(), ()
    fresh: Encoded = LatentClips(tuple(encoded)), clips
    done = finetune_world_model(
        bench.world_model,
        mixture(fresh, none, none, spec=spec.world_model, window=window),
        config=training_config(spec.world_model, seed=spec.seed, frames=frames),
        on_update=lambda *_: None,
        mixing=spec.world_model.mixing,
    )
    print(f"world model: {done.updates} updates on {len(bench.fresh)} episodes")
    if not spec.judge.updates:
        return replace(bench, world_model=done.world_model)
    train_judge(
        bench.judge,
        last_frames(done.world_model, bench.judge, bench.fresh, seed=spec.seed),
        config=judge_config(spec.judge, seed=spec.seed),
        on_update=lambda *_: None,
    )
    return replace(bench, world_model=done.world_model)


def told(name: str, bench: Bench, *, steps: int) -> Trust:
    """Measure and print."""
    rehearsal = rehearse(bench.world_model, bench.held_out, steps=steps, seed=0)
    threshold = IterationSpec().trust.max_latent_error
    trust = measure_trust(bench.world_model, bench.judge, rehearsal, threshold=threshold, seed=0)
    print(f"{name}: {steps} steps, trusted for {trust.horizon}, sensitivity {trust.sensitivity:.2f}")
    for instruction, own in trust.outcomes.items():
        real = sum(bool(clip.success) for clip in bench.held_out if clip.instruction == instruction)
        agreed, optimism = own.agreement or 0.0, own.optimism or 0.0
        print(
            f"  {instruction:40} agreement {agreed:.2f} of {own.known:3} ({own.declined} declined), "
            f"optimism {optimism:+.2f}, real {real}/{own.known + own.declined}, "
            f"false hopes {own.false_hopes}, missed {own.missed}"
        )
    for measure in ("latents", "psnr", "ssim"):
        curve = getattr(trust.drift, measure)
        print(
            f"  {measure:8}"
            + "".join(f"  {step}: {curve[step]:.4f}" for step in SHOWN_STEPS if step in curve)
        )
    for instruction in trust.outcomes:
        errors = subject_errors(bench.world_model, rehearsal.replays, instruction)
        print(
            f"  subject of '{instruction}' "
            + "".join(f"  {step}: {errors[step]:.4f}" for step in SHOWN_STEPS if step in trust.drift.latents)
        )
    return trust


def subject_errors(world_model: WorldModel, replays: Sequence[Replay], instruction: str) -> Sequence[float]:
    """Squared error of the pixels that show what a task is about, by step from 0, over its episodes."""
    squared, subjects = [], []
    for replay in replays:
        for clip, latents in zip(replay.clips, replay.latents, strict=True):
            if clip.instruction == instruction and clip.subject is not None:
                imagined = world_model.decode(latents[: len(clip.frames)]).cpu().float()
                squared.append(((imagined - clip.frames.float()) / 255).square().mean(1))  # [T+1, H, W]
                subjects.append(clip.subject)
    shown = torch.stack(subjects)  # [X, T+1, H, W]: all episodes end at one step
    total = (torch.stack(squared) * shown).sum((0, 2, 3))
    return (total / shown.sum((0, 2, 3)).clamp(min=1)).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell-seed", type=int, default=7)
    parser.add_argument("--fresh", type=int, default=9, help="episodes of each task to learn from")
    parser.add_argument("--held-out", type=int, default=40, help="episodes of each task to measure on")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--updates", type=int, default=IterationSpec().world_model.updates)
    parser.add_argument("--mixing", type=float, default=IterationSpec().world_model.mixing)
    parser.add_argument("--work", type=Path, help="keeps the recorded episodes for another run")
    parser.add_argument("--keep", type=Path, help="the file that gets the finetuned world model")
    parser.add_argument("--world-model", type=Path, default=ASSETS / "nano" / "world_model.safetensors")
    parser.add_argument("--judge", type=Path, default=ASSETS / "nano" / "judge.safetensors")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work or Path(tempfile.mkdtemp(prefix="gymnastd-"))
    work.mkdir(parents=True, exist_ok=True)
    fresh, held_out = episodes(
        work,
        cell=arguments.cell_seed,
        fresh=arguments.fresh,
        held_out=arguments.held_out,
        steps=arguments.steps,
    )
    bench = Bench(
        world_model=WorldModel.load(arguments.world_model),
        judge=ClassifierJudge.load(arguments.judge, precision=choose_precision()),
        fresh=fresh,
        held_out=held_out,
    )
    told("before finetuning", bench, steps=arguments.steps)
    asked = {"updates": arguments.updates, "mixing": arguments.mixing}
    learned = finetuned(bench, IterationSpec.model_validate({"world_model": asked}))
    told("after finetuning", learned, steps=arguments.steps)
    if arguments.keep:
        learned.world_model.save(arguments.keep, {})


if __name__ == "__main__":
    main()
