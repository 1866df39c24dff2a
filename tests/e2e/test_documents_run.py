"""The commands of the documents, run page by page in their order, against a daemon without workers.

Not run are those that run until they are ended, take minutes, need hands, or need what is not here; that the
program would take them is held in tests/architecture/test_documents.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.settings import Settings
from storage import episodes
from tests.architecture.documents import Line, blocks, options_of, resolved, shell_lines
from tests.daemon.conftest import build_episode
from tests.daemon.learning.policy.tiny_vlms import llava
from tests.daemon.serving import Served, serving

pytestmark = pytest.mark.slow

EPISODES = 4
NOT_RUN = {  # by the words of the command
    "serve": "runs until it is ended; the test's own daemon is in its place",
    "worker": "runs until it is ended",
    "station": "runs until it is ended",
    "policy-server": "runs until it is ended",
    "autoeval-emulator": "runs until it is ended",
    "watch": "runs until it is ended",
    "demo": "takes minutes; make demo and tests/e2e/test_demo.py run it",
    "finetune-world-model": "takes minutes; tests/daemon/test_offline.py runs it",
    "sft": "takes minutes; tests/daemon/test_offline_sft.py runs it",
    "station check": "moves; tests/daemon/test_cli_check.py runs it",
    "station human-done": "asks a person",
    "import worldgym-checkpoint": "needs a published checkpoint",
    "import lerobot": "needs a data set of others; tests/storage/interchange runs it",
    "import worldgym-clips": "needs clips of others; tests/storage/interchange runs it",
}
ENDLESS = {"--wait", "--follow"}  # the test's daemon has no worker, so nothing would ever come
REFUSED = {"logs": "page_not_found"}  # it needs a phase that ran


@dataclass(frozen=True, slots=True)
class Lab:
    served: Served
    folder: Path

    def run(self, line: Line) -> None:
        command, rest = resolved(line.words[1:])
        words = [word for word in line.words[1:] if word not in ENDLESS]
        if "--url" in options_of(command) and "--url" not in rest:
            words += ["--url", self.served.url]
        done = CliRunner().invoke(app, words, env={"COLUMNS": "200"}, input="y\n")
        told = f"{line}: {done.output}{done.exception!r}"
        if line.into is not None:
            (self.folder / line.into).write_text(done.stdout)
        if name_of(line) == "doctor":
            faults = [found for found in done.output.splitlines() if found.startswith("FAULT")]
            assert [found.split()[1] for found in faults] == ["station:"], told  # there is none here
        elif name_of(line) in REFUSED:
            assert getattr(done.exception, "code", None) == REFUSED[name_of(line)], told
        else:
            assert done.exit_code == 0, told


def name_of(line: Line) -> str:
    _, rest = resolved(line.words[1:])
    words = line.words[1 : len(line.words) - len(rest)]
    return " ".join(words)


def runnable(line: Line) -> bool:
    return line.words[0] == "gymnastd" and name_of(line) not in NOT_RUN


RUN = [line for line in shell_lines() if runnable(line)]
PAGES = sorted({line.page for line in RUN})


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A daemon with some episodes, in a folder with the files that pages name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(tmp_path / "data"))
    with serving(Settings(data_dir=tmp_path / "data", worker_count=0)) as served:
        with served.services.database.write() as session:
            for number in range(1, EPISODES + 1):
                provenance = episodes.Provenance(origin="collect")
                built = build_episode(number, success=number % 2 == 0)
                episodes.commit(
                    session, served.services.blobs, built, provenance=provenance, now=datetime.now(UTC)
                )
        yield Lab(served, tmp_path)


def test_pages_have_commands_that_are_run() -> None:
    assert {"docs/quick-start.md", "docs/real-widowx.md", "docs/operating.md"} <= set(PAGES)
    assert len(RUN) >= 35


def test_what_is_not_run_is_shown_somewhere() -> None:
    shown = {name_of(line) for line in shell_lines() if line.words[0] == "gymnastd"}
    assert set(NOT_RUN) <= shown | {"worker"}
    assert set(REFUSED) <= shown


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


def is_tasks(block: str) -> bool:
    """Whether a block of JSON is a lab's tasks, not a spec."""
    return isinstance(json.loads(block).get("tasks", [""])[0], dict)


def test_the_script_that_brings_a_policy_in_makes_it_the_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daemon.phases.arms import champion_of
    from daemon.stores import open_blobs, open_database

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(tmp_path / "data"))
    llava(tmp_path / "my-vlm")
    (script,) = blocks("docs/bring-your-own.md", "python")
    exec(compile(script, "docs/bring-your-own.md", "exec"), {})  # noqa: S102 - the page's own words
    settings = Settings(data_dir=tmp_path / "data")
    database = open_database(settings)
    found = champion_of(database, open_blobs(settings), lineage="main", preset="nano", now=datetime.now(UTC))
    assert found.card["made from"].startswith("my-vlm")
    database.dispose()


def test_the_episode_that_pages_name_is_one_of_the_labs() -> None:
    named = {word for line in RUN for word in line.words if word.count("-") == 4 and len(word) == 36}
    assert named <= {str(UUID(int=number)) for number in range(1, EPISODES + 1)}
