"""The model card of an exported checkpoint: what was measured on the robot, its data, its line."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.statistics import wilson_interval
from storage import checkpoints, success_counts
from storage.tables import CheckpointRow, EpisodeRow

KINDS = {"world_model": "World model", "policy": "Policy", "judge": "Judge"}
TAGS = ("robotics", "widowx", "gymnastd")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the store knows of a checkpoint.

    `success` holds real successes and judged episodes by task; `data_digest` is a sha256 over the ids and
    manifests of the episodes that it learned from, None where it learned from none that is stored.
    """

    row: CheckpointRow
    ancestry: Sequence[CheckpointRow]
    success: Mapping[str, tuple[int, int]]
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
        success=success_counts.of_policies(session, [row.id]).get(row.id, {}),
        episodes=len(known),
        data_digest=digest if known else None,
    )


def model_card(found: About, *, licence: str) -> str:
    """The card as Markdown with its header."""
    row = found.row
    lines = ["---", f"license: {licence}", "tags:", *(f"- {tag}" for tag in TAGS), "---", ""]
    lines += [f"# {KINDS[row.kind]} {row.number}", "", "Made by gymnastd.", ""]
    lines += [f"* checkpoint: `{row.id}`", f"* sha256 of its file: `{row.sha256}`"]
    lines += [f"* made: {row.created_at.isoformat()}", f"* licence: {licence}", ""]
    return "\n".join([*lines, *_success(found), *_data(found), *_line(found)]) + "\n"


def _success(found: About) -> list[str]:
    title = ["## Real success", ""]
    if not found.success:
        return [*title, "Nothing was measured on a robot.", ""]
    table = ["| task | successes | rate | Wilson 95 % interval |", "|---|---|---|---|"]
    for task, (successes, judged) in sorted(found.success.items()):
        interval = wilson_interval(successes, judged)
        rate = f"{100 * successes / judged:.0f} %" if judged else "unknown"
        span = f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"
        table.append(f"| {task} | {successes}/{judged} | {rate} | {span} |")
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
