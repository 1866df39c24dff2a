"""What the terminal shows: figures with what they mean, and what people wrote as they wrote it."""

import io

from rich.console import Console

from daemon.console_lab import STATIONS
from daemon.console_look import estimate, show_alarms, show_difference, show_table

NONE = {"value": 0.0, "low": -0.5, "high": 0.5}


def shown(show, *arguments, **keywords):
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    show(*arguments, console=console, **keywords)
    return console.file.getvalue()


def test_an_alarm_is_told_in_words():
    alarm = {
        "policy_number": 3,
        "task": "open_drawer",
        "station": "cell-1",
        "direction": "fell",
        "before": {"successes": 18, "episodes": 20},
        "after": {"successes": 2, "episodes": 10},
        "changed_at": "2026-01-01T12:00:00Z",
    }
    said = shown(show_alarms, {"items": [alarm], "watched": ["p"]})
    assert said.startswith("alarm: success of policy 3 at open_drawer on cell-1 fell from 18/20 to 2/10")


def test_policies_that_are_not_told_apart_are_said_to_need_episodes():
    count = {"successes": 1, "episodes": 2}
    task = {"one": count, "other": count, "difference": NONE, "episodes_still_needed": 70}
    said = shown(show_difference, {"tasks": {"t": task}, "mean": NONE, "told_apart": False})
    assert "70" in said
    assert said.endswith("mean over tasks +0 [-50, +50]; they are not told apart\n")


def test_policies_without_a_task_in_common_have_no_mean():
    said = shown(show_difference, {"tasks": {}, "mean": None, "told_apart": False})
    assert said == "neither has a judged episode\nthey are not told apart\n"


def test_tasks_whose_episodes_ended_otherwise_are_told():
    answer = {"tasks": {}, "mean": None, "told_apart": False, "ended_early": ["a"], "not_comparable": ["b"]}
    said = shown(show_difference, answer).splitlines()
    assert said[1:3] == [
        "a: of episodes that a judge could end early",
        "b is left out: one ended early where a judge saw success, the other never",
    ]


def test_a_table_has_a_row_for_each_item_and_a_sentence_where_there_is_none():
    columns = {"name": lambda row: row["name"]}
    assert shown(show_table, [{"name": "ann"}, {"name": "bob"}], columns, empty="nobody").count("│ ") == 2
    assert shown(show_table, [], columns, empty="nobody") == "nobody\n"


def test_what_people_wrote_is_no_markup():
    columns = {"note": lambda row: row["note"]}
    assert "[/red] [bold]x" in shown(show_table, [{"note": "[/red] [bold]x"}], columns, empty="")


def test_an_estimate_that_is_not_known_is_left_blank():
    assert (estimate(None), estimate(NONE)) == ("", "+0 [-50, +50]")


def a_station(**health):
    """What the API answers of one, measured or not."""
    return {
        "id": "cell-1", "description": {"robot_model": "widowx"}, "first_seen_at": "2026-01-01T12:00:00Z",
        "last_seen_at": "2026-01-01T12:00:00Z",
        "health": {"episodes": 4, "measured": 4, "invalid": 0, "inference": None, "step": None, **health},
    }  # fmt: skip


def test_a_station_that_was_not_measured_is_not_said_to_be_well():
    station = a_station(invalid=1, measured=0, steps=0, cut_steps=0, cuts={})
    said = shown(show_table, [station], STATIONS, empty="")
    assert said.count("not measured") == 3
    assert "25 %" in said
    assert " 0 %" not in said


def test_a_station_tells_its_stages_and_both_percentiles():
    latency = {"steps": 9, "p50_ms": 44.7, "p99_ms": 501.2}
    station = a_station(steps=200, cut_steps=50, cuts={"speed": 40, "box": 12}, inference=latency)
    said = shown(show_table, [station], STATIONS, empty="")
    for words in ("25 %", "speed 40, box 12", "45, 501", "not measured"):
        assert words in said
