"""Where an interrupted training of a phase goes on from: one file per iteration and training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.resumable import Resumable, every
from daemon.learning.state import CheckpointUnreadable
from daemon.phases.context import PhaseContext
from storage.canonical import json_digest

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def resumable(context: PhaseContext, name: str, *, inputs: Mapping[str, Any], every_s: float) -> Resumable:
    """The state of this iteration's training of that name.

    Args:
        inputs: what besides the spec makes it this training, as JSON takes it.
        every_s: an interrupted training loses at most so much; 0 writes the state after every update.
    """
    folder = context.settings.data_dir / "resume"
    folder.mkdir(parents=True, exist_ok=True)
    precision = str(
        choose_precision(choose_device().type)
    )  # half a training in another one is no rerun of it
    binding = {**inputs, "spec": context.spec.digest(), "precision": precision}
    return Resumable(
        file=folder / f"{context.iteration_id}-{name}.safetensors",
        binding=json_digest(binding, what="a training's inputs"),
        due=every(every_s, clock=lambda: context.now().timestamp()),
    )


def resumed(context: PhaseContext, state: Resumable, attempt: Callable[[], Result]) -> Result:
    """Do `attempt`, which goes on from the state; where that is unreadable, once more from the beginning."""
    try:
        return attempt()
    except CheckpointUnreadable as refused:
        if not state.file.is_file():
            raise
        log.warning("training begins anew phase_run=%s reason=%s", context.phase_run_id, refused)
        state.file.unlink()
        return attempt()
