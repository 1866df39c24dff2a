"""`gymnastd schedule` and `gymnastd hours`, against a daemon of the test's own."""

import json

import pytest
import typer
from typer.testing import CliRunner

from daemon.cli import app
from daemon.cli_schedule import in_words, next_time, window
from daemon.errors import DaemonRefused, PageNotFound
from tests.daemon.test_cli import serving


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("cli")) as (url, _):
        yield url


def inside(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def said(*arguments):
    result = inside(*arguments)
    assert result.exit_code == 0, result.output or result.exception
    return result.output


def test_a_schedule_is_added_shown_paused_resumed_and_removed(served, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"seed": 7}))
    times = ("--cron", "0 20 * * mon-fri", "--timezone", "Europe/Berlin")
    added = said("schedule", "add", "nightly", *times, "--spec", spec, "--max-runs", 9, "--url", served)
    assert added.startswith("schedule nightly: cron 0 20 * * mon-fri Europe/Berlin, 0 of 9 runs\n")
    assert added.count("  due ") == 5
    assert said("schedule", "show", "nightly", "--url", served) == added
    assert "nightly\tcron 0 20 * * mon-fri Europe/Berlin\tnext 20" in said(
        "schedule", "list", "--url", served
    )
    assert said("schedule", "pause", "nightly", "--url", served).endswith("  paused\n")
    assert "nightly\tcron 0 20 * * mon-fri Europe/Berlin\tpaused" in said("schedule", "list", "--url", served)
    assert said("schedule", "resume", "nightly", "--url", served).count("  due ") == 5
    assert said("schedule", "run-now", "nightly", "--url", served).startswith("iteration ")
    assert said("schedule", "remove", "nightly", "--url", served) == "schedule nightly is removed\n"
    assert isinstance(inside("schedule", "show", "nightly", "--url", served).exception, PageNotFound)


def test_a_beat_and_one_after_the_other_are_told_in_words(served):
    added = said(
        "schedule", "add", "hourly", "--every", 3600, "--until", "2100-01-01T00:00Z", "--url", served
    )
    assert added.startswith("schedule hourly: every 3600 s, until 2100-01-01T00:00:00Z\n")
    added = said("schedule", "add", "on-and-on", "--after-previous", "--pause", 60, "--url", served)
    assert added.startswith("schedule on-and-on: after the previous one, 60 s later\n")
    for name in ("hourly", "on-and-on"):
        said("schedule", "remove", name, "--url", served)
    assert said("schedule", "list", "--url", served) == "there is no schedule yet\n"


@pytest.mark.parametrize(
    "times", [[], ["--every", "60", "--after-previous"], ["--cron", "0 2 * * *", "--every", "5"]]
)
def test_a_schedule_has_one_kind_of_times(times):
    result = inside("schedule", "add", "nightly", *times, "--url", "http://127.0.0.1:9")
    assert result.exit_code == 2
    assert "give one of --cron" in result.output


def test_what_the_daemon_refuses_is_told(served):
    result = inside("schedule", "add", "nightly", "--cron", "0 25 * * *", "--url", served)
    assert isinstance(result.exception, DaemonRefused)
    assert "trigger.cron" in str(result.exception)


def test_hours_are_set_shown_and_cleared(served):
    windows = ("--open", "mon-fri 20:00-06:00", "--open", "sat,sun 00:00-00:00", "--quiet", "23:00-23:30")
    limits = ("--minutes-per-hour", 45, "--rest-after", 50, "--rest", 10, "--timezone", "Europe/Berlin")
    output = said("hours", "set", "cell-1", *windows, *limits, "--url", served)
    assert output.splitlines()[:-1] == [
        "station cell-1, times of Europe/Berlin",
        "  open mon,tue,wed,thu,fri 20:00-06:00",
        "  open sat,sun 00:00-00:00",
        "  quiet mon,tue,wed,thu,fri,sat,sun 23:00-23:30",
        "  moves 45 minutes of any sixty",
        "  rests 10 minutes after 50 minutes of movement",
    ]
    assert said("hours", "show", "cell-1", "--url", served).splitlines()[:-1] == output.splitlines()[:-1]
    assert said("hours", "clear", "cell-1", "--url", served) == "cell-1 may move at any time\n"
    shown = said("hours", "show", "cell-1", "--url", served)
    assert shown == "station cell-1, times of UTC\n  now: it may move\n"


def test_a_rest_needs_both_of_its_numbers():
    result = inside("hours", "set", "cell-1", "--rest", 10, "--url", "http://127.0.0.1:9")
    assert result.exit_code == 2
    assert "go together" in result.output


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("mon-fri 20:00-06:00", ["mon", "tue", "wed", "thu", "fri"]),
        ("fri-mon 20:00-06:00", ["fri", "sat", "sun", "mon"]),
        ("Sat,Sun 20:00-06:00", ["sat", "sun"]),
        ("20:00-06:00", ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]),
        ("mon,mon-tue 20:00-06:00", ["mon", "tue"]),
    ],
)
def test_a_window_is_read_as_it_is_said(text, days):
    assert window(text) == {"days": days, "begins": "20:00", "ends": "06:00"}


@pytest.mark.parametrize("text", ["", "always", "noday 20:00-06:00", "mon 8-9", "mon- 20:00-06:00", "20:00"])
def test_a_window_that_is_none_is_refused(text):
    with pytest.raises(typer.BadParameter):
        window(text)


def test_what_waits_for_its_iteration_says_so():
    assert next_time({"enabled": True, "next_run_at": None}) == "waits for its last iteration"
    assert in_words({"kind": "interval", "seconds": 0.5}) == "every 0.5 s"
