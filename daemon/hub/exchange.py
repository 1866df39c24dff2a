"""Checkpoints out of the store of these settings into folders, and in; in as single files too."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.hub.card import about, model_card
from daemon.hub.folder import README, read_folder, write_folder
from daemon.iteration import require_lineage
from daemon.learning.policy.loading import load_policy
from daemon.learning.policy.tokens import nano_binning
from daemon.learning.policy.vlm_policy import VlmPolicy
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.state import CheckpointUnreadable, load_state
from daemon.learning.world_model.model import WorldModel
from daemon.operations.progress import Report
from daemon.phases.arms import champion_of
from daemon.settings import Settings
from daemon.spec import parse_spec
from daemon.stores import open_blobs, open_database, utc_now
from storage import checkpoints
from storage.adoption import CANDIDATE
from storage.canonical import json_digest
from storage.interchange.errors import TargetNotEmpty
from storage.lineages import MAIN
from storage.tables import CheckpointRow

CHAMPION = "champion"
ACTION_HEAD, UNTAUGHT = "action_head", "untaught"  # in the card of a policy that knows nothing yet
READERS: Mapping[str, Callable[[Path], object]] = {
    "policy": load_policy,
    "world_model": WorldModel.load,
    "judge": ClassifierJudge.load,
}


def export_checkpoint(
    settings: Settings,
    wanted: str,
    folder: Path,
    *,
    licence: str,
    lineage: str = MAIN,
    report: Report = lambda share, text: None,
) -> CheckpointRow:
    """Write a checkpoint, by its id or the champion of a lineage, into an empty folder.

    Raises:
        TargetNotEmpty: the folder is not empty.
        PageNotFound: no iteration is of this lineage.
        RowMissing, Retired, BlobMissing, CheckpointCorrupt: there is no such checkpoint, or no file of it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TargetNotEmpty(folder=folder)
    database, blobs = open_database(settings), open_blobs(settings)
    try:
        database.upgrade()
        if wanted == CHAMPION:
            now = utc_now()
            with database.read() as session:
                require_lineage(session, lineage)
            wanted = champion_of(database, blobs, lineage=lineage, preset=settings.preset, now=now).id
        with database.read() as session:
            row = checkpoints.get(session, wanted)
            found = about(session, row)
    finally:
        database.dispose()
    said = {name: getattr(row, name) for name in ("id", "number", "sha256", "spec_digest", "parent_id")}
    card = {"row_card": row.card, "episodes": found.episodes, "data_sha256": found.data_digest}
    report(0.0, "reads the checkpoint")
    state = load_state(checkpoints.path(row, blobs), kind=row.kind)
    report(0.3, "writes its parts")
    write_folder(state, folder, about={**said, **card}, hashed=_files(report, begin=0.6, what="hashes"))
    (folder / README).write_text(model_card(found, licence=licence), encoding="utf-8")
    return row


def import_checkpoint(
    settings: Settings,
    path: Path,
    *,
    adopt: bool,
    lineage: str = MAIN,
    report: Report = lambda share, text: None,
) -> tuple[CheckpointRow, bool]:
    """Bring a checkpoint in for a lineage; one that it has is found. Gives its row and whether it is new.

    A policy is a candidate: the lineage's next iteration tries it. What else it is lies there, and is gone on
    from only with `adopt`.

    Args:
        path: a folder that `export_checkpoint` wrote, or one checkpoint file of any kind.

    Raises:
        SpecInvalid: no lineage can have this name.
        CheckpointFolderInvalid: the folder is not whole, or was changed.
        CheckpointUnreadable: the file is no checkpoint, or its parts do not fit together.
    """
    lineage = parse_spec({"lineage": lineage}).lineage
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database, blobs = open_database(settings), open_blobs(settings)
    try:
        database.upgrade()
        with TemporaryDirectory(prefix="gymnastd-") as scratch:
            file = Path(scratch) / "checkpoint.safetensors"
            hashed = _files(report, begin=0.0, what="checks digests")
            index = _copied(path, file) if path.is_file() else read_folder(path, file, hashed=hashed)
            report(0.7, "keeps it")
            with database.write() as session:
                row = _same(session, index, lineage=lineage)
                is_new = row is None
                if row is None:
                    new = _new(session, index, adopt=adopt, lineage=lineage)
                    row = checkpoints.save(session, blobs, new, file=file, now=utc_now())
            report(1.0, "kept" if is_new else "was there")
            return row, is_new
    finally:
        database.dispose()


def import_backbone(
    settings: Settings, folder: Path, *, lineage: str, image_size: int, chunk: int, seed: int
) -> tuple[CheckpointRow, bool]:
    """Bring in a policy on a transformers backbone, its action head untaught; its row, and if it is new.

    It is kept and neither acts nor is tried: what `sft` makes of it is.

    Raises:
        SpecInvalid: no lineage can have this name.
        CheckpointUnreadable: the folder holds no image-text-to-text model in safetensors and its processor.
    """
    policy = VlmPolicy.of_folder(
        folder, binning=nano_binning(), image_size=image_size, chunk=chunk, seed=seed
    )
    with TemporaryDirectory(prefix="gymnastd-") as scratch:
        file = Path(scratch) / "policy.safetensors"
        policy.save(file, {"backbone": folder.name, ACTION_HEAD: UNTAUGHT, "seed": seed})
        return import_checkpoint(settings, file, adopt=False, lineage=lineage)


def _copied(path: Path, file: Path) -> dict[str, Any]:
    """Copy a checkpoint file that can be built; gives what a folder's index would say of it."""
    state = load_state(path)
    if state.kind not in READERS:
        raise CheckpointUnreadable(path=path, expected=f"a kind of {', '.join(READERS)}", found=state.kind)
    READERS[state.kind](path)
    copy(path, file)
    with file.open("rb") as whole:
        digest = hashlib.file_digest(whole, "sha256").hexdigest()
    card = {"id": path.name, "sha256": digest, "spec_digest": json_digest(state.card, what="card")}
    return {"kind": state.kind, "checkpoint": {**card, "row_card": state.card}}


def _files(report: Report, *, begin: float, what: str) -> Callable[[int, int], None]:
    """Tells of files that are hashed, as four tenths of all the work."""
    return lambda done, of: report(begin + 0.4 * done / of, f"{what}, file {done} of {of}")


def _same(session: Session, index: dict[str, Any], *, lineage: str) -> CheckpointRow | None:
    """The checkpoint of this lineage, or of all, that has these very bytes and still has its file."""
    query = sa.select(CheckpointRow).where(
        checkpoints.may_be_of(lineage),
        CheckpointRow.kind == index["kind"],
        CheckpointRow.sha256 == index["checkpoint"]["sha256"],
        CheckpointRow.retired_at.is_(None),
    )
    return session.scalars(query.order_by(CheckpointRow.number).limit(1)).one_or_none()


def _new(session: Session, index: dict[str, Any], *, adopt: bool, lineage: str) -> checkpoints.NewCheckpoint:
    said = index["checkpoint"]
    card = {**said.get("row_card", {}), "imported_from": said["id"]}
    card.pop(CANDIDATE, None)  # there it was to be kept only; what it is here is decided here
    untaught = card.get(ACTION_HEAD) == UNTAUGHT  # no robot is to be driven by it
    if untaught or (index["kind"] != "policy" and not adopt):
        card[CANDIDATE] = True
    parent = said.get("parent_id")
    known = parent is not None and session.get(CheckpointRow, parent) is not None
    return checkpoints.NewCheckpoint(
        kind=index["kind"],
        spec_digest=said["spec_digest"],
        card=card,
        parent_id=parent if known else None,
        lineage=lineage,
    )
