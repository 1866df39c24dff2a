"""What the page Now says in words: bars, buttons."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.dashboard.standing import controls, phase_bars
from daemon.dashboard.words import duration, estimate, interval, moment, percent, short, signed
from daemon.spec import PHASES

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def run(phase="collect", state="running", *, progress=0.5, began_s=60.0, **told):
    began = None if began_s is None else NOW - timedelta(seconds=began_s)
    return {
        "phase": phase, "attempt": 1, "state": state, "progress": progress, "text": "says", "error": None,
        "started_at": began, "finished_at": None, **told,
    }  # fmt: skip


def record(*runs, state="running", wish=None, spec=None):
    return {"phases": list(runs), "state": state, "wish": wish, "spec": spec or {}}


def test_each_phase_has_one_bar_and_the_last_attempt_counts():
    again = run(attempt=2, progress=0.25)
    bars = phase_bars(record(run(state="failed"), again), now=NOW)
    assert [bar.phase for bar in bars] == list(PHASES)
    assert (bars[0].key, bars[0].progress) == ("collect-2", 0.25)
    assert (bars[1].state, bars[1].progress) == ("waiting", 0.0)


def test_phases_that_were_not_asked_for_have_no_bar():
    assert [bar.phase for bar in phase_bars(record(spec={"phases": ["collect"]}), now=NOW)] == ["collect"]


@pytest.mark.parametrize(
    ("found", "left"),
    [
        (run(progress=0.5, began_s=60.0), 60.0),
        (run(progress=0.75, began_s=60.0), 20.0),
        (run(progress=0.01), None),  # too early to say
        (run(began_s=None), None),
        (run(state="failed"), None),
    ],
)
def test_the_time_that_is_left_follows_from_what_is_done(found, left):
    assert phase_bars(record(found), now=NOW)[0].left_s == left


def test_a_finished_phase_is_full_and_a_failed_one_says_why():
    error = {"code": "arm_gone", "message": "no arm"}
    bars = phase_bars(
        record(run(state="finished", progress=0.9), run("finetune_world_model", "failed", error=error)),
        now=NOW,
    )
    assert (bars[0].progress, bars[1].says) == (1.0, "no arm")


@pytest.mark.parametrize(
    ("state", "wish", "offered"),
    [
        ("requested", None, ["pause", "cancel"]),
        ("running", None, ["pause", "cancel"]),
        ("running", "pause", ["resume", "cancel"]),
        ("paused", None, ["resume", "cancel"]),
        ("failed", None, ["retry"]),
        ("finished", None, []),
        ("cancelled", None, []),
    ],
)
def test_only_what_the_state_allows_is_offered(state, wish, offered):
    assert controls(record(state=state, wish=wish)) == offered


def test_words_for_numbers():
    assert [duration(s) for s in (12, 250, 7500, None, timedelta(seconds=61))] == [
        "12 s", "4 min 10 s", "2 h 05 min", "–", "1 min 01 s",
    ]  # fmt: skip
    assert (percent(0.415), percent(None), signed(0.084), signed(None)) == ("42 %", "–", "+0.08", "–")
    assert moment("2026-01-01T12:00:00+02:00") == "2026-01-01 10:00:00 UTC"
    assert moment(None) == short(None) == interval(None) == estimate(None) == "–"
    assert estimate({"value": 0.2, "low": -0.05, "high": 0.45}) == "+0.20 (-0.05 to +0.45)"
    assert interval({"successes": 0, "episodes": 0, "wilson_low": 0.0, "wilson_high": 1.0}) == "–"
