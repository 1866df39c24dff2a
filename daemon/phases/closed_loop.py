"""The same policy from the same starts, in imagination and on the robot: does it succeed as often?

An episode's real actions tell a world model how it went: whoever sees that a grasp has failed moves
differently afterwards. A policy that acts by imagined pictures tells nothing of the kind, and it is what an
update lives on, so this is measured beside the replay of real actions. Small differences decide how a single
episode ends, and it may well end otherwise; how often a task succeeds should not differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from daemon.learning.batch import Clip
from daemon.learning.confines import together
from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.policy.loading import load_policy
from daemon.learning.policy.policy import Policy
from daemon.learning.reward.judge import Judge
from daemon.learning.rollout import Env, RolloutPlan, Starts, ToldEnv, rollout
from daemon.learning.trust import Outcomes, counted
from daemon.learning.world_model.model import WorldModel
from daemon.phases.arms import champion
from daemon.phases.context import PhaseContext
from daemon.phases.material import Material
from daemon.spec import IterationSpec
from storage import checkpoints
from storage.tables import CheckpointRow

MEASURING = 0.95  # share of a finetuning phase that is over by then: for the bar alone
MOST_STARTS = 24  # of a task, held-out ones first, then the newest; not more at once than an update imagines


def acting(context: PhaseContext, material: Material) -> CheckpointRow | None:
    """The policy that an update would go on from, if it acted in this iteration."""
    if not any(row.checkpoint_id for row in material.fresh.rows):
        return None
    row = champion(context)
    return row if acted_by(row, material) else None


def acted_again(
    context: PhaseContext, world_model: WorldModel, *, policy: CheckpointRow, judge: Judge, material: Material
) -> dict[str, Outcomes]:
    """Let the policy act in imagination from where it acted on the robot, as boldly and as long; by task.

    Empty where an episode is shorter than what the policy decides at once, or the world model imagines no
    picture after it.

    Raises:
        StorageError, CheckpointUnreadable: the policy is damaged.
    """
    device, spec = choose_device(), context.spec
    file = checkpoints.path(policy, context.blobs)
    acts = load_policy(file, device=device, precision=choose_precision(device.type))
    inner = ImaginedEnv(world_model, seed=spec.seed, engine=context.settings.imagination_engine)
    env = ToldEnv(inner, lambda done: context.report(MEASURING, f"the policy acts again, chunk {done}"))
    most = min(MOST_STARTS, spec.policy.groups * spec.policy.group_size)
    if spec.steps < acts.chunk or acts.chunk % world_model.stride:
        return {}
    found = acted_by(policy, material)
    return {task: imagined(acts, env, judge, clips=own[-most:], spec=spec) for task, own in found.items()}


def acted_by(policy: CheckpointRow, material: Material) -> dict[str, list[Clip]]:
    """Labelled episodes of this iteration in which the policy acted, of each task."""
    found: dict[str, list[Clip]] = {}
    for part in (material.fresh, material.held_out):
        for row, clip in zip(part.rows, part.clips, strict=True):
            if row.checkpoint_id == policy.id and clip.success is not None:
                found.setdefault(row.task_id, []).append(clip)
    return dict(sorted(found.items()))


def imagined(
    policy: Policy, env: Env, judge: Judge, *, clips: Sequence[Clip], spec: IterationSpec
) -> Outcomes:
    """What the judge says of the ends imagined from these episodes' first pictures, beside their labels."""
    plan = RolloutPlan(
        chunks=spec.steps // policy.chunk,
        temperature=spec.collect.temperature,
        final_frames=judge.frames,
        stop=judge if spec.stop_on_success else None,
    )
    starts = Starts(
        images=torch.stack([clip.frames[0] for clip in clips]),
        instructions=tuple(clip.instruction for clip in clips),
        confines=together([clip.confines for clip in clips]),
    )
    generator = torch.Generator().manual_seed(spec.seed)
    rollouts = rollout(policy, env, starts, plan=plan, generator=generator)
    verdicts = judge.judge(rollouts.final_frames, rollouts.instructions)
    return counted(verdicts, [clip.success for clip in clips])
