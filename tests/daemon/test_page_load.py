"""The benchmark of pages: it asks for every page there is, and its rows are what pages show."""

import math
import sys

import pytest

from benchmarks import page_load
from benchmarks.page_load import Measured, filters, lists
from daemon.dashboard.episodes import EpisodesAsked
from daemon.dashboard.page import PAGES


def measured(**told):
    return Measured(**{"path": "/p", "took_ms": [1.0], "cpu_ms": 299.0, "size": 200_000, **told})


def test_every_page_of_the_bar_and_every_filter_of_episodes_is_asked_for():
    assert {path for path, _ in PAGES} <= set(lists())
    asked = {part.partition("=")[0] for query in filters("p", iterations=10) for part in query.split("&")}
    fields = {field.alias or name for name, field in EpisodesAsked.model_fields.items()}
    assert asked == fields - {"cursor"}


def test_a_page_is_beyond_the_limits_by_its_time_or_its_size_and_a_file_by_neither():
    assert measured().is_within
    assert not measured(cpu_ms=301.0).is_within
    assert not measured(size=200_001).is_within
    assert measured(path="/progress/costs.csv", cpu_ms=999.0, size=999_999).is_within
    assert "too much" in measured(size=200_001).line()


@pytest.mark.slow
def test_every_page_of_a_small_lab_answers_and_keeps_to_its_size(monkeypatch, capsys, tmp_path):
    arguments = ["--episodes", "200", "--iterations", "25", "--asked", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["page_load", *arguments])
    monkeypatch.setattr(page_load, "MOST_MS", math.inf)  # a busy machine's seconds are no fault of a page
    with pytest.raises(SystemExit) as ended:
        page_load.main()
    told = capsys.readouterr().out
    assert ended.value.code == 0, told
    for path in ("/", "/iterations/25", "/episodes?task=nobody", "/progress/costs.csv"):
        assert f"| `{path}` |" in told
    assert "0 beyond" in told
