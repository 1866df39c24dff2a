"""How long each page of the dashboard takes, and how heavy it is, with a large database.

    python -m benchmarks.page_load [--episodes 100000 --iterations 1000] [--asked 20] [--folder FOLDER]

One `gymnastd serve`, asked by one browser for one page after the other: every page, and the list of episodes
by every filter, among them some that match nothing. Printed is the time from the question to the last byte,
what the server's processor had of it (the same on a busy machine, where the wall clock is not), and the size
of the page, against what is asked for: 95 of 100 pages in 300 ms, each of at most 200 kB. Files to be kept,
which are no pages, are timed as well. Exit status 1 where a page is beyond a limit by its processor time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import requests
import sqlalchemy as sa
from fastapi.routing import iter_route_contexts

from benchmarks.page_load_rows import bring_in
from benchmarks.rest_load import cpu_seconds, quantile, serving
from benchmarks.rest_load_rows import EVERY, START, STATIONS, TASKS
from daemon.dashboard.routes import router
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database
from storage import episodes
from storage.db import SQLITE_NAME
from storage.tables import CheckpointRow, EpisodeRow
from tests.daemon.conftest import build_episode

MOST_MS, MOST_BYTES = 300.0, 200_000
HTML = {"Accept": "text/html"}
PATIENCE_S = 120.0
STEPS = 60  # of the one episode that has its files


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One page, asked for several times."""

    path: str
    took_ms: Sequence[float]
    cpu_ms: float  # of the server, on the average
    size: int  # bytes

    @property
    def is_page(self) -> bool:
        return ".csv" not in self.path

    @property
    def is_within(self) -> bool:
        """Whether a page keeps to the limits; the wall clock of a busy machine is no fault of the page."""
        return not self.is_page or (self.cpu_ms <= MOST_MS and self.size <= MOST_BYTES)

    def line(self) -> str:
        took = sorted(self.took_ms)
        cells = (
            f"`{self.path}`",
            f"{quantile(took, 0.5):.0f}",
            f"{quantile(took, 0.95):.0f}",
            f"{self.cpu_ms:.0f}",
            f"{self.size / 1000:.1f}",
            "" if self.is_within else "**too much**",
        )
        return f"| {' | '.join(cells)} |"


def lists() -> list[str]:
    """Every page whose address has nothing to fill in."""
    paths = {route.path for route in iter_route_contexts(router.routes) if "GET" in route.methods}
    return sorted(path for path in paths if "{" not in path)


def filters(policy: str, *, iterations: int) -> Iterator[str]:
    """The list of episodes by every field alone, by several, and by what nothing fits."""
    begun, middle = START.date(), (START + iterations // 2 * EVERY).date()
    yield from (f"label={label}" for label in ("success", "failure", "unlabelled"))
    yield from (f"valid={valid}" for valid in ("yes", "no"))
    yield from (
        f"task={TASKS[0]}",
        f"station={STATIONS[1]}",
        f"policy={policy}",
        f"iteration={iterations // 2}",
    )
    yield from (f"from={middle}", f"to={middle}", f"from={begun}&to={begun + timedelta(days=1)}")
    yield f"from={begun}&to={middle}&label=failure"
    yield f"task={TASKS[0]}&label=success&station={STATIONS[0]}&valid=yes"
    yield f"policy={policy}&label=failure"
    yield "task=nobody"  # nothing fits from here on
    yield "station=nobody&label=success"
    yield "from=2100-01-01&label=success"
    yield f"policy={policy}&iteration={iterations // 2 + 3}"
    yield f"label=unlabelled&valid=no&task={TASKS[0]}&station={STATIONS[0]}&to={begun + timedelta(days=9)}"
    yield f"label=unlabelled&valid=no&policy={policy}"
    yield f"valid=no&label=unlabelled&from={middle}"  # a dozen fit, so that every episode is looked at


def pages(folder: Path, *, iterations: int) -> list[str]:
    """What is asked for, in order."""
    database = open_database(Settings(data_dir=folder))
    with database.read() as session:
        number = sa.select(CheckpointRow.id).where(CheckpointRow.kind == "policy")
        policy = session.scalars(number.where(CheckpointRow.number == iterations // 2)).one()
        newest = sa.select(EpisodeRow.id).order_by(EpisodeRow.committed_at.desc())
        episode = session.scalars(newest.limit(1)).one()
        first = sa.select(EpisodeRow.committed_at).order_by(EpisodeRow.committed_at).limit(1)
        old = session.scalars(first).one()
    database.dispose()
    return [
        *lists(),
        *(f"/iterations/{number}" for number in (1, iterations // 2, iterations - 1, iterations)),
        f"/iterations?cursor={iterations // 2}",
        f"/progress?cursor={iterations // 2}",
        f"/trust?cursor={iterations // 2}",
        f"/imagination?iteration={iterations}",
        f"/episodes/{episode}",
        f"/episodes?cursor={old.date()}T23:59:59%2B00:00~0",
        *(f"/episodes?{asked}" for asked in filters(policy, iterations=iterations)),
        *(f"/progress/{table}.csv" for table in ("success-rates", "policies", "costs")),
    ]


def measure(url: str, path: str, *, pid: int, times: int) -> Measured:
    """Ask for a page so many times, after once that does not count.

    Raises:
        SystemExit: the answer is no page.
    """
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url + path, headers=HTML, timeout=PATIENCE_S)
        if answer.status_code != 200:
            raise SystemExit(f"{path} answers {answer.status_code}: {answer.text[:300]}")
        used_s, took_ms = cpu_seconds(pid), []
        for _ in range(times):
            asked = time.perf_counter()
            session.get(url + path, headers=HTML, timeout=PATIENCE_S)
            took_ms.append(1000 * (time.perf_counter() - asked))
        cpu_ms = 1000 * (cpu_seconds(pid) - used_s) / times
    return Measured(path=path, took_ms=took_ms, cpu_ms=cpu_ms, size=len(answer.content))


def prepare(folder: Path, *, episodes_wanted: int, iterations: int) -> None:
    """A lab of this size in a folder, and one episode that has its files."""
    settings, begun = Settings(data_dir=folder), time.monotonic()
    database = open_database(settings)
    database.upgrade()
    bring_in(database, folder, episodes=episodes_wanted, iterations=iterations)
    with database.write() as session:
        episodes.commit(
            session,
            open_blobs(settings),
            build_episode(1, steps=STEPS),
            provenance=episodes.Provenance(origin="imported"),
            now=START + (iterations + 2) * EVERY,
        )
    database.dispose()
    took_s = time.monotonic() - begun
    print(f"{iterations} iterations, {episodes_wanted} episodes, brought in in {took_s:.0f} s")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--episodes", type=int, default=100_000)
    options.add_argument("--iterations", type=int, default=1000)
    options.add_argument("--asked", type=int, default=20, help="times that each page is asked for")
    options.add_argument("--only", default="", help="pages whose address contains this")
    options.add_argument("--folder", type=Path, help="keep the database here and use it again")
    asked = options.parse_args()
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (folder / SQLITE_NAME).is_file():
            prepare(folder, episodes_wanted=asked.episodes, iterations=asked.iterations)
        paths = [path for path in pages(folder, iterations=asked.iterations) if asked.only in path]
        url, _, pid = stack.enter_context(serving(folder))
        print("| page | p50 ms | p95 ms | processor ms | kB | |\n|---|---|---|---|---|---|")
        found = []
        for path in paths:
            found.append(measure(url, path, pid=pid, times=asked.asked))
            print(found[-1].line(), flush=True)
    beyond = [one.path for one in found if not one.is_within]
    print(f"{len(found)} addresses, {len(beyond)} beyond {MOST_MS:.0f} ms or {MOST_BYTES / 1000:.0f} kB")
    print(f"load average of the machine: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    sys.exit(1 if beyond else 0)


if __name__ == "__main__":
    main()
