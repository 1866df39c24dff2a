"""What `--json` means beyond REST: one document on standard output, and nothing else there."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.cli_rest import say_json

if TYPE_CHECKING:
    from daemon.settings import Settings


@contextmanager
def aside(as_json: bool) -> Iterator[None]:
    """Where a document is wanted, what work says meanwhile, and asks, goes to standard error."""
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def tell_kept(file: Path, as_json: bool, **more: object) -> None:
    """Print the document that work has left in a file, the folder that it lies in, and what else is known.

    Without `--json` it has been told in words already.
    """
    if as_json:
        kept = json.loads(file.read_text(encoding="utf-8"))
        say_json({"folder": str(file.parent), **more, **kept})


def tell_made(settings: "Settings", checkpoint_id: str, as_json: bool, **more: object) -> None:
    """Print a checkpoint of the store as `gymnastd checkpoint ID --json` does, and what else is known.

    Without `--json` it has been told in words already.
    """
    from daemon.checkpoint_record import kept_record

    if as_json:
        say_json({**kept_record(settings, checkpoint_id), **more})
