import io

import pytest
from rich.console import Console

from daemon.console_diff import show_diff, told

RATE = {"successes": 3, "episodes": 12, "wilson_low": 0.0889, "wilson_high": 0.5323}
NOTHING = {"spec": [], "circumstances": {}, "data": {}, "checkpoints": [], "measured": []}


def shown(**parts):
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    show_diff({"from": 1, "to": 4, **NOTHING, **parts}, console=console)
    return console.file.getvalue()


def test_kinds_without_a_difference_are_not_shown():
    assert shown() == ""


def test_each_difference_is_a_line_under_both_iterations():
    text = shown(
        spec=[{"field": "seed", "from": 1, "to": 2}],
        circumstances={"update_policy": [{"field": "environment.threads", "from": 2, "to": None}]},
        checkpoints=[
            {
                "phase": "update_policy",
                "what": "read",
                "kind": "judge",
                "from": None,
                "to": {"id": "51aa0c9e-7f4e", "number": 3, "sha256": "x"},
            }
        ],
        measured=[{"what": "real success", "from": RATE, "to": None}],
    )
    lines = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    assert lines.count("┃ ┃ iteration 1 ┃ iteration 4 ┃") == 4
    assert "seed 1 2" in lines
    assert "update_policy: environment.threads 2 –" in lines
    assert "update_policy read judge – number 3 (51aa0c9e)" in lines
    assert "real success 3/12 [9 to 53 %] –" in lines


def test_episodes_are_counted_by_phase():
    def listed(count):
        return {"count": count, "ids": []}

    own = {"added": listed(8), "removed": listed(2), "relabelled": listed(1), "kept": 40}
    lines = [
        " ".join(line.replace("│", " ").split())
        for line in shown(data={"finetune_world_model": own}).splitlines()
    ]
    assert "finetune_world_model 8 2 1 40" in lines


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "True"),
        (12, "12"),
        (0.123456, "0.1235"),
        ([1, 2], "[1, 2]"),
        ("promoted", "promoted"),
    ],
)
def test_values_are_told_as_people_read_them(value, text):
    assert told(value) == text
