"""The commands of the documents, run page by page in their order, against a daemon of the test.

Not run are those that take many minutes, need hands, or need what is not here; that the program would take
them is held in tests/architecture/test_documents.py. What runs until it is ended is started, and ended.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.phases.arms import champion_of
from daemon.run_log import phase_log
from daemon.settings import Settings
from storage import checkpoints, episodes, phase_runs
from tests.architecture.documents import Line, blocks, options_of, resolved, shell_lines
from tests.daemon.conftest import build_episode
from tests.daemon.learning.policy.tiny_vlms import llava
from tests.daemon.phases.conftest import tiny_installation
from tests.daemon.serving import Served, serving
from tests.daemon.test_offline import write_clip
from tests.waiting import until

pytestmark = pytest.mark.slow

EPISODES = 4
NOT_RUN = {  # by the words of the command
    "demo": "takes many minutes; make demo and tests/e2e/test_demo.py run it",
    "station human-done": "asks a person at a robot; tests/daemon/test_cli_station.py runs it",
    "import worldgym-checkpoint": "needs a published checkpoint of gigabytes",
    "promote": "needs a second policy, whose id nobody can foretell; tests/daemon/test_cli_lab.py runs it",
    "rollback": "as promote",
}
OF_AN_EMPTY_STORE = ("vlm-policy", "--lora-rank")  # lines with one of these have a test of their own
NOT_HERE = {
    "widowx-envs",  # needs the arm
    "worldgym/world_model.safetensors",  # is made by import worldgym-checkpoint
}
SERVERS = {"serve", "station", "policy-server", "autoeval-emulator"}  # announce that they are there
PROGRAM = (  # Ctrl-C ends it even where whoever runs the tests ignores it
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from daemon.cli import main; main()"
)
CURL_OVER = 28  # curl's exit status where --max-time is over, as of a stream that does not end


@dataclass(slots=True)
class Lab:
    """`ports` are those of servers that pages start, as they call them, and where these answer."""

    served: Served
    folder: Path
    ports: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    servers: ExitStack = field(default_factory=ExitStack)

    def run(self, line: Line) -> None:
        if line.words[0] == "curl":
            self.fetch(line)
        elif name_of(line) in SERVERS:
            self.start(line)
        elif name_of(line) == "watch" or "--follow" in line.words:  # until somebody ends them
            self.look(line)
        else:
            with working(self.served) if "--wait" in line.words else nullcontext():
                self.invoke(line)

    def invoke(self, line: Line) -> None:
        """Run a command in this process."""
        done = CliRunner().invoke(app, self.words_of(line), env={"COLUMNS": "200"}, input="y\n")
        told = f"{line}: {done.output}{done.exception!r}"
        if line.into is not None:
            (self.folder / line.into).write_text(done.stdout)
        if name_of(line) == "doctor":
            faults = [found for found in done.output.splitlines() if found.startswith("FAULT")]
            assert [found.split()[1] for found in faults] == ["station:"], told  # there is none here
        else:
            assert done.exit_code == 0, told

    def start(self, line: Line) -> None:
        """Run a server in a process of its own, in a folder of its own, until the page is over."""
        place = self.folder / f"server-{len(self.started)}"
        (place / "spool").mkdir(parents=True)
        for file in [path for path in self.folder.iterdir() if path.is_file()]:
            shutil.copy(file, place)
        words, port = list(line.words[1:]), None
        if "--port" in words:
            at = words.index("--port")
            port = words[at + 1]
            del words[at : at + 2]
        announced = place / "announced"
        environment = {"GYMNASTD_DATA_DIR": str(place / "data"), "GYMNASTD_WORKER_COUNT": "0"}
        words += ["--port", "0", "--announce", str(announced)]
        server = self.servers.enter_context(self.spawned(*words, cwd=place, **environment))
        self.started.append(server)
        until(lambda: announced.is_file() or server.poll() is not None, str(line), within_s=120.0)
        assert announced.is_file(), f"{line}: {server.communicate()}"
        if port is not None:
            self.ports[port] = announced.read_text().strip()

    def look(self, line: Line) -> None:
        """Run what shows a stream until it is told that there is a reader, then end it as Ctrl-C does."""
        feed = self.served.services.feed
        before = feed.listeners
        with self.spawned(*self.words_of(line), cwd=self.folder) as looker:
            until(lambda: feed.listeners > before or looker.poll() is not None, str(line))
            looker.send_signal(signal.SIGINT)
            told, _ = looker.communicate(timeout=60)
        assert looker.returncode == 0, f"{line}: {told}"

    def fetch(self, line: Line) -> None:
        """Run curl as the page has it, at where the page's servers answer here."""
        ports = {"8400": self.served.url, **self.ports}
        words = [re.sub(r"http://127.0.0.1:(\d+)", lambda at: ports[at[1]], word) for word in line.words]
        ends = ["--max-time", "5"] if "-N" in words else []
        done = subprocess.run(
            [*words, "--fail-with-body", "--silent", "--show-error", *ends],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or (ends and done.returncode == CURL_OVER), f"{line}: {done}"

    def words_of(self, line: Line) -> list[str]:
        """What is given to the program, at the test's daemon."""
        command, rest = resolved(line.words[1:])
        words = list(line.words[1:])
        is_local = line.words[1] == "token"  # without an address they act on this machine's database
        if "--url" in options_of(command) and "--url" not in rest and not is_local:
            words += ["--url", self.served.url]
        return words

    @contextmanager
    def spawned(self, *words: str, cwd: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """A command in a process of its own, which is gone afterwards however the test went."""
        root = str(Path(__file__).parents[2])
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": root, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def end(self) -> None:
        """End the servers as an operator does; it has to go well."""
        for process in self.started:
            process.terminate()
        for process in self.started:
            told, _ = process.communicate(timeout=60)
            assert process.returncode == 0, told


@contextmanager
def working(served: Served) -> Iterator[None]:
    """A worker whose phases only log, so that an iteration that is waited for comes to its end."""
    over, services = threading.Event(), served.services

    def work() -> None:
        while not over.wait(0.05):
            with services.database.write() as session:
                claimed = phase_runs.claim(session, "nobody", ttl_s=60, now=services.now())
                if claimed is not None:
                    with phase_log(services.settings, claimed.phase_run_id):
                        logging.getLogger(__name__).warning("nothing is done")
                    phase_runs.finish(session, claimed, outcome={}, now=services.now())

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()


def name_of(line: Line) -> str:
    _, rest = resolved(line.words[1:])
    words = line.words[1 : len(line.words) - len(rest)]
    return " ".join(words)


def runnable(line: Line) -> bool:
    if line.words[0] != "gymnastd":
        return line.words[0] == "curl"
    return name_of(line) not in NOT_RUN and not NOT_HERE.union(OF_AN_EMPTY_STORE) & set(line.words)


RUN = [line for line in shell_lines() if runnable(line)]
PAGES = sorted({line.page for line in RUN})


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A daemon with some episodes, in a folder with the files that pages name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(tmp_path / "data"))
    tiny_installation(tmp_path, monkeypatch)
    shutil.copy(tmp_path / "assets" / "nano" / "policy.safetensors", tmp_path / "my-policy.safetensors")
    (tmp_path / "judge.key").write_text("a key\n")
    llava(tmp_path / "my-vlm")
    for split, name, frames in (("train", "0", 14), ("train", "1", 16), ("test", "2", 13)):
        write_clip(tmp_path / "bridge-clips" / split, name, frames=frames, seed=frames)
    with serving(Settings(data_dir=tmp_path / "data", worker_count=0)) as served:
        with served.services.database.write() as session:
            for number in range(1, EPISODES + 1):
                provenance = episodes.Provenance(origin="collect")
                built = build_episode(number, success=number % 2 == 0)
                episodes.commit(
                    session, served.services.blobs, built, provenance=provenance, now=datetime.now(UTC)
                )
        foreign(tmp_path / "my-dataset")
        lab = Lab(served, tmp_path)
        with lab.servers:
            yield lab


def foreign(folder: Path) -> None:
    """A LeRobotDataset that nobody can see is ours."""
    done = CliRunner().invoke(app, ["export", "lerobot", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    (folder / "manifest.json").unlink()
    shutil.rmtree(folder / "_gymnastd")


def test_pages_have_commands_that_are_run() -> None:
    assert {"docs/quick-start.md", "docs/real-widowx.md", "docs/operating.md"} <= set(PAGES)
    assert len(RUN) >= 55


def test_what_is_not_run_is_shown_somewhere() -> None:
    shown = {name_of(line) for line in shell_lines() if line.words[0] == "gymnastd"}
    assert set(NOT_RUN) | SERVERS | {"watch"} <= shown


@pytest.mark.timeout(280)
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_in_their_order(
    page: str, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [block for block in blocks(page, "json") if not is_tasks(block)]
    for name in ("spec.json", "collect.json", "nightly.json"):
        (lab.folder / name).write_text(specs[-1] if specs else "{}")
    for line in shell_lines():
        if line.page == page and line.words[0] == "export":
            for word in line.words[1:]:
                monkeypatch.setenv(*word.split("=", 1))
        if line.page == page and runnable(line):
            lab.run(line)
    lab.end()


def is_tasks(block: str) -> bool:
    """Whether a block of JSON is a lab's tasks, not a spec."""
    return isinstance(json.loads(block).get("tasks", [""])[0], dict)


def test_a_vision_language_policy_that_was_taught_in_an_empty_store_is_the_champion(lab: Lab) -> None:
    wanted = ("lerobot", *OF_AN_EMPTY_STORE)
    lines = [line for line in shell_lines() if line.page == "docs/bring-your-own.md"]
    run = [line for line in lines if set(wanted) & set(line.words)]
    assert [name_of(line) for line in run] == ["import lerobot", "import vlm-policy", "sft"]
    for line in run:
        lab.invoke(line)
    services = lab.served.services
    now = datetime.now(UTC)
    champion = champion_of(services.database, services.blobs, lineage="main", preset="nano", now=now)
    assert champion.card["sft"]["updates"] > 0
    with services.database.read() as session:
        parent = checkpoints.get(session, str(champion.parent_id))
    assert parent.card["backbone"] == "my-vlm"


def test_the_episode_that_pages_name_is_one_of_the_labs() -> None:
    named = {word for line in RUN for word in line.words if word.count("-") == 4 and len(word) == 36}
    assert named <= {str(UUID(int=number)) for number in range(1, EPISODES + 1)}
