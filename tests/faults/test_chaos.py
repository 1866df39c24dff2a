"""The short form of `python -m benchmarks.chaos`: blows at random, then peace, then the books."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chaos import ZEROS, chaos, spread


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("postgres", [False, True], ids=["sqlite", "postgresql"])
def test_nothing_is_lost_doubled_left_open_or_damaged_by_blows_at_random(
    postgres: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if postgres:
        request.getfixturevalue("postgres_server")  # skips, with the reason, where none starts
    found = chaos(tmp_path, minutes=0.7, postgres=postgres, seed=4)
    assert {what: found[what] for what in ZEROS} == dict.fromkeys(ZEROS, 0), found
    assert found["kills"] + found["network cuts"] >= 3
    assert found["iterations"].get("finished", 0) >= 1, found
    assert set(found["iterations"]) <= {"finished", "failed"}, found


@pytest.mark.parametrize(
    ("times", "said"),
    [((), "nothing to recover from"), ((2.0,), "2.0"), ((1.0,) * 40, "1.0 / 1.0 (40 blows)")],
)
def test_times_to_recover_are_told_as_median_and_as_the_worst_of_twenty(
    times: tuple[float, ...], said: str
) -> None:
    assert spread(times) == said
