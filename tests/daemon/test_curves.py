from datetime import UTC, datetime
from functools import partial

import pytest

from daemon.curves import append_moment as append_moment_at
from daemon.curves import curves_path, read_curves, telling, thinned

append_moment = partial(append_moment_at, now=datetime(2026, 1, 1, 12, 0, tzinfo=UTC))


def test_what_is_appended_comes_back_as_one_curve_per_name(tmp_path):
    path = curves_path(tmp_path, "run-1")
    append_moment(path, {"update": 10, "loss": 0.5, "norm": 2.0})
    append_moment(path, {"update": 20, "loss": 0.25})
    assert read_curves(path) == {"loss": [(10, 0.5), (20, 0.25)], "norm": [(10, 2.0)]}


def test_moments_without_an_axis_are_counted(tmp_path):
    path = tmp_path / "c.jsonl"
    append_moment(path, {"loss": 1.0})
    append_moment(path, {"loss": 2.0})
    assert read_curves(path) == {"loss": [(0.0, 1.0), (1.0, 2.0)]}


def test_episodes_are_an_axis_too(tmp_path):
    append_moment(tmp_path / "c.jsonl", {"episode": 3, "success": True})
    assert read_curves(tmp_path / "c.jsonl") == {"success": [(3, 1.0)]}


def test_a_number_that_is_not_finite_leaves_a_gap_and_the_file_stays_json(tmp_path):
    append_moment(
        tmp_path / "c.jsonl", {"update": 1, "loss": float("nan"), "norm": float("inf"), "rate": 0.5}
    )
    assert read_curves(tmp_path / "c.jsonl") == {"rate": [(1, 0.5)]}
    assert "NaN" not in (tmp_path / "c.jsonl").read_text()


def test_a_line_that_a_killed_worker_left_torn_is_skipped(tmp_path):
    path = tmp_path / "c.jsonl"
    append_moment(path, {"update": 1, "loss": 0.5})
    with path.open("a") as stream:
        stream.write('{"update": 2, "lo')
    assert read_curves(path) == {"loss": [(1, 0.5)]}


def test_a_run_that_recorded_nothing_has_no_curves(tmp_path):
    assert read_curves(curves_path(tmp_path, "none")) == {}


def test_two_runs_do_not_share_a_file(tmp_path):
    assert curves_path(tmp_path, "a") != curves_path(tmp_path, "b")


def test_every_line_says_when_it_was_and_the_time_is_no_curve(tmp_path):
    append_moment(tmp_path / "c.jsonl", {"update": 1, "loss": 0.5})
    line = (tmp_path / "c.jsonl").read_text()
    assert line == '{"at": "2026-01-01T12:00:00+00:00", "update": 1.0, "loss": 0.5}\n'


def test_a_long_curve_is_thinned_but_keeps_its_ends_and_its_spikes():
    points = [(float(x), float(x * x % 13)) for x in range(2001)]
    points[1234] = (1234.0, 99.0)
    kept = thinned(points)
    assert len(kept) == 500
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert (1234.0, 99.0) in kept
    assert set(kept) <= set(points)
    assert kept == sorted(set(kept)), "in order, none twice"


def test_a_short_curve_is_left_alone():
    points = [(0.0, 1.0), (1.0, 2.0)]
    assert thinned(points) == points


@pytest.mark.parametrize("many", [2, 3, 4, 5, 6, 7, 50, 51])
@pytest.mark.parametrize("most", [2, 3, 4, 5, 6])
def test_few_values_say_the_most_whatever_their_number(many, most):
    values = [0.0] * many
    values[many // 2] = 1.0
    kept = telling(values, most)
    assert len(kept) <= max(most, 4), "the ends, and the lowest and the highest between them"
    assert {0, many // 2, many - 1} <= set(kept)
