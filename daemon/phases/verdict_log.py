"""What the judge said of every rollout of an update: a line per batch while it runs, one blob in the end.

The blob is JSON lines in gzip, each with update, batch, group_size, starts (numbers of the groups' first
frames, in the order of the manifest), instructions, known, success, probability, and votes (how many could be
read) where the judge counts votes; for an ensemble the same of each member, in the order of the spec. A phase
that is interrupted goes on with the lines it has; an update that is made again says the same again, and the
last word counts.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path
from typing import Any

from daemon.learning.policy_update import Judged
from daemon.learning.reward.judge import Verdicts
from storage.blobs import BlobStore

DIGITS = 4


class VerdictLog:
    """The lines of one phase, in a file beside the state that the phase goes on from.

    Args:
        state: that state's file, written or not.
    """

    def __init__(self, state: Path) -> None:
        self._file = state.with_suffix(".verdicts")

    def add(self, judged: Judged) -> None:
        """Keep what was said of one batch; it is on disk before anybody learns from it."""
        with self._file.open("a") as file:
            file.write("\n" + json.dumps(line_of(judged)))  # whatever was cut short before ends here
            file.flush()
            os.fsync(file.fileno())

    def keep(self, blobs: BlobStore) -> str | None:
        """Put all lines into the store; the blob's sha256, None where nothing was judged."""
        lines: dict[tuple[int, int], str] = {}
        for text in self._file.read_text().splitlines() if self._file.is_file() else ():
            try:
                line = json.loads(text)
                lines[line["update"], line["batch"]] = text
            except (ValueError, KeyError, TypeError):  # cut short by a crash; it was said again after
                continue
        if not lines:
            return None
        whole = "".join(f"{lines[place]}\n" for place in sorted(lines))
        return blobs.put(gzip.compress(whole.encode(), mtime=0))

    def drop(self) -> None:
        """The lines are in the store, or of updates that begin anew."""
        self._file.unlink(missing_ok=True)


def line_of(judged: Judged) -> dict[str, Any]:
    """One batch as JSON takes it."""
    said = said_of(judged.verdicts)
    members = [said_of(member) for member in judged.verdicts.members]
    return {
        "update": judged.update,
        "batch": judged.batch,
        "group_size": judged.group_size,
        "starts": list(judged.starts),
        "instructions": list(judged.instructions),
        **said,
        **({"members": members} if members else {}),
    }


def said_of(verdicts: Verdicts) -> dict[str, Any]:
    """What a judge said, rollout by rollout."""
    probability = [round(p, DIGITS) if math.isfinite(p) else None for p in verdicts.probability.tolist()]
    return {
        "known": verdicts.known.tolist(),
        "success": verdicts.success.tolist(),
        "probability": probability,
        "votes": None if verdicts.votes is None else verdicts.votes.tolist(),
    }
