"""What `gymnastd watch` shows while it is told of things."""

import io
import json
import threading
from datetime import UTC, datetime

import pytest
from rich.console import Console

from daemon import watching
from daemon.errors import DaemonUnreachable
from daemon.event_stream import Told
from daemon.watching import LAST_EVENTS, Lines, View, looking_at, show

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def progress(
    share, *, phase="collect", attempt=1, text="open_drawer 2 of 4", began="2026-01-01T11:58:00+00:00"
):
    document = {"iteration": 3, "phase": phase, "attempt": attempt, "progress": share, "text": text}
    document["started_at"] = began
    return Told(position=None, kind="progress", document=document)


def event(number, kind, text, **facts):
    at = "2026-01-01T12:00:00+00:00"
    document = {"id": number, "kind": kind, "iteration": 3, "at": at, "text": text, "facts": facts}
    return Told(position=number, kind=kind, document=document)


def a_station(**told):
    nothing = {"address": "http://cell", "says": "is idle", "wants": None, "todo": None, "facts": {}}
    return {**nothing, **told}


def shown(*told, before=(), stations=()):
    out = io.StringIO()
    view = View(before, now=lambda: NOW)
    view.stations = stations
    show(view, told, console=Console(file=out, width=120, force_terminal=False))
    return out.getvalue()


def test_a_running_phase_has_a_bar_with_its_own_words():
    text = shown(progress(0.25), progress(0.5, text="[bold]half"))
    assert "iteration 3" in text
    assert "50 %" in text
    assert "25 %" not in text
    assert "[bold]half" in text, "words of a phase are no markup"


def test_a_phase_that_ended_has_no_bar_any_more_and_its_end_is_told():
    text = shown(
        progress(0.5),
        event(1, "phase_finished", "iteration 3: collect is finished", phase="collect", attempt=1),
    )
    assert "no phase runs now" in text
    assert "2026-01-01 12:00:00  iteration 3: collect is finished" in text


def test_another_attempt_is_another_bar():
    text = shown(
        progress(0.5),
        progress(0.1, attempt=2),
        event(1, "phase_failed", "failed", phase="collect", attempt=1),
    )
    assert "collect #2" in text
    assert "10 %" in text
    assert "50 %" not in text


def test_only_the_last_events_are_shown():
    old = [event(n, "disk_low", f"event {n:03d}").document for n in range(LAST_EVENTS)]
    text = shown(event(99, "disk_ok", "the newest"), before=old)
    assert "event 000" not in text
    assert "event 001" in text
    assert "the newest" in text


def test_a_phase_that_was_skipped_while_it_ran_has_no_bar_any_more():
    skipped = event(1, "phase_skipped", "iteration 3 does without collect", phase="collect", attempt=1)
    assert "no phase runs now" in shown(progress(0.5), skipped)


@pytest.mark.parametrize(
    ("told", "left"),
    [
        (progress(0.25), "about 6 min 00 s left"),
        (progress(0.5), "about 2 min 00 s left"),
        (progress(0.01), None),  # too early to say
        (progress(0.5, began=None), None),
    ],
)
def test_a_running_phase_says_for_how_long_it_still_will(told, left):
    text = shown(told)
    assert (left in text) if left else ("left" not in text)


def test_each_robot_says_how_it_stands_and_what_somebody_has_to_do():
    at_work = a_station(
        says="runs an episode", facts={"in the hands of": "collector", "episode": "lid, step 7"}
    )
    stopped = a_station(says="is stopped", wants="somebody pressed it", todo="Go to the robot.")
    lines = shown(stations=[at_work, stopped]).splitlines()
    assert lines[:3] == [
        "robot at http://cell runs an episode, in the hands of collector, episode lid, step 7",
        "robot at http://cell is stopped",
        "  somebody pressed it. Go to the robot.",
    ]


def test_robots_are_looked_at_again_and_again_and_an_old_state_is_not_shown(monkeypatch):
    monkeypatch.setattr(watching, "STATIONS_EVERY_S", 0.01)
    view, asked = View(), threading.Semaphore(0)
    answers = iter([[a_station()], DaemonUnreachable(url="http://d", reason="refused")])
    seen = []

    def stations():
        seen.append(view.stations)
        asked.release()
        answer = next(answers, [])
        if isinstance(answer, Exception):
            raise answer
        return answer

    with looking_at(view, stations):
        for _ in range(3):
            assert asked.acquire(timeout=30)
    assert seen[:3] == [(), [a_station()], None]


def test_robots_that_cannot_be_asked_for_are_not_told_as_none():
    assert shown(stations=None).splitlines()[0] == "the daemon does not say how the robots stand"
    assert "robots" not in shown(stations=[])


def test_for_programs_every_change_is_a_document_in_a_line():
    said = []
    before = event(1, "disk_low", "the disk is full").document
    lines = Lines([before], say=said.append)
    lines.take(progress(0.25))
    lines.take(event(2, "disk_ok", "it has room"))
    for stations in ([a_station()], [a_station()], [a_station(says="is stopped")], None, None, []):
        lines.stations = stations
    told = [json.loads(line) for line in said]
    assert [each["kind"] for each in told] == ["disk_low", "progress", "disk_ok", *["standing"] * 4]
    assert (told[0], told[1]["progress"], told[2]["id"]) == (before, 0.25, 2)
    assert [each["items"] and each["items"][0]["says"] for each in told[3:]] == [
        "is idle",
        "is stopped",
        None,
        [],
    ]
    assert lines.stations == []


def test_a_reader_that_has_gone_ends_no_thread_with_a_trace():
    def say(line):
        raise BrokenPipeError

    lines = Lines(say=say)
    lines.stations = [a_station()]
    with pytest.raises(BrokenPipeError):
        lines.take(progress(0.5))
