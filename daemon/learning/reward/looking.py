"""Teaching a judge where to look: which places of a picture show what the instruction is about.

Pretraining knows it, because a simulated cell can show its pictures without the eggplant or with the drawer
elsewhere. On a real robot nobody marks it, and a world model that is finetuned there without marks lowers the
error of whole pictures and loses the small things that decide; so the judge, who has to find them anyway,
marks them there (`daemon/phases/clips.py`). Only the head that tells is taught: verdicts stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from daemon.learning.batch import Clip
from daemon.learning.descent import Descent, descend
from daemon.learning.errors import LearningError
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.reward.success_classifier import STRIDE, looking_head

BATCH = 96  # pictures per update
LEARNING_RATE = 4e-3


class NothingMarked(LearningError):
    """No clip says what its task is about."""

    code = "nothing_marked"

    def __init__(self, *, clips: int) -> None:
        super().__init__(f"none of {clips} clips marks its subject. Record some with `subject`.")


def train_to_look(
    judge: ClassifierJudge,
    clips: Sequence[Clip],
    *,
    updates: int,
    seed: int,
    on_update: Callable[[int, dict[str, float]], None],
    batch: int = BATCH,
) -> None:
    """Give the judge a head that finds subjects, and teach it on every frame of the clips that mark theirs.

    Raises:
        NothingMarked: none does.
        ClipInvalid: a clip breaks its contract.
        NonFiniteLoss: loss or gradient is NaN or infinite.
    """
    marked = [clip for clip in clips if clip.subject is not None]
    if not marked:
        raise NothingMarked(clips=len(clips))
    frames = torch.cat([clip.frames for clip in marked])
    side = judge.image_size // STRIDE
    shares = torch.cat([shares_of(clip, side) for clip in marked])  # [M, side, side]
    instructions = [clip.instruction for clip in marked for _ in clip.frames]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = looking_head(judge.model.config.width).to(judge.device)
    judge.model.look, judge.model.config.looks = head, True

    def loss_of_batch() -> tuple[Tensor, dict[str, Tensor]]:
        chosen = torch.randint(len(frames), (batch,), generator=generator)
        logits = judge.share_logits(frames[chosen], [instructions[place] for place in chosen.tolist()])
        return F.binary_cross_entropy_with_logits(logits, shares[chosen].to(judge.device)), {}

    judge.model.eval()
    plan = Descent(phase="looking", updates=updates, lr=LEARNING_RATE)
    descend(head, loss_of_batch, plan=plan, on_update=on_update)


def shares_of(clip: Clip, side: int) -> Tensor:
    """Share of each place that shows the clip's subject, float32 [T + 1, side, side].

    Raises:
        ClipInvalid: the clip breaks its contract.
        NothingMarked: it marks none.
    """
    clip.validate()
    if clip.subject is None:
        raise NothingMarked(clips=1)
    return F.adaptive_avg_pool2d(clip.subject.float(), side)
