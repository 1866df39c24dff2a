"""docs/data-formats.md says what is true: its commands run, its keys and formats are those that exist."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.cli_exchange import FORMATS
from storage.interchange.query import KEYS
from tests.storage.interchange.laboratory import SIDE, filled, keep
from tests.storage.interchange.laboratory import an_episode as an_episode_of

PAGE = (Path(__file__).parents[2] / "docs" / "data-formats.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def shown_commands() -> list[str]:
    """Every command line in a block of its own."""
    blocks = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("gymnastd ")]


@pytest.mark.parametrize("line", shown_commands())
def test_every_command_of_the_page_runs(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "lab", 2, now=NOON)
    late = datetime(2026, 2, 1, tzinfo=UTC)
    number = 9  # the drawer, and a classifier that says yes
    keep(store, an_episode_of(number, started_at=late, ended_at=late), number=number + 1, now=NOON)
    store.database.dispose()
    monkeypatch.chdir(tmp_path)
    environment = {"GYMNASTD_DATA_DIR": str(tmp_path / "lab")}
    done = CliRunner().invoke(app, shlex.split(line)[1:], env=environment)
    assert done.exit_code == 0, done.output
    assert "episodes in" in done.stdout


def test_there_is_a_command_on_the_page() -> None:
    assert len(shown_commands()) >= 1


def test_every_format_and_every_key_of_a_query_is_on_the_page() -> None:
    for name in (*FORMATS, *KEYS):
        assert f"`{name}`" in PAGE, name


def test_the_limits_that_the_page_states_are_those_of_the_code() -> None:
    from storage.interchange import lerobot_write, video, worldgym_exchange

    assert f"`lerobot` (LeRobotDataset v3.0) | yes | yes | h264 4:2:0, crf {lerobot_write.CRF} |" in PAGE
    assert f"`worldgym-clips` (mp4 + npz) | yes | yes | h264 4:2:0, crf {worldgym_exchange.CRF} |" in PAGE
    assert f"below {video.LEVELS:.0f} levels of 255" in PAGE
    assert SIDE % 2 == 0
