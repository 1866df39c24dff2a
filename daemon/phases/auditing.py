"""The judge audit: what the judge says of real held-out episodes beside what people and stations say.

And what follows for the next policy update: a task whose judge, or whose imagined ends, surely agree with
reality less often than the spec asks is left out of it. "Surely" is Wilson's upper bound: a few episodes that
went wrong do not stop a task, and none at all say nothing. Optimism is held to its bound as it is measured,
of replayed real actions and of the policy itself from its own starts (`closed_loop.py`): a policy that is
rewarded for what will not happen unlearns what it could do.

Nor does a judge that is surely too wrong at a task end the robot's episodes of it early.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from daemon.learning.reward.judge import Judge, Verdicts
from daemon.learning.trust import Outcomes, counted
from daemon.phases.context import PhaseContext
from daemon.phases.judging import end_of
from daemon.phases.manifest import judge_version
from daemon.phases.material import Episodes
from daemon.phases.trusting import outcome_document
from daemon.statistics import right_of_known, wilson_interval
from storage import iterations, labels, manifests, outcomes, phase_runs
from storage.tables import CheckpointRow

Document = dict[str, Any]

QUESTION = ("model", "votes", "temperature", "agreement", "max_tokens", "done", "partly")  # of judge.vlm
ENDING_JUDGE = "success_classifier"  # the one kind that an arm waits for
FEWEST_FOR_OPTIMISM = 8  # judged episodes of a task; a single one weighs too much before


def audit_judge(context: PhaseContext, judge: Judge, episodes: Sequence[Episodes]) -> dict[str, Document]:
    """Judge the real ends of held-out episodes; what came out, by task.

    Returns:
        For each task the confusion matrix against the label that counts (hits, false_hopes, missed,
        rightly_failed, declined), agreement with its interval, and agreement with every source of labels.
    """
    rows = [row for part in episodes for row in part.rows]
    clips = [clip for part in episodes for clip in part.clips]
    found: dict[str, Document] = {}
    for task in sorted({row.task_id for row in rows}):
        own = [place for place, row in enumerate(rows) if row.task_id == task]
        ends = torch.stack([end_of(clips[place].frames, judge.frames) for place in own])
        verdicts = judge.judge(ends, [clips[place].instruction for place in own])
        real = [clips[place].success for place in own]
        found[task] = {
            **with_interval(counted(verdicts, real)),
            "by_source": _by_source(context, [rows[place].id for place in own], verdicts),
        }
    return found


def with_interval(outcomes: Outcomes) -> Document:
    """An outcome document with Wilson's interval of its agreement."""
    interval = wilson_interval(outcomes.hits + outcomes.rightly_failed, outcomes.known)
    return {
        **outcome_document(outcomes),
        "agreement_low": interval.low,
        "agreement_high": interval.high,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the lineage's last finetuning measured, and how much of it is of what an update uses."""

    outcome: Mapping[str, Any]
    same_judge: bool
    same_world: bool
    same_policy: bool


def last_measured(context: PhaseContext, used: Mapping[str, str]) -> Measured:
    """The outcome of the last finetuning, in this iteration or before.

    A judge is the same if the classifier is, and what a vision-language model is asked, and where.

    Args:
        used: ids of the policy that the update goes on from, and of what it acts in and is judged by.
    """
    with context.database.read() as session:
        run = outcomes.last_finished(session, context.iteration_id, phase="finetune_world_model")
        if run is None:
            return Measured(outcome={}, same_judge=False, same_world=False, same_policy=False)
        spec = iterations.get(session, run.iteration_id).spec
        kept = manifests.of_iteration(session, run.iteration_id).get("finetune_world_model")
    outcome: Mapping[str, Any] = run.outcome or {}
    went_on = {**used, **(outcome.get("read") or {}), **(outcome.get("made") or {})}
    same = {kind: went_on[kind] == of for kind, of in used.items()}
    here = judge_version(context)
    asked_there = kept is None or json.loads(kept.manifest.content).get("judge", here) == here
    asked_so = _asked(spec) == _asked(context.spec.document())
    return Measured(
        outcome=outcome,
        same_judge=same["judge"] and asked_there and asked_so,
        same_world=same["world_model"],
        same_policy=same["policy"],
    )


def distrusted(
    context: PhaseContext, last: Measured, *, audit: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Tasks that the next update is to leave out, each with the reason, as this iteration measured them.

    One that does not finetune goes by what the lineage's last finetuning measured, as far as that was of the
    same world model and the same judge.

    Args:
        audit: `judge_audit` and `judge_exhausted` of this judge, where it was audited since.
    """
    told = audit or (last.outcome if last.same_judge else {})
    audited = told.get("judge_audit") or {}
    trust = (last.outcome.get("trust") or {}) if last.same_judge and last.same_world else {}
    imagined = trust.get("outcomes") or {}
    acted = ((trust.get("closed_loop") or {}).get("tasks") or {}) if last.same_policy else {}
    spec = context.spec
    reasons: dict[str, str] = {}
    for task in sorted({*audited, *imagined, *acted}):
        unasked = told.get("judge_exhausted") and not _counts(audited.get(task))[1]
        found = [
            *(["the judge's budget was spent before it could be audited here"] if unasked else []),
            *_too_wrong("the judge on real ends agrees", audited.get(task), least=spec.judge.min_agreement),
            *_too_wrong("imagination agrees", imagined.get(task), least=spec.trust.min_agreement),
            *_too_hopeful("imagined success", imagined.get(task), most=spec.trust.max_optimism),
            *_too_hopeful("the policy's imagined success", acted.get(task), most=spec.trust.max_optimism),
        ]
        if found:
            reasons[task] = found[0]
    return reasons


def too_wrong_to_end(context: PhaseContext, judge: CheckpointRow) -> dict[str, str]:
    """Tasks whose real episodes this judge is not to end early, each with the reason.

    It is held to the audit of the iteration that made it, which is of the same lineage. One that was brought
    in was never audited, and what that iteration audited may have been another kind of judge: no verdict.
    """
    if judge.iteration_id is None:
        return {}
    with context.database.read() as session:
        run = phase_runs.latest(session, judge.iteration_id, phase="finetune_world_model")
        spec = iterations.get(session, judge.iteration_id).spec
    outcome: Mapping[str, Any] = (run.outcome or {}) if run is not None and run.state == "finished" else {}
    if _kind_of_judge(spec) != ENDING_JUDGE or (outcome.get("made") or {}).get("judge") != judge.id:
        return {}
    least = context.spec.judge.min_agreement
    found = {
        task: _too_wrong("the judge on real ends agrees", own, least=least)
        for task, own in sorted((outcome.get("judge_audit") or {}).items())
    }
    return {task: reasons[0] for task, reasons in found.items() if reasons}


def _asked(spec: Mapping[str, Any]) -> Document:
    """Of a stored spec all that a judge's verdicts depend on, besides its weights."""
    own = spec.get("judge") or {}
    kinds = own.get("ensemble") or () if _kind_of_judge(spec) == "ensemble" else (_kind_of_judge(spec),)
    asked: Document = {"kinds": list(kinds)}
    if set(kinds) - {ENDING_JUDGE}:
        model = own.get("vlm") or {}
        asked |= {"steps": spec.get("steps"), **{name: model.get(name) for name in QUESTION}}
    return asked


def _kind_of_judge(spec: Mapping[str, Any]) -> str:
    """Of a stored spec, which may be of an older release."""
    return str((spec.get("judge") or {}).get("kind", ENDING_JUDGE))


def _too_wrong(who: str, own: Mapping[str, int] | None, *, least: float) -> list[str]:
    """That something agrees with the labels surely less often than is asked."""
    right, known = _counts(own)
    if wilson_interval(right, known).high >= least:
        return []
    return [f"{who} with the label in {right} of {known}, {least:.0%} is asked"]


def _too_hopeful(what: str, own: Mapping[str, int] | None, *, most: float) -> list[str]:
    """That imagined episodes end so much better than real ones that a policy would learn to live on it."""
    _, known = _counts(own)
    if own is None or known < FEWEST_FOR_OPTIMISM:
        return []
    optimism = (own["false_hopes"] - own["missed"]) / known
    return [f"{what} is {optimism:+.2f} above real, {most:+.2f} is allowed"] if optimism > most else []


def _counts(own: Mapping[str, int] | None) -> tuple[int, int]:
    return (0, 0) if own is None else right_of_known(own)


def _by_source(context: PhaseContext, episode_ids: Sequence[str], verdicts: Verdicts) -> Document:
    """How often the judge says what each source of labels says, of the verdicts that both gave."""
    counts: dict[str, dict[str, int]] = {}
    with context.database.read() as session:
        for place, episode_id in enumerate(episode_ids):
            said = labels.history(session, episode_id)
            newest = {row.source: row.success for row in said if row.success is not None}
            for source, success in newest.items():
                if not bool(verdicts.known[place]):
                    continue
                own = counts.setdefault(source, {"agreed": 0, "judged": 0})
                own["judged"] += 1
                own["agreed"] += bool(verdicts.success[place]) == success
    return counts
