"""How quickly `gymnastd serve` answers, with a large database and a training beside it on the same machine.

    python -m benchmarks.rest_load --seconds 60 --clients 32 [--pause 1.0]
        [--episodes 100000 --iterations 1000] [--alone]

The clients live in this process, one thread and one connection each. As a worker would, a second process
trains (a loop of numpy matrix products on one core), and the progress of a phase is written every second.
Each client asks for one page after the other and waits `--pause` seconds on the average between two, as a
dashboard does; `--pause 0` asks as fast as answers come, which measures the throughput, and a queue of
`--clients` requests. Printed against what is asked for: p99 of /v1/iterations and /v1/success-rates at most
50 ms, 150 MB of resident memory, 2 s from start to first answer.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from benchmarks.rest_load_rows import beat, fill
from daemon.heartbeat import LONGEST_INTERVAL_S
from storage.db import SQLITE_NAME, Database, default_url

ROUTES = (  # with how often each is asked for
    ("/v1/iterations", 4),
    ("/v1/success-rates", 4),
    ("/v1/success-rates?by=task,policy", 1),
    ("/v1/success-rates?by=iteration", 1),
    ("/v1/iterations/{number}", 2),
    ("/v1/episodes", 2),
    ("/v1/checkpoints", 1),
    ("/healthz", 1),
    ("/readyz", 1),
)
ASKED_MS = {"/v1/iterations": 50.0, "/v1/success-rates": 50.0}
ASKED_MB, ASKED_START_S = 150.0, 2.0
WARM_UP_S = 2.0  # answers of this time are not counted: every client opens its connection then
TRAIN = "import numpy as np\nm = np.ones((384, 384), np.float32)\nwhile True: m @ m"


@dataclass(slots=True)
class Tally:
    """What the clients saw; each adds to its own lists, so nothing is locked."""

    took_ms: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def client(url: str, tally: Tally, *, pause_s: float, until: float, iterations: int, seed: int) -> None:
    """Ask for pages until the time is over."""
    choose, session = random.Random(seed), requests.Session()
    session.trust_env = False  # looking for a proxy before every request would cost more than the request
    paths, weights = zip(*ROUTES, strict=True)
    begun = time.monotonic()
    time.sleep(choose.random() * min(pause_s, 1.0))
    while time.monotonic() < until:
        route = choose.choices(paths, weights)[0]
        asked = time.perf_counter()
        try:
            answer = session.get(url + route.format(number=choose.randint(1, iterations)), timeout=30)
            took = 1000 * (time.perf_counter() - asked)
            if answer.status_code != 200:
                tally.errors.append(f"{route}: {answer.status_code}")
        except requests.RequestException as failed:
            tally.errors.append(f"{route}: {type(failed).__name__}")
            continue
        if time.monotonic() - begun > WARM_UP_S:
            tally.took_ms.setdefault(route, []).append(took)
        if pause_s:
            time.sleep(choose.expovariate(1.0 / pause_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How long it took from the start of the process to its first answer."""

    wall_s: float
    cpu_s: float


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Start, int]]:
    """`gymnastd serve` as a process: its address, its start, its process id."""
    place = folder / "address"
    place.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "GYMNASTD_DATA_DIR": str(folder),
        "GYMNASTD_PORT": "0",
        "GYMNASTD_WORKER_COUNT": "0",
        "GYMNASTD_LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "daemon.cli", "serve", "--announce", str(place)]
    begun = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as served:
        try:
            while not place.is_file():
                if served.poll() is not None:
                    raise SystemExit(f"serve ended with {served.returncode}")
                time.sleep(0.005)
            url = place.read_text().strip()
            requests.get(f"{url}/healthz", timeout=10).raise_for_status()
            start = Start(wall_s=time.monotonic() - begun, cpu_s=cpu_seconds(served.pid))
            yield url, start, served.pid
        finally:
            served.terminate()
            served.wait(timeout=30)


@contextmanager
def training(wanted: bool) -> Iterator[None]:
    """One core busy, as a worker of one thread would keep it."""
    if not wanted:
        yield
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", TRAIN], env=environment) as busy:
        try:
            yield
        finally:
            busy.kill()


@contextmanager
def beating(folder: Path, every_s: float) -> Iterator[None]:
    """Write as a worker's heartbeat does; answers that are kept end with each write."""
    database, over = Database(default_url(folder)), threading.Event()

    def beat_until_over() -> None:
        beats = 0
        while not over.wait(every_s):
            beats += 1
            beat(database, beats)

    thread = threading.Thread(target=beat_until_over)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        database.dispose()


def bring_in(folder: Path, *, episodes: int, iterations: int) -> None:
    """A database with so many rows."""
    database, begun = Database(default_url(folder)), time.monotonic()
    database.upgrade()
    fill(database, episodes=episodes, iterations=iterations)
    database.dispose()
    print(f"{iterations} iterations, {episodes} episodes, brought in in {time.monotonic() - begun:.0f} s")


def cpu_seconds(pid: int) -> float:
    """What a process has had of the cores: the same on a busy machine, where the wall clock is not."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def load(url: str, *, clients: int, seconds: float, pause_s: float, iterations: int) -> list[Tally]:
    """All clients at once, until the time is over."""
    tallies = [Tally() for _ in range(clients)]
    until = time.monotonic() + WARM_UP_S + seconds
    threads = [
        threading.Thread(
            target=client,
            args=(url, tally),
            kwargs={"pause_s": pause_s, "until": until, "iterations": iterations, "seed": seed},
        )
        for seed, tally in enumerate(tallies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tallies


def show(tallies: Sequence[Tally], *, seconds: float) -> int:
    """A table of routes; how many answers there were."""
    by_route: dict[str, list[float]] = {}
    for tally in tallies:
        for route, took in tally.took_ms.items():
            by_route.setdefault(route, []).extend(took)
    errors = [error for tally in tallies for error in tally.errors]
    total = sum(map(len, by_route.values()))
    print(
        f"{total / seconds:.0f} requests/s, {len(errors)} errors {sorted(set(errors))[:3] if errors else ''}"
    )
    print("| route | requests | p50 ms | p99 ms | asked |\n|---|---|---|---|---|")
    for route, _ in ROUTES:
        took = sorted(by_route.get(route, []))
        if took:
            asked = f"<= {ASKED_MS[route]:.0f}" if route in ASKED_MS else ""
            middle, late = quantile(took, 0.5), quantile(took, 0.99)
            print(f"| {route} | {len(took)} | {middle:.1f} | {late:.1f} | {asked} |")
    return total


def quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--clients", type=int, default=32)
    options.add_argument("--pause", type=float, default=1.0, help="seconds between two requests of a client")
    options.add_argument("--episodes", type=int, default=100_000)
    options.add_argument("--iterations", type=int, default=1000)
    options.add_argument("--folder", type=Path, help="keep the database here and use it again")
    options.add_argument("--alone", action="store_true", help="without a training beside it")
    asked = options.parse_args()
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (folder / SQLITE_NAME).is_file():
            bring_in(folder, episodes=asked.episodes, iterations=asked.iterations)
        stack.enter_context(training(not asked.alone))
        stack.enter_context(beating(folder, LONGEST_INTERVAL_S))
        url, start, pid = stack.enter_context(serving(folder))
        fresh_mb, begun_cpu_s = resident_mb(pid), cpu_seconds(pid)
        wanted = {"clients": asked.clients, "seconds": asked.seconds, "pause_s": asked.pause}
        tallies = load(url, iterations=asked.iterations, **wanted)
        used_cpu_s = cpu_seconds(pid) - begun_cpu_s
        answers = show(tallies, seconds=asked.seconds)
        print(f"{1000 * used_cpu_s / max(1, answers):.1f} ms of processor time per answer of serve")
        print(
            f"cold start {start.wall_s:.2f} s, {start.cpu_s:.2f} s of it on a core (<= {ASKED_START_S:.0f})"
        )
        print(f"resident memory {fresh_mb:.0f}, then {resident_mb(pid):.0f} MB (<= {ASKED_MB:.0f})")
        print(f"load average of the machine: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
