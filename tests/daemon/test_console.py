import io

import pytest
from rich.console import Console

from daemon.console import (
    alarm_lines,
    follow,
    learning_lines,
    moment,
    said,
    show_iteration,
    show_iterations,
    show_phases,
    show_success_rates,
    trial_lines,
    trust_lines,
)
from daemon.errors import IterationFailed
from daemon.progress_bar import Bars


def a_console():
    return Console(file=io.StringIO(), width=200, force_terminal=False)


def a_run(phase="collect", **changes):
    run = {
        "phase": phase,
        "attempt": 1,
        "state": "running",
        "progress": 0.5,
        "text": "episode 4 of 8",
        "finished_at": None,
        "error": None,
    }
    return {**run, **changes}


def a_record(**changes):
    record = {
        "number": 2,
        "lineage": "main",
        "state": "running",
        "wish": None,
        "error": None,
        "phases": [],
        "success": {},
        "overall": {"successes": 0, "episodes": 0, "wilson_low": 0.0, "wilson_high": 1.0},
        "world_model": {"held_out_error": None, "gate": None, "trust": None},
        "trial": None,
        "judge_audit": None,
        "tasks_left_out": {},
    }
    return {**record, **changes}


class Replay:
    """Gives prepared records one after the other, as a client that waits would."""

    def __init__(self, records):
        self.records = records

    def wait(self, number, *, on_record, poll_s):
        for record in self.records:
            on_record(record)
        if self.records[-1]["state"] != "finished":
            raise IterationFailed(number=number, error_code="c", message="m")
        return self.records[-1]


def test_every_attempt_gets_one_bar_that_follows_it():
    console = a_console()
    with Bars(console=console, clock=lambda: 0.0) as bars:
        show_phases(bars, a_record(phases=[a_run(progress=0.25)]))
        show_phases(bars, a_record(phases=[a_run(progress=0.75, text="episode 6 of 8")]))
        failed = a_run(state="failed", finished_at="t", error={"code": "busy_robot", "message": "m"})
        again = a_run(attempt=2, progress=1.0)
        for _ in range(2):
            show_phases(bars, a_record(phases=[failed, again]))
    assert console.file.getvalue().splitlines() == [
        "collect: 25 %, episode 4 of 8",
        "collect: 50 %, failed (busy_robot)",
        "collect #2: 100 %, episode 4 of 8",
    ]


def test_following_gives_the_last_record():
    done = a_record(state="finished", phases=[a_run(state="finished", progress=1.0, finished_at="t")])
    assert follow(Replay([a_record(), done]), 2, console=a_console()) is done


def test_bars_say_how_long_a_phase_has_run_and_how_long_it_still_will():
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    done = a_record(state="finished", phases=[a_run(state="finished", progress=1.0, finished_at="t")])
    follow(Replay([a_record(phases=[a_run()]), done]), 2, console=console)
    assert console.file.getvalue().count("0:00:00") >= 2


def test_following_a_failure_raises_it():
    with pytest.raises(IterationFailed):
        follow(Replay([a_record(state="failed")]), 2, console=a_console())


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (a_run(), "episode 4 of 8"),
        (a_run(state="queued", text=""), "queued"),
        (a_run(state="finished"), "finished"),
        (
            a_run(state="abandoned", error={"code": "lease_expired", "message": "m"}),
            "abandoned (lease_expired)",
        ),
    ],
)
def test_an_attempt_says_what_it_does_or_how_it_ended(run, words):
    assert said(run) == words


def test_an_iteration_is_shown_with_success_and_model_error():
    console = a_console()
    rate = {"successes": 7, "episodes": 10, "wilson_low": 0.3968, "wilson_high": 0.8922}
    record = a_record(
        state="finished",
        phases=[a_run(state="finished", progress=1.0)],
        success={"open_drawer": rate},
        overall=rate,
        world_model={"held_out_error": {"before": 0.2, "after": 0.125}, "gate": None, "trust": None},
    )
    show_iteration(record, console=console)
    shown = console.file.getvalue()
    assert "iteration 2 is finished" in shown
    assert "before 0.2, after 0.125" in shown
    assert "7/10" in shown
    assert "40 to 89 %" in shown
    assert "all" in shown


def test_a_failed_iteration_shows_its_reason_even_with_brackets_in_it():
    console = a_console()
    show_iteration(
        a_record(state="failed", error={"code": "c", "message": "[bold] is no markup"}), console=console
    )
    assert "c: [bold] is no markup" in console.file.getvalue()


def test_an_iteration_that_is_asked_to_pause_says_so():
    console = a_console()
    show_iteration(a_record(wish="pause"), console=console)
    assert "iteration 2 is running, to be paused" in console.file.getvalue()


def test_a_list_shows_one_line_per_iteration():
    console = a_console()
    item = {"number": 3, "lineage": "main", "state": "failed", "wish": None, "finished_at": None}
    item["requested_at"] = "2026-01-01T12:00:00Z"
    show_iterations([{**item, "error": {"code": "bad_luck", "message": "m"}}], console=console)
    assert "2026-01-01 12:00:00" in console.file.getvalue()
    assert "bad_luck" in console.file.getvalue()
    assert "lineage" not in console.file.getvalue()


def test_the_lineage_is_told_where_there_are_several():
    console = a_console()
    item = {"state": "paused", "wish": None, "finished_at": None, "error": None}
    item["requested_at"] = "2026-01-01T12:00:00Z"
    items = [{**item, "number": number, "lineage": name} for number, name in ((2, "arm-2"), (1, "main"))]
    show_iterations(items, console=console)
    assert "arm-2" in console.file.getvalue()
    show_iteration(a_record(lineage="arm-2"), console=console)
    assert "iteration 2 of lineage arm-2 is running" in console.file.getvalue()


def test_nothing_to_show_says_what_to_do():
    console = a_console()
    show_iterations([], console=console)
    show_success_rates([], console=console)
    assert "gymnastd iterate" in console.file.getvalue()
    assert "no episode has been judged yet" in console.file.getvalue()


def test_times_are_cut_to_the_second():
    assert moment("2026-01-01T12:00:00.123456Z") == "2026-01-01 12:00:00"
    assert moment(None) == ""


def test_what_the_gate_said_and_how_far_the_world_model_is_trusted_is_shown():
    outcome = {"hits": 5, "false_hopes": 2, "missed": 1, "rightly_failed": 4, "declined": 3}
    world_model = {
        "gate": {"accepted": False, "reasons": ["latent error 0.3 -> 0.4: not better"]},
        "trust": {
            "horizon": 31,
            "outcomes": {
                "open_drawer": {**outcome, "agreement": 0.75, "optimism": 1 / 12},
                "close_drawer": {**dict.fromkeys(outcome, 0), "agreement": None, "optimism": None},
            },
            "closed_loop": {"tasks": {"open_drawer": outcome}, "overall": outcome},
        },
    }
    assert trust_lines(world_model) == [
        "world model rejected, the iteration goes on with the old one: latent error 0.3 -> 0.4: not better",
        "rollouts of at most 31 steps are trusted; held-out episodes end",
        "  close_drawer: as imagined 0 of 0, 0 not judged",
        "  open_drawer: as imagined 9 of 12 (optimism +0.08), 3 not judged",
        "the policy itself, from the same starts:",
        "  open_drawer: imagined 7, really 6 of 12, 3 not judged",
    ]


@pytest.mark.parametrize(
    ("decision", "said"),
    [("promoted", "candidate promoted"), ("rolled_back", "champion rolled back")],
)
def test_what_became_of_a_candidate_is_told_with_both_counts(decision, said):
    counts = {name: {"successes": won, "episodes": 10} for name, won in (("champion", 4), ("candidate", 9))}
    trial = {"decision": decision, "probability_better": 0.987, "by_task": {"open_drawer": counts}}
    (line,) = trial_lines(trial)
    assert line == f"{said}, better with probability 0.99: open_drawer 9/10 against 4/10"
    carried = {"from": 1, "iterations": [1], "before": 8, "episodes": 20, "of": 24}
    *_, line = trial_lines({**trial, "carried": carried, "carries_left": 0})
    assert line == "  carried on from iteration 1, 20 of 24 episodes so far"
    goes_on = trial_lines({**trial, "carries_left": 1})[1:]
    assert goes_on == ["  the next iteration of the lineage carries it on"] * (decision == "undecided")
    assert trial_lines(None) == []
    assert trial_lines({"decision": "adopted"}) == ["candidate adopted without a trial"]


def test_why_a_trial_is_not_carried_on_is_told_where_there_is_another_or_none():
    why = "the trial of policy 4, undecided in iteration 1, is not carried on: steps was 40 and is 30"
    assert learning_lines(a_record(trial_not_carried=why)) == [why]
    assert learning_lines(a_record(trial_not_carried=None)) == []


def test_the_audit_of_the_judge_and_tasks_that_were_left_out_are_told():
    counts = {"hits": 5, "false_hopes": 1, "missed": 0, "rightly_failed": 4, "declined": 2}
    record = a_record(
        judge_audit={"open_drawer": counts, "close_drawer": {**counts, "hits": 2}},
        tasks_left_out={"open_drawer": "the judge is no good"},
        full_length={"close_drawer": "the judge errs"},
    )
    assert learning_lines(record) == [
        "the judge says what the label says: close_drawer 6 of 7; open_drawer 9 of 10",
        "close_drawer had its full length: the judge errs",
        "open_drawer left out: the judge is no good",
    ]
    assert learning_lines(a_record()) == []


def test_an_alarm_says_where_success_changed_and_since_when():
    counts = {"before": {"successes": 20, "episodes": 20}, "after": {"successes": 0, "episodes": 6}}
    place = {"policy_number": 7, "task": "open_drawer", "station": "cell-1", "direction": "fell"}
    (line,) = alarm_lines([{**counts, **place, "changed_at": "2026-01-01T12:00:00Z"}])
    assert line == (
        "alarm: success of policy 7 at open_drawer on cell-1 fell from 20/20 to 0/6 since "
        "2026-01-01 12:00:00, and the policy is the same"
    )
