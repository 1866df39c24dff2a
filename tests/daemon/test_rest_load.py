"""The load benchmark: its rows are those that the doors would have made, and its clients see every answer."""

import sys

import pytest
import sqlalchemy as sa

from benchmarks import rest_load
from benchmarks.rest_load_rows import TASKS, fill
from storage import success_counts
from storage.success_counts import CountQuery
from storage.tables import EpisodeRow, IterationRow


def test_the_rows_are_as_many_as_asked_for_and_counted(sqlite_database):
    fill(sqlite_database, episodes=160, iterations=5)
    with sqlite_database.read() as session:
        found = {
            table: session.scalar(sa.select(sa.func.count()).select_from(table))
            for table in (EpisodeRow, IterationRow)
        }
        by_task, _ = success_counts.grouped(session, CountQuery(by=("task",)))
    assert found == {EpisodeRow: 160, IterationRow: 5}
    assert {one.task for one in by_task} == set(TASKS)
    assert sum(one.judged + one.unlabelled + one.invalid for one in by_task) == 160


@pytest.mark.slow
def test_a_short_load_has_no_errors_and_tells_every_figure_that_is_asked_for(monkeypatch, capsys, tmp_path):
    arguments = ["--seconds", "2", "--clients", "4", "--pause", "0", "--episodes", "200", "--iterations", "5"]
    monkeypatch.setattr(sys, "argv", ["rest_load", "--alone", "--folder", str(tmp_path), *arguments])
    monkeypatch.setattr(rest_load, "WARM_UP_S", 0.0)
    rest_load.main()
    told = capsys.readouterr().out
    assert ", 0 errors" in told
    for figure in ("requests/s", "| /v1/iterations |", "cold start", "resident memory", "load average"):
        assert figure in told
