"""The short form of `python -m benchmarks.chaos`: blows at random, then peace, then the books."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos import ZEROS, spread

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_is_lost_doubled_left_open_or_damaged_by_blows_at_random(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if database == "postgresql":
        request.getfixturevalue("postgres_server")  # skips, with the reason, where none starts
    arguments = ["--minutes", "0.7", "--database", database, "--seed", "4", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    told = done.stdout + done.stderr[-3000:]
    assert done.returncode == 0, told
    counts = {what: line.split()[-1] for line in done.stdout.splitlines() for what in ZEROS if what in line}
    assert counts == dict.fromkeys(ZEROS, "0"), told
    assert "'finished':" in done.stdout or "'failed':" in done.stdout, told  # every one has an end
    blows = [int(line.split()[-1]) for line in done.stdout.splitlines() if line.split()[:1] == ["kills"]]
    assert blows and blows[0] >= 1, told


@pytest.mark.parametrize(
    ("times", "said"),
    [((), "nothing to recover from"), ((2.0,), "2.0"), ((1.0,) * 40, "1.0 / 1.0 (40 blows)")],
)
def test_times_to_recover_are_told_as_median_and_as_the_worst_of_twenty(
    times: tuple[float, ...], said: str
) -> None:
    assert spread(times) == said
