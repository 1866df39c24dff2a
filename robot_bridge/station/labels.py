"""Verdicts on episodes, added one after the other and never changed: the desk that keeps them, and its calls.

    labels/<episode id>.jsonl    one verdict a line, each with the key and the request it came with

An episode can be judged while it waits in the spool and after it was acknowledged. The verdicts of its own
manifest come first and count like any other.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, ValidationError

from robot_bridge.episode import LabelSource, ManifestLabel
from robot_bridge.errors import BadRequest, IdempotencyMismatch, StationRefused
from robot_bridge.events import LabelAnswer, LabelRequest, LabelsAnswer
from robot_bridge.protocol import IDEMPOTENCY_HEADER, EpisodeId
from robot_bridge.station.durable import append_line
from robot_bridge.station.journal import Journal
from robot_bridge.station.plain_json import PlainJsonRoute
from robot_bridge.station.spool import Spool

log = logging.getLogger(__name__)

LABELS_MAX: Final = 1000  # of one episode, so that nobody fills the disk with verdicts
PRIORITY: Final[dict[LabelSource, int]] = {"human": 3, "sim_predicate": 2, "classifier": 1, "vlm": 0}


class LabelNotKept(StationRefused):
    code = "label_not_kept"
    retryable = True
    sentence = (
        "a label of episode {episode_id} was not kept: {reason}. Make room at the station; send it again."
    )


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True)

    key: str | None
    request_sha256: str
    label: LabelAnswer


class LabelDesk:
    """Keeps the verdicts of one station. All methods may be called from any thread.

    `own` are the labels of the episode's manifest, see `Spool.verdicts`; the desk does not keep them.
    """

    def __init__(self, root: Path, *, now: Callable[[], datetime], journal: Journal) -> None:
        self._root = root / "labels"
        self._root.mkdir(parents=True, exist_ok=True)
        self._now = now
        self._journal = journal
        self._lock = threading.Lock()

    def add(
        self, episode_id: str, request: LabelRequest, *, key: str | None, own: Sequence[ManifestLabel] = ()
    ) -> LabelAnswer:
        """Add a verdict; the same key and verdict again give the one that was added before.

        Raises:
            IdempotencyMismatch: the key came with another verdict.
            BadRequest: the episode has as many verdicts as one may have.
            LabelNotKept: the disk does not take it; nothing was added.
        """
        digest = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
        with self._lock:
            kept = self._read(episode_id)
            for line in kept:
                if key is not None and line.key == key:
                    if line.request_sha256 != digest:
                        raise IdempotencyMismatch(thing=f"a label of episode {episode_id}")
                    return line.label
            if len(kept) >= LABELS_MAX:
                reason = f"it has {LABELS_MAX} labels, which is as many as one may have"
                raise BadRequest(thing=f"a label of episode {episode_id}", reason=reason)
            number = len(own) + len(kept) + 1
            label = LabelAnswer(number=number, at=self._now(), **request.model_dump())
            self._write(episode_id, _Line(key=key, request_sha256=digest, label=label))
        self._journal.append(
            "label_added",
            episode_id=episode_id,
            number=number,
            source=label.source,
            success=label.success,
            judge=label.judge,
        )
        return label

    def of(self, episode_id: str, *, own: Sequence[ManifestLabel] = ()) -> LabelsAnswer:
        """All verdicts on an episode, and the one that counts."""
        labels = [
            LabelAnswer(number=place, **verdict.model_dump()) for place, verdict in enumerate(own, start=1)
        ]
        with self._lock:
            labels += [line.label for line in self._read(episode_id)]
        return LabelsAnswer(episode_id=episode_id, labels=tuple(labels), effective=effective(labels))

    def _path(self, episode_id: str) -> Path:
        return self._root / f"{episode_id}.jsonl"

    def _read(self, episode_id: str) -> list[_Line]:
        try:
            lines = self._path(episode_id).read_bytes().split(b"\n")[:-1]  # the last one may be half
        except FileNotFoundError:
            return []
        return [line for raw in lines if (line := _line_of(raw, episode_id)) is not None]

    def _write(self, episode_id: str, line: _Line) -> None:
        try:
            append_line(self._path(episode_id), line.model_dump_json().encode())
        except OSError as cause:
            raise LabelNotKept(episode_id=episode_id, reason=cause.strerror or "no room") from cause


def effective(labels: Sequence[LabelAnswer]) -> LabelAnswer | None:
    """The verdict that counts: human > sim_predicate > classifier > vlm, of equals the newest, none without
    an answer; None when there is no such verdict.
    """
    answered = [label for label in labels if label.success is not None]
    return max(answered, key=lambda label: (PRIORITY[label.source], label.number), default=None)


def label_routes(desk: LabelDesk, spool: Spool) -> APIRouter:
    """POST and GET /v1/episodes/{id}/labels, for episodes that this station has or had."""
    router = APIRouter(prefix="/v1", route_class=PlainJsonRoute)

    @router.post("/episodes/{episode_id}/labels", status_code=201)
    def add(
        episode_id: EpisodeId,
        request: LabelRequest,
        key: Annotated[str | None, Header(alias=IDEMPOTENCY_HEADER, max_length=200)] = None,
    ) -> LabelAnswer:
        return desk.add(episode_id, request, key=key, own=spool.verdicts(episode_id))

    @router.get("/episodes/{episode_id}/labels")
    def labels(episode_id: EpisodeId) -> LabelsAnswer:
        return desk.of(episode_id, own=spool.verdicts(episode_id))

    return router


def _line_of(raw: bytes, episode_id: str) -> _Line | None:
    try:
        return _Line.model_validate_json(raw)
    except ValidationError:
        log.error("label not read episode=%s bytes=%d", episode_id, len(raw))
        return None
