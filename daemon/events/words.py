"""What an event says to people, in one sentence. Its kind and its facts are what programs read."""

from collections.abc import Mapping
from typing import Any

from storage.event_tables import EventRow

Facts = Mapping[str, Any]

SENTENCES: Mapping[str, str] = {  # by kind; names in braces are facts
    "iteration_requested": "was asked for",
    "iteration_started": "has started",
    "iteration_paused": "is paused",
    "iteration_finished": "is finished",
    "iteration_failed": "has failed",
    "iteration_cancelled": "was cancelled",
    "phase_queued": "{phase}, attempt {attempt}, waits for a worker",
    "phase_started": "{phase}, attempt {attempt}, runs on {worker}",
    "phase_finished": "{phase}, attempt {attempt}, is finished",
    "phase_failed": "{phase}, attempt {attempt}, has failed",
    "phase_abandoned": "{phase}, attempt {attempt}, was given up",
    "phase_skipped": "does without {phase}",
    "autoeval_job_planned": "a job at AutoEval for {task} is planned",
    "autoeval_job_submitting": "a job at AutoEval for {task} is being submitted",
    "autoeval_job_queued": "the job at AutoEval for {task} waits for {robot}",
    "autoeval_job_started": "the job at AutoEval for {task} runs on {robot}",
    "autoeval_job_draining": "the job at AutoEval for {task} is over, its recordings are on their way",
    "autoeval_job_joined": "the job at AutoEval for {task} is here with all its recordings",
    "autoeval_job_partial": "the job at AutoEval for {task} is here with a part of its recordings",
    "autoeval_job_failed": "the job at AutoEval for {task} has failed",
    "autoeval_job_cancelled": "the job at AutoEval for {task} was cancelled",
    "autoeval_job_lost": "AutoEval does not know the job for {task} any more",
    "gate_accepted": "the gate accepted world model {checkpoint_id}",
    "gate_rejected": "the gate rejected world model {checkpoint_id}",
    "trial_promoted": "policy {candidate_id} is the new champion",
    "trial_rejected": "the candidate {candidate_id} was rejected, {champion_id} stays champion",
    "trial_undecided": "the trial of {candidate_id} is undecided, {champion_id} stays champion",
    "trial_rolled_back": "champion {champion_id} was rolled back to {candidate_id}",
    "trial_adopted": "policy {candidate_id} was adopted as champion",
    "label_added": "{who} says that episode {episode_id} is a {verdict}",
    "note_added": "{who} notes on episode {episode_id}: {begins}",
    "judge_away": "the judge does not answer: {reason}",
    "judge_back": "the judge answers again",
    "judge_budget_spent": "{reason}",
    "device_budget_spent": "{phase} goes on later: {reason}",
    "robot_budget_spent": "{reason}",
    "estop_pressed": "{who} pressed the emergency stop ({reason}): {outcome}",
    "alarm_raised": "the real success of policy {policy_number} at {task} on {station} {direction}, and the "
    "policy did not change: {rates}",
    "station_needs_human": "{station} needs a human: {reason}",
    "station_goes_on": "{station} goes on",
    "what_if_requested": "{who} asks what would happen (what-if {what_if_id})",
    "what_if_finished": "what-if {what_if_id} is imagined",
    "what_if_failed": "what-if {what_if_id} has failed",
    "backup_made": "backup {name} is made: {files} files, {copied_bytes} bytes of them new",
    "backup_failed": "no backup was made: {reason}",
    "gc_done": "what nobody needs was let go",
    "gc_failed": "nothing was let go: {reason}",
    "disk_low": "{free_gb:.1f} GB are free under {folder}, {low_gb:.1f} GB are wanted",
    "disk_ok": "there is room under {folder} again: {free_gb:.1f} GB",
}
FOR_PEOPLE = (  # what somebody who is not looking wants to be told of
    "iteration_finished",
    "iteration_failed",
    "trial_promoted",
    "trial_rejected",
    "trial_rolled_back",
    "alarm_raised",
    "station_needs_human",
    "estop_pressed",
    "judge_away",
    "judge_back",
    "judge_budget_spent",
    "device_budget_spent",
    "robot_budget_spent",
    "disk_low",
    "backup_failed",
    "gc_failed",
)


class _Missing(dict[str, Any]):
    """Facts of an event that an older release wrote may be fewer than the sentence has names."""

    def __missing__(self, name: str) -> str:
        return f"({name} unknown)"

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name) if name in self else self.__missing__(name)


def sentence(kind: str, iteration: int | None, *, facts: Facts) -> str:
    """`iteration 3: collect, attempt 1, has failed: no arm [arm_gone]`."""
    said = SENTENCES.get(kind, kind.replace("_", " "))
    try:
        said = said.format_map(_Missing(facts))
    except (ValueError, TypeError):  # a fact of another type than the sentence is for
        said = kind.replace("_", " ")
    if iteration is not None:
        whose = f"iteration {iteration}" + (f" of lineage {facts['lineage']}" if "lineage" in facts else "")
        said = f"{whose} {said}" if kind.startswith("iteration_") else f"{whose}: {said}"
    error = facts.get("error")
    return f"{said}: {error['message']} [{error['code']}]" if isinstance(error, Mapping) else said


def event_record(row: EventRow) -> dict[str, Any]:
    """An event as streams, webhooks and lists tell it; times are text, so that it is plain JSON."""
    return {
        "id": row.id,
        "at": row.at.isoformat(),
        "kind": row.kind,
        "iteration": row.iteration,
        "text": sentence(row.kind, row.iteration, facts=row.facts),
        "facts": row.facts,
    }
