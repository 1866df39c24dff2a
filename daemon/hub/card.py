"""The model card of an exported checkpoint: what was measured on the robot, its data, its line."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.statistics import Interval, wilson_interval
from storage import checkpoints, end_rules, success_counts
from storage.end_rules import EndRule
from storage.tables import CheckpointRow, EpisodeRow

KINDS = {"world_model": "World model", "policy": "Policy", "judge": "Judge"}
TAGS = ("robotics", "widowx", "gymnastd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Real successes of a policy at a task, of episodes that ended by one rule (see `storage.end_rules`)."""

    task: str
    ends_early: bool
    successes: int
    judged: int

    @property
    def interval(self) -> Interval:
        return wilson_interval(self.successes, self.judged)

    @property
    def rule(self) -> str:
        return "where the judge saw success" if self.ends_early else "at full length"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the store knows of a checkpoint.

    `success` is by task and by the rule that its episodes ended by; `data_digest` is a sha256 over the ids
    and manifests of the episodes that it learned from, None where it learned from none that is stored.
    """

    row: CheckpointRow
    ancestry: Sequence[CheckpointRow]
    success: Sequence[Rate]
    episodes: int
    data_digest: str | None


def about(session: Session, row: CheckpointRow) -> About:
    ids = checkpoints.episode_ids(session, row.id)
    query = sa.select(EpisodeRow.id, EpisodeRow.manifest_sha256).order_by(EpisodeRow.id)
    known = session.execute(query.where(EpisodeRow.id.in_(ids))).all()
    digest = hashlib.sha256("\n".join(f"{name} {sha256}" for name, sha256 in known).encode()).hexdigest()
    return About(
        row=row,
        ancestry=checkpoints.ancestry(session, row.id),
        success=rates_of(session, row.id),
        episodes=len(known),
        data_digest=digest if known else None,
    )


def rates_of(session: Session, policy_id: str) -> list[Rate]:
    """What a policy reached on the robot; rates of one rule of ending are not added to those of the other."""
    counts = success_counts.by_iteration(session, [policy_id])
    rules = end_rules.of_iterations(session, {count.iteration_id for count in counts})
    successes: Counter[tuple[str, bool]] = Counter()
    judged: Counter[tuple[str, bool]] = Counter()
    for count in counts:
        early = rules.get(count.iteration_id, EndRule()).ends_early(count.task_id)
        successes[count.task_id, early] += count.successes
        judged[count.task_id, early] += count.judged
    return [
        Rate(task=task, ends_early=early, successes=successes[task, early], judged=episodes)
        for (task, early), episodes in sorted(judged.items())
    ]


def model_card(found: About, *, licence: str) -> str:
    """The card as Markdown with its header."""
    row = found.row
    lines = ["---", f"license: {licence}", "tags:", *(f"- {tag}" for tag in TAGS)]
    lines += [*_model_index(found), "---", ""]
    lines += [f"# {KINDS[row.kind]} {row.number}", "", "Made by gymnastd.", ""]
    lines += [f"* checkpoint: `{row.id}`", f"* sha256 of its file: `{row.sha256}`"]
    lines += [f"* made: {row.created_at.isoformat()}", f"* licence: {licence}", ""]
    return "\n".join([*lines, *_success(found), *_data(found), *_line(found)]) + "\n"


def _model_index(found: About) -> list[str]:
    """The measured rates as the header's `model-index`, which the Hub and its libraries read."""
    results = [line for rate in found.success if rate.judged for line in _result(rate)]
    name = f"{KINDS[found.row.kind]} {found.row.number}"
    return ["model-index:", f"- name: {json.dumps(name)}", "  results:", *results] if results else []


def _result(rate: Rate) -> list[str]:
    """One rate with its count and its interval; a text in JSON is one in YAML."""
    low, high = rate.interval.low, rate.interval.high
    said = f"{rate.successes} of {rate.judged}, Wilson 95 % interval {100 * low:.0f} to {100 * high:.0f} %"
    return [
        "  - task:",
        "      type: robotics",
        f"      name: {json.dumps(rate.task)}",
        "    dataset:",
        "      type: gymnastd",
        f"      name: {json.dumps(f'real episodes, ended {rate.rule}')}",
        "    metrics:",
        "    - type: success_rate",
        f"      name: {json.dumps(said)}",
        f"      value: {rate.successes / rate.judged:.4f}",
        "      args:",
        f"        successes: {rate.successes}",
        f"        episodes: {rate.judged}",
        f"        wilson_low: {low:.4f}",
        f"        wilson_high: {high:.4f}",
    ]


def _success(found: About) -> list[str]:
    title = ["## Real success", ""]
    if not found.success:
        return [*title, "Nothing was measured on a robot.", ""]
    table = ["| task | episodes end | successes | rate | Wilson 95 % interval |", "|---|---|---|---|---|"]
    for rate in found.success:
        share = f"{100 * rate.successes / rate.judged:.0f} %" if rate.judged else "unknown"
        span = f"{100 * rate.interval.low:.0f} to {100 * rate.interval.high:.0f} %"
        table.append(f"| {rate.task} | {rate.rule} | {rate.successes}/{rate.judged} | {share} | {span} |")
    return [*title, *table, ""]


def _data(found: About) -> list[str]:
    title = ["## Data", ""]
    if found.data_digest is None:
        return [*title, "No episode that is stored is named as what it learned from.", ""]
    return [*title, f"{found.episodes} recorded episodes, sha256 over them `{found.data_digest}`.", ""]


def _line(found: About) -> list[str]:
    steps = [
        f"{place + 1}. {KINDS[row.kind]} {row.number}, `{row.id}`" for place, row in enumerate(found.ancestry)
    ]
    return ["## Lineage", "", "From this one back to the first:", "", *steps]
