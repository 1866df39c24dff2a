"""How far long work is: bars on a terminal, lines elsewhere, nothing beside JSON."""

import io
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from daemon.cli import app
from daemon.progress_bar import LINE_EVERY_S, Bars, amount, rate


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def a_console(*, terminal):
    return Console(
        file=io.StringIO(), width=150, force_terminal=terminal, color_system=None, legacy_windows=False
    )


def told(console):
    return console.file.getvalue()


def last(console, stage):
    """The bar of a stage as it was drawn last."""
    return [line for line in told(console).splitlines() if stage in line][-1]


def worked(bars, clock, *, steps, each_s=1.0, of=10, unit="updates"):
    for done in steps:
        bars.count("train", done, of, unit=unit, text=f"loss {1 / done:.2f}")
        clock.now += each_s


def test_a_bar_says_how_much_at_what_rate_and_how_long_it_still_takes():
    console, clock = a_console(terminal=True), Clock()
    with Bars(console=console, clock=clock) as bars:
        worked(bars, clock, steps=range(1, 6), each_s=0.5)
    for fact in ("5/10", "2.0 updates/s", "0:00:03", "loss 0.20"):
        assert fact in last(console, "train"), fact


def test_work_that_goes_on_from_its_middle_is_not_timed_by_what_was_done_before():
    console, clock = a_console(terminal=True), Clock()
    with Bars(console=console, clock=clock) as bars:
        worked(bars, clock, steps=(6, 7, 8))
    assert "8/10 1.0 updates/s" in last(console, "train")


def test_each_stage_has_its_own_bar_and_one_that_is_over_stands_still():
    console, clock = a_console(terminal=True), Clock()
    with Bars(console=console, clock=clock) as bars:
        bars.count("first", 2, 2, unit="files")
        clock.now += 3600
        bars.share("second", 0.25, "copies")
    assert "2/2" in last(console, "first")
    assert "1:00:00" not in last(console, "first")
    assert "25 %" in last(console, "second")
    assert "copies" in last(console, "second")


def test_words_of_the_work_are_no_markup():
    console = a_console(terminal=True)
    with Bars(console=console) as bars:
        bars.share("[red]stage", 0.5, "[bold]half")
    assert "[red]stage" in told(console)
    assert "[bold]half" in told(console)


def test_without_a_terminal_there_is_a_line_now_and_then_and_one_at_the_end():
    console, clock = a_console(terminal=False), Clock()
    with Bars(console=console, clock=clock) as bars:
        worked(bars, clock, steps=range(1, 5), each_s=LINE_EVERY_S / 3 + 0.1)
        bars.count("train", 10, 10, unit="updates")
        bars.close("train")
    assert told(console).splitlines() == [
        "train: 1/10, loss 1.00",
        "train: 4/10, 5.9 updates/min, 1 min 01 s left, loss 0.25",
        "train: 10/10, 13.4 updates/min",
    ]


def test_nothing_is_shown_beside_json():
    for terminal in (True, False):
        console = a_console(terminal=terminal)
        with Bars(shown=False, console=console) as bars:
            bars.count("train", 1, 1)
            bars.share("phase", 0.5)
            bars.close("phase")
        assert told(console) == ""


def test_sentences_go_where_they_are_wanted():
    said = []
    with Bars(say=said.append, console=a_console(terminal=False)) as bars:
        bars.say("2 episodes")
    assert said == ["2 episodes"]


def test_sentences_stay_in_the_file_that_standard_output_is(monkeypatch):
    console, out = a_console(terminal=True), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with Bars(console=console, say=out.write) as bars:
        bars.count("train", 1, 2)
        bars.say("kept as policy 2")
    assert out.getvalue() == "kept as policy 2"
    assert "kept" not in told(console)


def test_work_whose_end_nobody_knows_is_counted():
    console = a_console(terminal=False)
    with Bars(console=console) as bars:
        bars.count("import", 3, None, unit="episodes")
    assert told(console) == "import: 3\n"


def test_an_error_takes_the_bars_down_and_passes():
    console = a_console(terminal=True)
    with pytest.raises(OSError, match="full"), Bars(console=console) as bars:
        bars.share("copy", 0.5)
        raise OSError("full")
    assert not bars._progress.live.is_started


def test_amounts_and_rates_have_their_units():
    assert [amount(3, 4, unit=""), amount(3, None, unit=""), amount(0.25, 1.0, unit="%")] == [
        "3/4",
        "3",
        "25 %",
    ]
    assert [
        rate(2.0, unit="files"),
        rate(0.1, unit="clips"),
        rate(0.001, unit="%"),
        rate(None, unit="%"),
    ] == [
        "2.0 files/s",
        "6.0 clips/min",
        "6.0 %/min",
        "",
    ]


def test_a_commands_lines_are_on_standard_error_and_json_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(tmp_path / "data"))
    assert CliRunner().invoke(app, ["db", "upgrade"]).exit_code == 0
    told, plain = (
        CliRunner().invoke(app, ["backup", str(tmp_path / "backups"), *words]) for words in ([], ["--json"])
    )
    assert "backup: 100 %" in told.stderr
    assert "100 %" not in told.stdout
    assert (plain.exit_code, plain.stderr) == (0, "")
