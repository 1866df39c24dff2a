"""The stream of events as a client reads it: it comes back by itself, misses nothing, doubles nothing."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from daemon.client import DaemonClient
from daemon.errors import DaemonRefused, DaemonUnreachable

PAUSE_S = 2.0  # before coming back
TRIES = 30  # in a row without an answer; then the daemon is taken to be gone

LOST = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One piece of the stream. What is only progress has no position."""

    position: int | None
    kind: str
    document: dict[str, Any]


def follow_events(
    client: DaemonClient,
    *,
    after: int | None = None,
    kinds: Sequence[str] = (),
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[Told]:
    """Events behind a position, or from now on, for as long as the caller wants them.

    Raises:
        DaemonUnreachable: nobody answered for a minute.
        DaemonRefused: the daemon does not want the request.
    """
    tries = 0
    while True:
        try:
            answer = client.open_events(kind=list(kinds), after=after)
            tries = 0
            with answer:
                for told in read_events(answer.iter_lines(chunk_size=4096)):
                    after = told.position or after
                    yield told
        except LOST:
            pass  # the daemon ended, or the network did; the position says where to go on
        except (DaemonUnreachable, DaemonRefused) as failed:
            tries += 1
            worth_it = isinstance(failed, DaemonUnreachable) or failed.status == 503
            if not worth_it or tries >= TRIES:
                raise
        pause(PAUSE_S)


def read_events(lines: Iterable[bytes]) -> Iterator[Told]:
    """Server-sent events out of their lines; comments and what was cut off in the middle are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.decode().partition(": ")
        if name:
            fields[name] = value
            continue
        if "data" in fields:
            position = int(fields["id"]) if "id" in fields else None
            yield Told(position=position, kind=fields["event"], document=json.loads(fields["data"]))
        fields = {}
