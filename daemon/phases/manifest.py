"""The manifest of a phase run: everything that it works from, written before it works.

Spec, code, packages, processor, precision and threads; checkpoints and episodes by digest, each episode with
the labels that were there; judge, and what else the phase names. What came of it is not in here: the outcome
of the run says so, and `daemon/iteration_manifest.py` puts both together. Whoever has the store and this can
do the phase again (`daemon/rerun`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.orm import Session

from daemon.code_version import code_version, platform_facts
from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.reward.vlm import PROMPT_VERSION
from daemon.phases.context import PhaseContext
from storage import labels, manifests, phase_runs
from storage.tables import CheckpointRow, EpisodeRow

FORMAT = "phase-manifest/1"
WHOLE_FILE_BYTES = 1 << 20  # of a judge's model folder, smaller files are hashed whole, weights by their size

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a phase read.

    Attributes:
        checkpoints: by kind.
        episodes: as `episode_entries` gives them.
        more: what else made a difference, as JSON takes it.
    """

    checkpoints: Mapping[str, CheckpointRow]
    episodes: Sequence[Document] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


def write_manifest(context: PhaseContext, inputs: Inputs) -> None:
    """Keep what this run works from, before it works.

    Raises:
        LeaseLost: another worker has this phase run by now; nothing was kept.
    """
    with context.database.read() as session:
        phase = phase_runs.get(session, context.phase_run_id).phase
    content = manifest_document(context, inputs, phase=phase)  # hashes files: nobody waits for that
    with context.database.write() as session:
        phase_runs.require_held(session, context.phase_run_id, fence=context.fence)
        manifests.save(session, context.phase_run_id, content, now=context.now())


def manifest_document(context: PhaseContext, inputs: Inputs, *, phase: str) -> Document:
    """The manifest as JSON."""
    return {
        "format": FORMAT,
        "phase": phase,
        "iteration": {"id": context.iteration_id, "number": context.iteration_number},
        "spec_digest": context.spec.digest(),
        "seed": context.spec.seed,
        "code": dict(code_version()),
        "environment": environment(),
        "preset": context.settings.preset,
        "engine": context.settings.imagination_engine,
        "judge": judge_version(context),
        "checkpoints": {kind: checkpoint_entry(row) for kind, row in sorted(inputs.checkpoints.items())},
        "episodes": list(inputs.episodes),
        **inputs.more,
    }


def environment() -> Document:
    """What this process computes with."""
    device = choose_device()
    return {
        **platform_facts(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "device": device.type,
        "accelerator": torch.cuda.get_device_name() if device.type == "cuda" else None,
        "precision": str(choose_precision(device.type)).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def checkpoint_entry(row: CheckpointRow) -> Document:
    return {"id": row.id, "number": row.number, "sha256": row.sha256}


def episode_entries(session: Session, uses: Mapping[str, Sequence[EpisodeRow]]) -> list[Document]:
    """Episodes as a manifest names them: what for, which recording, which labels, and which of them counts.

    Call it in the session that the episodes were read in, so that no label slips in between.

    Args:
        uses: episodes by what they are read for; one may be read for several things.
    """
    ids = [row.id for rows in uses.values() for row in rows]
    known, counts = labels.ids_of(session, ids), labels.effective_labels(session, ids)
    return [
        {
            "id": row.id,
            "sha256": row.manifest_sha256,
            "use": use,
            "held_out": row.held_out,
            "labels": known.get(row.id, []),
            "success": counts[row.id].success if row.id in counts else None,
        }
        for use, rows in uses.items()
        for row in rows
    ]


def judge_version(context: PhaseContext) -> Document:
    """Who judges: the kind, and what of a vision-language model the spec does not say.

    The classifier is a checkpoint, which the manifest names among the others.
    """
    spec, settings = context.spec.judge, context.settings
    kinds = spec.ensemble if spec.kind == "ensemble" else (spec.kind,)
    version: Document = {"kinds": list(kinds)}
    if "vlm_http" in kinds:
        version["vlm_http"] = {"url": settings.judge_url, "prompt": PROMPT_VERSION}
    if "vlm_local" in kinds and settings.judge_model_dir is not None:
        digest = folder_digest(settings.judge_model_dir)
        version["vlm_local"] = {"sha256": digest, "prompt": PROMPT_VERSION}
    return version


def folder_digest(folder: Path) -> str:
    """sha256 over names, sizes and small contents of a model's files."""
    entries = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        content = hashlib.sha256(path.read_bytes()).hexdigest() if size <= WHOLE_FILE_BYTES else ""
        entries.append([path.relative_to(folder).as_posix(), size, content])
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
