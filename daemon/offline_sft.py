"""`gymnastd sft`: a policy imitates stored episodes, at the command line, without an iteration.

What it makes is brought in as a policy that the next iteration tries against the champion; it has to win like
any other. Held-out episodes are only measured on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from daemon.errors import NothingCollected
from daemon.iteration import require_lineage
from daemon.learning.batch import Clip
from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.policy.loading import load_policy
from daemon.learning.policy.policy import Policy
from daemon.learning.sft import SftConfig, demonstrations_of, train_policy
from daemon.phases.arms import champion_of
from daemon.phases.checkpoints import Made, bring_in
from daemon.phases.clips import Shelf, load_clips, succeeded
from daemon.progress_bar import Bars
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database, utc_now
from storage import checkpoints, replay
from storage.adoption import CANDIDATE
from storage.array_cache import ArrayCache
from storage.blobs import BlobStore
from storage.db import Database
from storage.errors import RowMissing
from storage.lineages import MAIN
from storage.tables import CheckpointRow

PHASE = "sft"
CHAMPION, NEWEST = "champion", "newest"
AT_ONCE = 256  # decisions of one forward pass where loss is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which episodes are imitated.

    Attributes:
        origin: collect, imported or base; None takes all.
        tasks: their ids; None takes all.
        failures: also those that failed or that nobody judged.
        keep_only: the policy is stored and never tried.
        policy: whose copy imitates: an id, the champion, or the newest, taught or not.
        lora_rank: of the adapters that learn, 0 lets all weights learn.
        lineage: whose champion imitates, and whose next iteration tries what comes out of it.
        all_lineages: also what others than this lineage collected.
    """

    origin: str | None
    tasks: Sequence[str] | None = None
    failures: bool = False
    keep_only: bool = False
    policy: str = CHAMPION
    lora_rank: int = 0
    lineage: str = MAIN
    all_lineages: bool = False


def sft_offline(settings: Settings, wanted: Wanted, *, config: SftConfig, bars: Bars) -> CheckpointRow:
    """Let a copy of a policy imitate stored episodes and keep it.

    Raises:
        PageNotFound: no iteration is of this lineage.
        RowMissing: there is no such policy.
        NothingCollected: no such episode to imitate.
        StorageError, LearningError: an episode or checkpoint is damaged, or training diverged.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database, blobs = open_database(settings), open_blobs(settings)
    try:
        database.upgrade()
        with database.read() as session:
            require_lineage(session, wanted.lineage)
        parent = parent_of(database, blobs, wanted, preset=settings.preset)
        policy = learning(checkpoints.path(parent, blobs), lora_rank=wanted.lora_rank, seed=config.seed)
        shelf = Shelf(blobs=blobs, cache=ArrayCache(settings.data_dir / "cache"))
        train, held_out = (
            imitable(database, shelf, wanted, size=policy.image_size, held_out=which)
            for which in (False, True)
        )
        if not train:
            raise NothingCollected(phase=PHASE, wanted=f"{described(wanted)} to imitate")
        bars.say(f"{len(train)} episodes to imitate, {len(held_out)} held out")
        before = imitation_loss(policy, held_out) if held_out else None

        def told(update: int, metrics: Mapping[str, float]) -> None:
            found = f"loss {metrics['loss']:.4f}, accuracy {metrics['token_accuracy']:.2f}"
            bars.count(PHASE, update, config.updates, unit="updates", text=found)

        train_policy(policy, train, config=config, on_update=told)
        after = imitation_loss(policy, held_out) if held_out else None
        if before is not None and after is not None:
            bars.say(f"held-out loss {before:.4f} before, {after:.4f} after, nats per token")
        card: dict[str, Any] = {"sft": {"before": before, "after": after, "updates": config.updates}}
        card |= {CANDIDATE: True} if wanted.keep_only else {}
        ids = [clip.episode_id for clip in train]
        made = Made(kind="policy", parent=parent, card=card, lineage=wanted.lineage, episode_ids=ids)
        row = bring_in(policy, made, database=database, blobs=blobs, now=utc_now())
    finally:
        database.dispose()
    said = "kept, and not tried" if wanted.keep_only else "the next iteration tries it against the champion"
    bars.say(f"policy {row.number} (id {row.id}): {said}")
    return row


def parent_of(database: Database, blobs: BlobStore, wanted: Wanted, *, preset: str) -> CheckpointRow:
    """The policy whose copy imitates.

    Raises:
        RowMissing: there is none of this id, or none at all.
    """
    lineage = wanted.lineage
    if wanted.policy == CHAMPION:
        return champion_of(database, blobs, lineage=lineage, preset=preset, now=utc_now())
    with database.read() as session:
        if wanted.policy != NEWEST:
            return checkpoints.get(session, wanted.policy)
        row = checkpoints.latest(session, "policy", lineage=lineage)
    if row is None:
        raise RowMissing(kind="checkpoint", row_id=NEWEST)
    return row


def described(wanted: Wanted) -> str:
    """The episodes that are asked for, in words."""
    tasks = "" if wanted.tasks is None else f" of task {', '.join(wanted.tasks)}"
    whose = "" if wanted.all_lineages else f" of lineage {wanted.lineage}"
    what = "an episode" if wanted.failures else "a success"
    return f"{what} of origin {wanted.origin or 'any'}{tasks}{whose}"


def learning(file: Path, *, lora_rank: int, seed: int) -> Policy:
    """A policy on this machine's device, of which all weights learn, or adapters of this rank.

    Raises:
        AdaptersUnknown: it has none.
    """
    device = choose_device()
    policy = load_policy(file, device=device, precision=choose_precision(device.type))
    if lora_rank:
        policy.adapt(rank=lora_rank, seed=seed)
    return policy


def imitable(database: Database, shelf: Shelf, wanted: Wanted, *, size: int, held_out: bool) -> list[Clip]:
    """The clips that are asked for, oldest first."""
    query = replay.EpisodeQuery(
        origin=wanted.origin,
        tasks=wanted.tasks,
        lineage=None if wanted.all_lineages else wanted.lineage,
        unowned=True,
        held_out=held_out,
        newest_first=False,
    )
    with database.read() as session:
        rows = replay.select(session, query)
        wished = rows if wanted.failures else succeeded(session, rows)
        return load_clips(session, shelf, wished, size=size)


@torch.no_grad()
def imitation_loss(policy: Policy, clips: Sequence[Clip]) -> float:
    """Mean cross-entropy of the decisions of these clips, nats per token; all instructions weigh the same."""
    found = demonstrations_of(policy, clips)
    policy.model.eval()
    losses = []
    for begin in range(0, len(found.instructions), AT_ONCE):
        part = slice(begin, begin + AT_ONCE)
        logits = policy.logits(found.frames[part], found.instructions[part])  # [B, L, A, bins]
        targets = found.tokens[part].to(policy.device)
        by_token = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none")
        losses.append(by_token.view(len(targets), -1).mean(1).cpu())
    return float((torch.cat(losses).double() * found.weights).sum() / found.weights.sum())
