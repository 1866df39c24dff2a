import io

from rich.console import Console

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


def test_a_table_has_a_row_for_each_item_and_a_sentence_where_there_is_none():
    columns = {"name": lambda row: row["name"]}
    assert shown(show_table, [{"name": "ann"}, {"name": "bob"}], columns, empty="nobody").count("│ ") == 2
    assert shown(show_table, [], columns, empty="nobody") == "nobody\n"


def test_an_estimate_that_is_not_known_is_left_blank():
    assert (estimate(None), estimate(NONE)) == ("", "+0 [-50, +50]")
