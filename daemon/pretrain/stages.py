"""The learning stages of pretraining, each from clips to one file; a file that is there is not made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from daemon.learning.augment import Augmentation
from daemon.learning.batch import Clip
from daemon.learning.devices import choose_precision
from daemon.learning.drift import replayed
from daemon.learning.grasps import grasps_of
from daemon.learning.policy.policy import new_policy
from daemon.learning.resumable import Resumable, every
from daemon.learning.reward.classifier import JUDGED_FRAMES, ClassifierJudge, new_judge
from daemon.learning.reward.looking import train_to_look
from daemon.learning.reward.training import JudgeConfig, JudgeExamples, examples_of, train_judge
from daemon.learning.sft import SftConfig, train_policy
from daemon.learning.world_model.autoencoder_training import AutoencoderConfig, train_autoencoder
from daemon.learning.world_model.latents import LatentClips, encode_clips
from daemon.learning.world_model.model import (
    Sampling,
    WorldModel,
    nano_world_model,
    with_stride,
    with_told_path,
)
from daemon.learning.world_model.training import TrainingConfig, train_transformer
from daemon.learning.world_model.windows import Pool
from daemon.pretrain import recipe
from daemon.pretrain.clip_files import marks_of
from daemon.pretrain.ghosts import ghosts_of, lost
from daemon.progress_bar import Bars
from robot_bridge.drivers.tasks import task_of

INSTRUCTIONS = tuple(task_of(task).instruction for task in recipe.TASKS)
STATE_EVERY_S = 120.0  # an interrupted training of the world model loses at most so much
ENCODED_AT_ONCE = 128


def supervised_policy(demonstrations: Sequence[Clip], file: Path, *, seed: int, bars: Bars) -> Path:
    """Imitate the demonstrations that succeeded."""
    if not file.is_file():
        policy = new_policy(INSTRUCTIONS, seed=seed)
        policy.precision = choose_precision()
        config = SftConfig(updates=recipe.POLICY_UPDATES, augment=Augmentation(), seed=seed)
        good = [clip for clip in demonstrations if clip.success]
        train_policy(policy, good, config=config, on_update=teller("policy", bars, of=config.updates))
        policy.save(file, {})
    return file


def trained_autoencoder(clips: Sequence[Clip], file: Path, *, seed: int, bars: Bars) -> Path:
    """Learn to compress frames; the transformer in this file is untrained."""
    if not file.is_file():
        world_model = blank_world_model(seed)
        config = AutoencoderConfig(updates=recipe.AUTOENCODER_UPDATES, seed=seed)
        train_autoencoder(
            world_model.autoencoder,
            clips,
            config=config,
            on_update=teller("autoencoder", bars, of=config.updates, first=0),
        )
        world_model.save(file, {})
    return file


def trained_world_model(
    clips: tuple[Sequence[Clip], Sequence[Clip]], autoencoder: Path, file: Path, *, seed: int, bars: Bars
) -> Path:
    """Learn to predict latents of the frozen autoencoder.

    Args:
        clips: of perturbed experts, and of the supervised policy itself, mostly failures.
    """
    if not file.is_file():
        world_model = blank_world_model(seed)
        trained = WorldModel.load(autoencoder).autoencoder
        world_model.autoencoder.load_state_dict(trained.state_dict())
        config = TrainingConfig(
            updates=recipe.WORLD_MODEL_UPDATES,
            batch=recipe.WORLD_MODEL_BATCH,
            frames=recipe.WORLD_MODEL_FRAMES,
            learning_rate=recipe.WORLD_MODEL_LEARNING_RATE,
            optimizer="muon",
            seed=seed,
        )
        _learned(world_model, clips, file, config=config, bars=bars)
    return file


def corrected_world_model(
    clips: tuple[Sequence[Clip], Sequence[Clip]], first: Path, file: Path, *, seed: int, bars: Bars
) -> Path:
    """Go on from the `first` one: a chunk of actions at a time, told where the arm is, and shown its own
    imagination as context.

    Args:
        clips: as for `trained_world_model`.
    """
    if not file.is_file():
        config = TrainingConfig(
            updates=recipe.CORRECTED_UPDATES,
            batch=recipe.CORRECTED_BATCH,
            frames=recipe.CORRECTED_FRAMES,
            learning_rate=recipe.CORRECTED_LEARNING_RATE,
            optimizer="muon",
            own_context=recipe.OWN_CONTEXT,
            seed=seed,
        )
        told = with_told_path(WorldModel.load(first), seed=seed)
        world_model = with_stride(told, recipe.STRIDE, max_frames=recipe.CORRECTED_FRAMES)
        world_model.sampling = Sampling(denoise_steps=recipe.DENOISE_STEPS)
        _learned(world_model, clips, file, config=config, bars=bars)
    return file


def _learned(
    world_model: WorldModel,
    clips: tuple[Sequence[Clip], Sequence[Clip]],
    file: Path,
    *,
    config: TrainingConfig,
    bars: Bars,
) -> None:
    """Train as the config says, from where an interrupted training of this file stopped, and save."""
    pools = pretraining_pools(world_model, *clips)
    state = Resumable(file=file.with_suffix(".state"), binding=repr(config), due=every(STATE_EVERY_S))
    told = teller("world model", bars, of=config.updates, first=0)
    train_transformer(world_model, pools, config=config, on_update=told, resumable=state)
    world_model.save(file, {})
    state.file.unlink(missing_ok=True)


def pretraining_pools(world_model: WorldModel, experts: Sequence[Clip], own: Sequence[Clip]) -> list[Pool]:
    """Whole episodes of both kinds, and the moments at which a hand closes or opens at an eggplant.

    A window of several actions a frame is nearly a whole episode and shows those moments anyway.
    """
    encoded = [encode_clips(world_model, part) for part in (experts, own)]
    if world_model.stride > 1:
        return _both(encoded, own_share=recipe.CORRECTED_OWN_SHARE)
    wanted = {task_of(task).instruction for task in recipe.EGGPLANT_TASKS}
    eggplants = chosen(encoded[0] + encoded[1], [*experts, *own], lambda clip: clip.instruction in wanted)
    moments = grasps_of(*eggplants)
    share = recipe.GRASP_SHARE if len(moments) else 0.0
    grasps = Pool(name="grasps", clips=moments, share=share)
    return [*_both(encoded, own_share=recipe.OWN_SHARE, other_share=share), grasps]


def _both(encoded: Sequence[LatentClips], *, own_share: float, other_share: float = 0.0) -> list[Pool]:
    """Experts' and own episodes, the experts' with what the own and the other ones leave."""
    return [
        Pool(name="experts", clips=encoded[0], share=1 - own_share - other_share),
        Pool(name="own", clips=encoded[1], share=own_share),
    ]


def trained_judge(
    clips: tuple[Sequence[Clip], Sequence[Clip]], world_model: Path, file: Path, *, seed: int, bars: Bars
) -> Path:
    """Learn success from real frames, as they are and as the autoencoder blurs them.

    It learns to judge what is to be seen, not to guess what happened: imagination loses things, and where no
    eggplant is to be seen, or half of one, nobody can tell how it ended. What imagination makes of real
    actions, with the real label, is what an iteration teaches (`daemon.phases.judging`). Where clips mark it,
    it then learns to look: which places of a picture show what its instruction is about.

    Args:
        clips: episodes with their labels, and others whose pictures show no eggplant.
    """
    if not file.is_file():
        judge = new_judge(INSTRUCTIONS, seed=seed)
        judge.precision = choose_precision()
        examples = judge_examples(*clips, WorldModel.load(world_model), seed=seed)
        config = JudgeConfig(updates=recipe.JUDGE_UPDATES, seed=seed)
        train_judge(judge, examples, config=config, on_update=teller("judge", bars, of=config.updates))
        if marked := [thinned(clip) for clip in clips[0] if clip.subject is not None]:
            told = teller("the judge to look", bars, of=recipe.LOOK_UPDATES)
            train_to_look(judge, marked, updates=recipe.LOOK_UPDATES, seed=seed, on_update=told)
        judge.save(file, {})
    return file


def judge_examples(
    clips: Sequence[Clip], emptied: Sequence[Clip], world_model: WorldModel, *, seed: int
) -> JudgeExamples:
    """Labelled frames of `clips`, ghosts of their eggplants, doubtful frames of `emptied`; all also blurred.

    Of episodes whose subject is unknown there is no ghost.
    """
    labelled = examples_of([thinned(clip) for clip in clips])
    wanted = {task_of(task).instruction for task in recipe.EGGPLANT_TASKS}
    generator = torch.Generator().manual_seed(seed)
    made = [
        (clip.instruction, ghosts_of(clip, generator=generator))
        for clip in clips
        if clip.instruction in wanted and clip.subject is not None
    ]
    made += [(clip.instruction, lost(clip)) for clip in emptied]
    frames = torch.cat([labelled.frames, *(own.frames for _, own in made)])
    sentences = (*labelled.instructions, *(sentence for sentence, own in made for _ in own.frames))
    success = torch.cat([labelled.success, *(own.success for _, own in made)])
    doubtful = torch.cat([torch.zeros_like(labelled.success), *(own.doubtful for _, own in made)])
    parts = torch.split(frames, ENCODED_AT_ONCE)
    blurred = [world_model.decode(world_model.encode(part)).cpu() for part in parts]
    return JudgeExamples(
        frames=torch.cat([frames, *blurred]),
        instructions=sentences * 2,
        success=success.repeat(2),
        doubtful=doubtful.repeat(2),
    )


def thinned(clip: Clip) -> Clip:
    """Every second frame with its label, counted from the last one: neighbours are alike."""
    kept = slice(clip.steps % 2, None, 2)
    return replace(
        clip,
        frames=clip.frames[kept],
        actions=clip.actions[: clip.steps // 2],
        asked=None,
        success_by_frame=marks_of(clip)[kept],
        subject=None if clip.subject is None else clip.subject[kept],
    )


def chosen(
    encoded: LatentClips, clips: Sequence[Clip], which: Callable[[Clip], bool]
) -> tuple[LatentClips, list[Clip]]:
    """The encoded episodes and the clips that are wanted, still side by side."""
    pairs = [pair for pair in zip(encoded.clips, clips, strict=True) if which(pair[1])]
    return LatentClips(tuple(latents for latents, _ in pairs)), [clip for _, clip in pairs]


def blank_world_model(seed: int) -> WorldModel:
    world_model = nano_world_model(seed=seed, max_frames=recipe.WORLD_MODEL_FRAMES)
    world_model.sampling = Sampling(denoise_steps=recipe.DENOISE_STEPS)
    return world_model


def imagined_clips(
    world_model: WorldModel, clips: Sequence[Clip], *, seed: int, bars: Bars
) -> list[torch.Tensor]:
    """Each clip imagined from its real first frame with its real actions: frames uint8 [T+1, 3, H, W].

    All clips are of one length.
    """
    films: list[torch.Tensor] = []
    for replay in replayed(world_model, clips, seed=seed):
        films += [world_model.decode(latents).cpu() for latents in replay.latents]
        bars.count("imagine", len(films), len(clips), unit="episodes")
    return films


def agreement_at_the_end(
    judge: ClassifierJudge, films: Sequence[torch.Tensor], clips: Sequence[Clip]
) -> dict[str, dict[str, float]]:
    """Per instruction: share of verdicts on the last frames that equal the label, and share known."""
    found: dict[str, dict[str, float]] = {}
    for sentence in INSTRUCTIONS:
        rows = [row for row, clip in enumerate(clips) if clip.instruction == sentence]
        ends = torch.stack([films[row][-JUDGED_FRAMES:] for row in rows])
        verdicts = judge.judge(ends, [sentence] * len(rows))
        labels = torch.tensor([bool(clips[row].success) for row in rows])
        known = verdicts.known.cpu()
        right = (verdicts.success.cpu() == labels)[known]
        found[sentence] = {
            "episodes": float(len(rows)),
            "known": float(known.float().mean()),
            "agreement": float(right.float().mean()) if len(right) else float("nan"),
            "judged_success": float(verdicts.success.float().mean()),
            "real_success": float(labels.float().mean()),
        }
    return found


def teller(stage: str, bars: Bars, *, of: int, first: int = 1) -> Callable[[int, Mapping[str, float]], None]:
    """Tells of a training whose updates are numbered from `first`."""

    def on_update(update: int, metrics: Mapping[str, float]) -> None:
        done = update + 1 - first
        bars.count(f"train {stage}", done, of, unit="updates", text=f"loss {metrics['loss']:.4f}")

    return on_update
