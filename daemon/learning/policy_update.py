"""Improving a policy inside an environment: imagine groups, judge them, learn from the differences.

One update imagines batches of N groups of G rollouts, each judged once at its end, until enough groups
inform, then passes `epochs` times over their decisions. Groups without spread teach nothing and are left out,
as are rollouts on which the judge declined; informative groups that an update has no room for wait for the
next. The optimizer's steps are in `learner.py`.

A judge that is far away is waited for, and meanwhile the next batch is imagined. Whether it is needed the
verdicts will say; if not, it is forgotten and chance goes back, so that everything is as if one had waited.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import torch

from daemon.learning.batch import Clip
from daemon.learning.decisions import Decisions, decisions_of, joined
from daemon.learning.learner import Learner, PolicyUpdateConfig
from daemon.learning.policy.policy import Policy
from daemon.learning.policy_progress import UpdateProgress
from daemon.learning.policy_report import Groups, PolicyUpdateReport, UpdateOutcome, report_of
from daemon.learning.resumable import Resumable
from daemon.learning.reward.judge import Judge, JudgeExhausted, Verdicts
from daemon.learning.rollout import Env, RolloutPlan, Rollouts, Starts, rollout
from daemon.learning.start_draws import StartDraws

log = logging.getLogger(__name__)

OnUpdate = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was said of one batch of groups, G rollouts each, next to each other.

    Attributes:
        update, batch: which; batches of an update count from 0.
        starts: of each group, its place among the arena's starts.
        instructions: of each group.
        verdicts: of all rollouts.
    """

    update: int
    batch: int
    group_size: int
    starts: tuple[int, ...]
    instructions: tuple[str, ...]
    verdicts: Verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Where a policy acts, from what, and who says how it went.

    Attributes:
        tasks: of each instruction; success is told by task, or by instruction where it has none.
        proven: real episodes that succeeded, worth imitating; of this policy or of its relatives.
        anchored: real episodes of tasks that are not imagined: in their frames the policy acts as before.
        told: gets what the judge said, before anybody learns from it.
    """

    env: Env
    judge: Judge
    starts: Starts
    tasks: Mapping[str, str] = field(default_factory=dict)
    proven: Sequence[Clip] = ()
    anchored: Sequence[Clip] = ()
    told: Callable[[Judged], None] = lambda judged: None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Imagined:
    """N groups that nobody has judged yet, and the starts that they were drawn from."""

    rollouts: Rollouts
    starts: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """N groups, imagined and judged."""

    instructions: tuple[str, ...]
    verdicts: Verdicts
    groups: list[Decisions]  # the informative ones
    taught: int  # rollouts of those groups that are learned from
    stopped: int  # rollouts that were over before their last chunk


def update_policy(
    policy: Policy,
    arena: Arena,
    *,
    config: PolicyUpdateConfig,
    on_update: OnUpdate,
    on_step: Callable[[int, int], None] = lambda made, steps: None,
    resumable: Resumable | None = None,
) -> PolicyUpdateReport:
    """Improve the policy in place.

    Args:
        on_update: gets update 1, 2, … and its metrics.
        on_step: gets how many updates are made, by earlier attempts too, and how many steps of the next.
        resumable: where the state of interrupted updates lies, and when to write it.

    A judge that is exhausted ends the updates before their time; those that were made count, and what it has
    judged is learned from first.

    Raises:
        GroupTooSmall: the group size is below 2.
        NonFiniteLoss: loss or gradient is NaN or infinite; weights are those before that optimizer step.
        BadTensor: environment, judge and policy do not fit each other.
        ClipInvalid: a proven or anchored episode breaks its contract.
        CheckpointUnreadable: there is a state, and it is of other updates.
    """
    generator = torch.Generator().manual_seed(config.seed)
    draws = StartDraws(arena.starts.instructions, generator=generator, by_promise=config.by_promise)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=config.lr, weight_decay=0.0)
    progress = UpdateProgress(policy.model, optimizer, generator=generator, draws=draws)
    learner = Learner(policy, progress, config=config, proven=arena.proven, anchored=arena.anchored)
    if resumable is not None:
        resumable.restore(progress)
    on_step(progress.update - 1, 0)
    while progress.update <= config.updates:
        update = progress.update
        expired = progress.expire()
        try:
            batches = _enough(policy, arena, progress=progress, config=config)
        except JudgeExhausted as spent:
            log.warning("updates ended early update=%d reason=%s", update, spent)
            break
        learned = progress.take(config.informative_groups)
        steps = learner.learn(joined(learned), on_step=partial(on_step, update - 1)) if learned else []
        groups = _counted(batches, learned=len(learned), expired=expired, progress=progress, config=config)
        progress.history.append(_outcome(batches, groups=groups, steps=steps, config=config))
        if resumable is not None:
            resumable.save_if_due(progress)
        on_update(update, progress.history[-1].metrics())  # may end it all: what was learned is kept by then
    return report_of(progress.history, tasks=arena.tasks)


def _enough(
    policy: Policy, arena: Arena, *, progress: UpdateProgress, config: PolicyUpdateConfig
) -> list[_Batch]:
    """Batches until enough groups inform, or until there are as many as may be; none if enough wait already.

    More would be old before anybody learned from them. Where the judge is exhausted, those that it judged.

    Raises:
        JudgeExhausted: it may not be asked any more, and nothing is left to learn from.
    """
    imagine = partial(_imagined, policy, arena, progress=progress, config=config)
    wanted, most = config.informative_groups or 0, config.most_batches
    batches: list[_Batch] = []
    if 0 < wanted <= len(progress.waiting):
        return batches
    imagined = imagine()
    while True:
        may_follow, before = wanted > 0 and len(batches) + 1 < most, progress.chance()
        ahead = imagine if may_follow and config.imagines_ahead else None
        try:
            verdicts, following = _judged(arena.judge, imagined.rollouts, meanwhile=ahead)
        except JudgeExhausted:
            progress.go_back(before)
            if not progress.waiting:
                raise
            return batches
        arena.told(
            Judged(
                update=progress.update,
                batch=len(batches),
                group_size=config.group_size,
                starts=tuple(imagined.starts),
                instructions=imagined.rollouts.instructions[:: config.group_size],
                verdicts=verdicts,
            )
        )
        batches.append(_admitted(imagined, verdicts, progress=progress, config=config))
        if not may_follow or len(progress.waiting) >= wanted:
            if following is not None:
                progress.go_back(before)
            return batches
        imagined = following or imagine()


def _judged(
    judge: Judge, rollouts: Rollouts, *, meanwhile: Callable[[], _Imagined] | None
) -> tuple[Verdicts, _Imagined | None]:
    """The verdicts on a batch, and what was imagined while they were waited for."""
    if meanwhile is None:
        return judge.judge(rollouts.final_frames, rollouts.instructions), None
    frames = rollouts.final_frames.cpu()  # here: the device is this thread's
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge") as beside:
        asked = beside.submit(judge.judge, frames, rollouts.instructions)
        following = meanwhile()
        return asked.result(), following


def _imagined(
    policy: Policy, arena: Arena, *, progress: UpdateProgress, config: PolicyUpdateConfig
) -> _Imagined:
    """Roll out one batch."""
    size = config.group_size
    chosen = progress.draws.draw(config.groups)
    rows = [row for row in chosen for _ in range(size)]  # B = N·G
    seeds = _noise_seeds(config, progress.generator)
    plan = RolloutPlan(
        chunks=config.chunks,
        temperature=config.temperature,
        final_frames=arena.judge.frames,
        stop=arena.judge if config.stop_on_success else None,
    )
    rollouts = rollout(
        policy, arena.env, arena.starts.take(rows), plan=plan, generator=progress.generator, seeds=seeds
    )
    return _Imagined(rollouts=rollouts, starts=chosen)


def _admitted(
    imagined: _Imagined, verdicts: Verdicts, *, progress: UpdateProgress, config: PolicyUpdateConfig
) -> _Batch:
    """Let the informative groups of a batch join those that wait."""
    rollouts, size = imagined.rollouts, config.group_size
    bounds = (config.success_low, config.success_high)
    groups, informative = decisions_of(rollouts, verdicts, group_size=size, bounds=bounds)
    known = verdicts.known.cpu().view(-1, size)
    successes = verdicts.success.cpu().view(-1, size) & known
    progress.draws.learn(imagined.starts, successes.sum(1).tolist(), known.sum(1).tolist())
    progress.admit(groups)
    return _Batch(
        instructions=rollouts.instructions,
        verdicts=verdicts,
        groups=groups,
        taught=int(known[informative].sum()),
        stopped=int((rollouts.valid.sum(1) < config.chunks).sum()),
    )


def _noise_seeds(config: PolicyUpdateConfig, generator: torch.Generator) -> list[int]:
    """One seed per rollout, or per group where its members share their noise."""
    same = config.group_size if config.common_noise else 1
    drawn = torch.randint(2**62, (config.groups * config.group_size // same,), generator=generator)
    return drawn.repeat_interleave(same).tolist()


def _counted(
    batches: Sequence[_Batch],
    *,
    learned: int,
    expired: int,
    progress: UpdateProgress,
    config: PolicyUpdateConfig,
) -> Groups:
    informative = sum(len(batch.groups) for batch in batches)
    imagined = config.groups * len(batches)
    return Groups(
        imagined=imagined,
        informative=informative,
        learned=learned,
        carried=len(progress.waiting),
        expired=expired,
        wasted_rollouts=(imagined + expired) * config.group_size - sum(batch.taught for batch in batches),
    )


def _outcome(
    batches: Sequence[_Batch],
    *,
    groups: Groups,
    steps: Sequence[dict[str, float]],
    config: PolicyUpdateConfig,
) -> UpdateOutcome:
    judged: dict[str, int] = {}
    succeeded: dict[str, int] = {}
    for batch in batches:
        known, success = batch.verdicts.known.tolist(), batch.verdicts.success.tolist()
        for sentence, counts, good in zip(batch.instructions, known, success, strict=True):
            judged[sentence] = judged.get(sentence, 0) + counts
            succeeded[sentence] = succeeded.get(sentence, 0) + (counts and good)
    learned = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]} if steps else {}
    rollouts = sum(len(batch.instructions) for batch in batches)
    stopped = sum(batch.stopped for batch in batches)
    return UpdateOutcome(
        judged=judged,
        succeeded=succeeded,
        known_share=sum(judged.values()) / rollouts if rollouts else None,
        stopped_share=stopped / rollouts if config.stop_on_success and rollouts else None,
        groups=groups,
        optimizer_steps=len(steps),
        learned=learned,
    )
