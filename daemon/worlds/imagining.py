"""A what-if itself: one picture, one instruction, one policy, k rollouts in the world model, all judged.

The world model and the judge are the lineage's current ones, the policy is its champion unless another was
asked for; the judge is always the classifier, which costs nothing, and it is asked at every frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from daemon.learning.batch import resize_frames
from daemon.learning.confines import Confines, together
from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.policy.loading import load_policy
from daemon.learning.policy.policy import Policy
from daemon.learning.reward.classifier import JUDGED_FRAMES, ClassifierJudge
from daemon.learning.reward.judge import Verdicts
from daemon.learning.rollout import RolloutPlan, Rollouts, Starts, ToldEnv, rollout
from daemon.learning.world_model.latents import world_actions
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.path import PATH_DIM
from daemon.phases.arms import champion_of
from daemon.phases.checkpoints import current
from daemon.phases.confining import confines_of, told_of
from daemon.phases.film import EVERY, rounded, strip_jpeg
from daemon.statistics import wilson_interval
from daemon.video import encode_video
from daemon.worlds.pictures import pixels_of
from daemon.worlds.turn import WhatIfContext
from storage import checkpoints, episodes, trust_reports
from storage.blobs import BlobStore
from storage.lineages import lineage_of
from storage.tables import CheckpointRow

FRAMES_PER_S: Final = 5.0  # the robot's own speed
ENLARGED: Final = 4  # so that 64 pixels can be looked at
SHARES: Final = {"models": 0.05, "imagined": 0.75, "judged": 0.85}  # of the whole, for the progress bar


def imagine(context: WhatIfContext) -> dict[str, Any]:
    """Imagine and judge; films and strips become blobs that the result names.

    Raises:
        Retired, StorageError: a checkpoint is not there any more, or damaged.
        LearningError: the models do not fit together.
        LeaseLost, WorkerStopped, WhatIfOverdue: stop.
    """
    request = context.request
    context.report(0.0, "loading the models")
    rows = chosen(context)
    policy, world_model, judge = load(context.blobs, rows)
    context.report(SHARES["models"], "imagining")
    picture = resize_frames(
        pixels_of(context.blobs.read(request["start"]["sha256"]))[None], world_model.image_size
    )
    begun = beginning(context)
    starts = Starts(
        images=picture.repeat(request["rollouts"], 1, 1, 1),
        instructions=(request["instruction"],) * request["rollouts"],
        confines=together([begun.confines] * request["rollouts"]),
    )
    imagined = ImaginedEnv(world_model, seed=request["seed"])
    env = MidwayEnv(imagined, context, chunks=chunks_of(policy, request), path=begun.path)
    done = rollouts_of(policy, env, starts=starts, request=request)
    film = env.inner.film().cpu()  # [B, T + 1, 3, H, W]
    context.report(SHARES["imagined"], "judging every frame")
    verdicts = judge.judge(done.final_frames, starts.instructions)
    along = judge.along(film, starts.instructions)
    context.report(SHARES["judged"], "making films")
    return {
        "read": {kind: {"id": row.id, "number": row.number} for kind, row in rows.items()},
        "steps": film.shape[1] - 1,
        "trusted_steps": trusted_steps(context, rows["world_model"]),
        "rate": rate_of(verdicts),
        "rollouts": [
            {
                "success": bool(verdicts.success[at]) if verdicts.known[at] else None,
                "probability": rounded(verdicts.probability[at : at + 1])[0],
                "along": rounded(along[at]),
                "strip": context.blobs.put(strip_jpeg(film[at, ::EVERY])),
                "film": context.blobs.put(film_mp4(film[at])),
            }
            for at in range(len(film))
        ],
    }


def chosen(context: WhatIfContext) -> dict[str, CheckpointRow]:
    """The checkpoints to ask, by kind."""
    preset, wanted = context.settings.preset, context.request["policy"]
    places: tuple[Any, Any] = (context.database, context.blobs)
    lineage = lineage_of(context.request)
    if wanted is None:
        policy = champion_of(*places, lineage=lineage, preset=preset, now=context.now())
    else:
        with context.database.read() as session:
            policy = checkpoints.get(session, wanted)
    others = {
        kind: current(*places, kind, lineage=lineage, preset=preset, now=context.now())
        for kind in ("world_model", "judge")
    }
    return {"policy": policy, **others}


def load(blobs: BlobStore, rows: dict[str, CheckpointRow]) -> tuple[Policy, WorldModel, ClassifierJudge]:
    """The three models, on this machine's device."""
    device = choose_device()
    precision = choose_precision(device.type)
    files = {kind: checkpoints.path(row, blobs) for kind, row in rows.items()}
    return (
        load_policy(files["policy"], device=device, precision=precision),
        WorldModel.load(files["world_model"], device=device),
        ClassifierJudge.load(files["judge"], device=device, precision=precision),
    )


class MidwayEnv(ToldEnv):
    """An imagined environment that begins where a path has led, and says how far it is after every chunk."""

    def __init__(self, inner: ImaginedEnv, context: WhatIfContext, *, chunks: int, path: Tensor) -> None:
        def told(done: int) -> None:
            span = SHARES["imagined"] - SHARES["models"]
            context.report(SHARES["models"] + span * done / chunks, f"imagining, chunk {done} of {chunks}")

        super().__init__(inner, told)
        self.inner, self._path = inner, path

    def reset(self, images: Tensor, seeds: Sequence[int] | None = None) -> None:
        self.inner.reset(images, seeds, paths=self._path.expand(len(images), -1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Where a what-if begins: the sum of the moves that led there, [6], and what is let through there."""

    path: Tensor
    confines: Confines | None


def beginning(context: WhatIfContext) -> Beginning:
    """That of an episode's frame; a picture is where an episode begins, and of its limits nothing is known.

    Raises:
        StorageError: the episode is gone or damaged.
    """
    request = context.request
    if not request.get("episode"):
        return Beginning(path=torch.zeros(PATH_DIM), confines=None)
    step: int = request.get("step") or 0
    with context.database.read() as session:
        episode = episodes.load(session, context.blobs, request["episode"])
    confines = confines_of(episode)
    moves = told_of(episode, confines)[:step]
    return Beginning(
        path=world_actions(moves)[:, :PATH_DIM].sum(0),
        confines=None if confines is None else confines.after(moves),
    )


def chunks_of(policy: Policy, request: Mapping[str, Any]) -> int:
    """Whole chunks only: as many as fit into the steps, and at least one."""
    steps: int = request["steps"]
    return max(1, steps // policy.chunk)


def rollouts_of(policy: Policy, env: MidwayEnv, *, starts: Starts, request: Mapping[str, Any]) -> Rollouts:
    plan = RolloutPlan(
        chunks=chunks_of(policy, request), temperature=request["temperature"], final_frames=JUDGED_FRAMES
    )
    generator = torch.Generator().manual_seed(request["seed"])
    with torch.no_grad():
        return rollout(policy, env, starts, plan=plan, generator=generator)


def rate_of(verdicts: Verdicts) -> dict[str, Any]:
    """Successes of those that were judged, with the Wilson 95 % interval, and how many were declined."""
    judged = int(verdicts.known.sum())
    successes = int((verdicts.success & verdicts.known).sum())
    interval = wilson_interval(successes, judged)
    return {
        "successes": successes,
        "judged": judged,
        "declined": len(verdicts.known) - judged,
        "wilson_low": interval.low,
        "wilson_high": interval.high,
    }


def trusted_steps(context: WhatIfContext, world_model: CheckpointRow) -> int | None:
    """How many steps of a rollout are believed; None where nobody has measured it."""
    with context.database.read() as session:
        reports = trust_reports.of_checkpoint(session, world_model.id)
    return reports[0].horizon if reports else None


def film_mp4(frames: Tensor) -> bytes:
    """Frames uint8 [F, 3, H, W] as a film, enlarged without smoothing."""
    pixels = frames.permute(0, 2, 3, 1).numpy()  # [F, H, W, 3]
    large = np.repeat(np.repeat(pixels, ENLARGED, axis=1), ENLARGED, axis=2)
    return encode_video(large, frames_per_s=FRAMES_PER_S)
