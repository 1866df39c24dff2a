"""Teaching the judge what the ends of episodes look like, on camera and in imagination.

It sees the last frames of real episodes and of the same episodes imagined by the world model that the next
update will act in, both with the real label, but for imagined ones at which it declines: a judge that knows
only the camera is easily fooled by a blurred picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from daemon.learning.batch import Clip, fitted
from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.reward.classifier import JUDGED_FRAMES, ClassifierJudge
from daemon.learning.reward.training import JudgeConfig, JudgeExamples, train_judge
from daemon.learning.trust import imagined_ends
from daemon.learning.world_model.model import WorldModel
from daemon.phases.context import PhaseContext
from daemon.spec import JudgeSpec
from storage import checkpoints
from storage.tables import CheckpointRow


def load_judge(context: PhaseContext, row: CheckpointRow) -> ClassifierJudge:
    device = choose_device()
    file = checkpoints.path(row, context.blobs)
    return ClassifierJudge.load(file, device=device, precision=choose_precision(device.type))


def teach_judge(
    context: PhaseContext,
    judge: ClassifierJudge,
    *,
    world_model: WorldModel,
    clips: Sequence[Clip],
    share: tuple[float, float],
) -> None:
    """Finetune the judge in place on labelled clips.

    Args:
        share: of the phase that is done when this starts and when it ends, for the progress bar.
    """
    spec, (begun, ended) = context.spec.judge, share
    if not clips or not spec.updates:
        return

    def on_update(update: int, metrics: Mapping[str, float]) -> None:
        context.record({"update": update, **{f"judge_{name}": value for name, value in metrics.items()}})
        done = begun + (ended - begun) * update / spec.updates
        context.report(done, f"judge, update {update} of {spec.updates}")

    context.report(begun, f"imagining {len(clips)} labelled episodes for the judge")
    examples = last_frames(world_model, judge, clips, seed=context.spec.seed)
    train_judge(judge, examples, config=judge_config(spec, seed=context.spec.seed), on_update=on_update)


def judge_config(spec: JudgeSpec, *, seed: int) -> JudgeConfig:
    """How the spec wants the judge to be taught."""
    return JudgeConfig(updates=spec.updates, lr=spec.learning_rate, mixing=spec.mixing, seed=seed)


def end_of(frames: Tensor, count: int) -> Tensor:
    """The last frames [count, 3, H, W] of an episode; the first repeats where it has fewer."""
    places = (torch.arange(count) + len(frames) - count).clamp(min=0)
    return frames[places]


def last_frames(
    world_model: WorldModel, judge: ClassifierJudge, clips: Sequence[Clip], *, seed: int
) -> JudgeExamples:
    """The frames that a judge sees at the end of an episode, real and imagined, with the real label.

    An imagined end at which the judge declines stays doubtful: imagination lost what the label is about, and
    a judge that is taught a label for it learns to guess.
    """
    imagined = torch.stack(imagined_ends(world_model, clips, frames=JUDGED_FRAMES, seed=seed))
    real = torch.stack([end_of(clip.frames, JUDGED_FRAMES) for clip in clips])  # [X, F, 3, H, W]
    sentences = [clip.instruction for clip in clips]
    lost = ~judge.judge(imagined, sentences).known.cpu()  # [X]
    both = fitted(torch.cat([real, imagined]).flatten(0, 1), judge.image_size)  # [2X · F, 3, H, W]
    labels = torch.tensor([bool(clip.success) for clip in clips]).repeat(2)
    return JudgeExamples(
        frames=both,
        instructions=tuple(sentence for sentence in sentences * 2 for _ in range(JUDGED_FRAMES)),
        success=labels.repeat_interleave(JUDGED_FRAMES),
        doubtful=torch.cat([torch.zeros_like(lost), lost]).repeat_interleave(JUDGED_FRAMES),
    )
