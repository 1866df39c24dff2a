"""What `gymnastd watch` shows while it is told of things."""

import io

from rich.console import Console

from daemon.event_stream import Told
from daemon.watching import LAST_EVENTS, View, show


def progress(share, *, phase="collect", attempt=1, text="open_drawer 2 of 4"):
    document = {"iteration": 3, "phase": phase, "attempt": attempt, "progress": share, "text": text}
    return Told(position=None, kind="progress", document=document)


def event(number, kind, text, **facts):
    at = "2026-01-01T12:00:00+00:00"
    document = {"id": number, "kind": kind, "iteration": 3, "at": at, "text": text, "facts": facts}
    return Told(position=number, kind=kind, document=document)


def shown(*told, before=()):
    out = io.StringIO()
    show(View(before), told, console=Console(file=out, width=120, force_terminal=False))
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
