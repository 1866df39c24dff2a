"""Pictures that people brought, as further starts of a policy update, and as a manifest names them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from daemon.learning.batch import resize_frames
from daemon.phases.context import PhaseContext
from daemon.worlds.pictures import pixels_of
from storage import start_images
from storage.world_tables import StartImageRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """Pictures of people's own: uint8 [1, 3, H, W] each, in the order of their rows."""

    rows: Sequence[StartImageRow]
    images: Sequence[Tensor]

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Instruction and task of each."""
        return [(row.instruction, row.task_id) for row in self.rows]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Which they are, with everything that the update sees of them."""
        return [
            {
                "id": row.id,
                "sha256": (row.image or {})["sha256"],
                "task": row.task_id,
                "instruction": row.instruction,
            }
            for row in self.rows
        ]


def brought(context: PhaseContext, *, size: int, without: Collection[str] = ()) -> Brought:
    """The pictures that this update starts from besides real observations; none unless the spec asks for it.

    Args:
        without: tasks that are left out.

    Raises:
        BlobMissing, BlobCorrupt: a picture is gone, or altered.
    """
    if not context.spec.policy.start_images:
        return Brought(rows=(), images=())
    with context.database.read() as session:
        found = start_images.present(session, tasks=context.spec.tasks)
    rows = [row for row in found if row.task_id not in without]
    files = [context.blobs.read((row.image or {})["sha256"]) for row in rows]
    return Brought(rows=rows, images=[resize_frames(pixels_of(file)[None], size) for file in files])
