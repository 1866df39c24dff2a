"""Doing the learning phases of an iteration again, beside the store, and holding what comes out against it.

Each phase gets a store of its own, with exactly what it read, and runs the code that iterations run. On the
same machine with the same code, packages and threads its checkpoints have the same tensors, bit for bit; what
is not the same is told before anything is computed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from daemon.code_version import code_version
from daemon.iteration_manifest import inputs_of
from daemon.learning.devices import choose_device, precision_of
from daemon.learning.tensor_digest import tensors_digest
from daemon.phases import finetune_world_model, update_policy
from daemon.phases.context import PhaseContext
from daemon.phases.manifest import environment
from daemon.progress_bar import Bars
from daemon.rerun.errors import FolderTaken
from daemon.rerun.plan import differences, learning_phases
from daemon.rerun.snapshot import Store, snapshot
from daemon.settings import Settings
from daemon.spec import parse_spec
from daemon.stores import open_blobs, open_database, utc_now
from storage import checkpoints, iterations, manifests, phase_runs
from storage.claims import ClaimedRun
from storage.errors import BlobMissing
from storage.manifests import KeptManifest

PHASES = {"finetune_world_model": finetune_world_model.run, "update_policy": update_policy.run}
REPORT = "rerun.json"
LEASE_S = 3600.0  # nobody else knows the copy, so that the lease never has to be renewed


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A checkpoint of then and now: sha256 of its tensors; None where there is none, or no file any more."""

    phase: str
    kind: str
    then: str | None
    now: str | None

    @property
    def equal(self) -> bool:
        return self.then is not None and self.then == self.now


def rerun(settings: Settings, number: int, *, out: Path, bars: Bars) -> list[Compared]:
    """Do the learning phases of an iteration again into `out`; the store is only read.

    Args:
        bars: are told what differs from then, how far it is, what came out.

    Returns:
        Every checkpoint that was made then or now, compared; `out` holds the same as rerun.json.

    Raises:
        FolderTaken: `out` is not empty.
        PageNotFound, ManifestMissing: there is nothing to do again.
        SnapshotChanged: the store no longer holds what was read.
        DaemonError, StorageError, LearningError: as the phases themselves.
    """
    if out.exists() and any(out.iterdir()):
        raise FolderTaken(folder=out)
    source = Store(database=open_database(settings), blobs=open_blobs(settings))
    try:
        source.database.require_current()
        kept = learning_phases(source.database, number)
        differing = announced(kept, bars=bars)
        compared = [
            each
            for one in kept
            for each in phase_again(source, one, settings=settings, folder=out / one.run.phase, bars=bars)
        ]
    finally:
        source.database.dispose()
    for each in compared:
        bars.say(f"{each.phase}, {each.kind}: {'equal' if each.equal else 'different'}")
    document = {
        "iteration": number,
        "differences": differing,
        "checkpoints": [{**asdict(each), "equal": each.equal} for each in compared],
    }
    (out / REPORT).write_text(json.dumps(document, indent=2), encoding="utf-8")
    return compared


def announced(kept: list[KeptManifest], *, bars: Bars) -> list[str]:
    """Take over precision and threads, and tell what is not as it was, before anything is computed."""
    found: list[str] = []
    for one in kept:
        then = inputs_of(one)
        with as_then(then):
            now = {"code": dict(code_version()), "environment": environment()}
            found += differences(then, now)
    differing = list(dict.fromkeys(found))
    for sentence in differing:
        bars.say(f"not as it was: {sentence}")
    bars.say(
        "what comes out may differ in some bits"
        if differing
        else "code, packages and machine are as they were"
    )
    return differing


@contextmanager
def as_then(inputs: Mapping[str, Any]) -> Iterator[None]:
    """With the precision and the threads of then, whatever this machine would choose today."""
    then, threads = inputs["environment"], torch.get_num_threads()
    torch.set_num_threads(then["threads"])
    try:
        with precision_of(choose_device().type, getattr(torch, then["precision"])):
            yield
    finally:
        torch.set_num_threads(threads)


def phase_again(
    source: Store, kept: KeptManifest, *, settings: Settings, folder: Path, bars: Bars
) -> list[Compared]:
    """One phase, in a store of its own; its checkpoints beside those of then."""
    phase, inputs = kept.run.phase, inputs_of(kept)
    bars.say(f"{phase}: is done again")
    folder.mkdir(parents=True)
    copy = snapshot(source, kept, folder=folder)
    remember_answers(settings, kept, folder=folder)
    again = settings.model_copy(
        update={
            "data_dir": folder,
            "database_url": None,
            "preset": inputs["preset"],
            "imagination_engine": inputs["engine"],
        }
    )
    try:
        with as_then(inputs):
            claimed, context = claimed_in(copy, kept, settings=again, bars=bars)
            outcome = PHASES[phase](context)
        with copy.database.write() as session:
            phase_runs.finish(session, claimed, outcome=outcome, now=utc_now())
        then, now = digests(source, kept.run.outcome or {}), digests(copy, outcome)
    finally:
        copy.database.dispose()
    return [
        Compared(phase=phase, kind=kind, then=then.get(kind), now=now.get(kind))
        for kind in sorted({*then, *now})
    ]


def claimed_in(
    copy: Store, kept: KeptManifest, *, settings: Settings, bars: Bars
) -> tuple[ClaimedRun, PhaseContext]:
    """A run of the phase in the copy, held as a worker holds one, and its context."""
    with copy.database.write() as session:
        row = iterations.get(session, kept.run.iteration_id)
        phase_runs.queue(session, row, phase=kept.run.phase, now=utc_now())
        claimed = phase_runs.claim(session, "rerun", ttl_s=LEASE_S, now=utc_now())
    if claimed is None:
        raise AssertionError("a run that was just queued is there to be claimed")
    work_dir = settings.data_dir / "work"
    work_dir.mkdir()
    return claimed, PhaseContext(
        database=copy.database,
        blobs=copy.blobs,
        settings=settings,
        spec=parse_spec(claimed.spec),
        iteration_id=claimed.iteration_id,
        iteration_number=claimed.iteration_number,
        phase_run_id=claimed.phase_run_id,
        fence=claimed.fence,
        work_dir=work_dir,
        report=partial(bars.share, kept.run.phase),
        record=lambda values: None,
        now=utc_now,
    )


def remember_answers(settings: Settings, kept: KeptManifest, *, folder: Path) -> None:
    """What a judge at an endpoint answered then is answered again; nothing new is asked, and nothing is paid.

    The budget of the copy counts as spent, so a question without a kept answer meets an empty budget.
    """
    inputs = inputs_of(kept)
    if "vlm_http" not in inputs["judge"]["kinds"]:
        return
    answers = settings.data_dir / "judge" / "answers"
    if answers.is_dir():
        shutil.copytree(answers, folder / "judge" / "answers")
    costs = folder / "judge" / "costs"
    costs.mkdir(parents=True)
    spent = {"requests": 2**62, "prompt_tokens": 0, "completion_tokens": 0, "usd": 0.0, "cached": 0}
    (costs / f"{inputs['iteration']['id']}.json").write_text(json.dumps(spent), encoding="utf-8")


def digests(store: Store, outcome: Mapping[str, Any]) -> dict[str, str | None]:
    """Of every checkpoint that a phase left, by kind: sha256 of its tensors; None where its file is gone."""
    left: dict[str, str] = {**(outcome.get("made") or {}), **(outcome.get("rejected") or {})}
    with store.database.read() as session:
        known = manifests.tensor_digests(session, left.values())
        rows = {kind: checkpoints.get(session, checkpoint_id) for kind, checkpoint_id in left.items()}
    found: dict[str, str | None] = {}
    for kind, row in rows.items():
        try:
            found[kind] = known.get(row.id) or tensors_digest(checkpoints.path(row, store.blobs))
        except BlobMissing:
            found[kind] = None
    return found
