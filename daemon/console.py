"""What the REST clients show on a terminal: tables, and progress bars while an iteration runs."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from daemon.client import DaemonClient
from daemon.progress_bar import Bars
from daemon.statistics import right_of_known
from daemon.trial import carried_text

Record = Mapping[str, Any]


def follow(
    client: DaemonClient, number: int, *, console: Console | None = None, poll_s: float = 1.0
) -> Record:
    """Show one bar per phase until the iteration has ended; gives its last record.

    Raises:
        IterationFailed: it did not finish; and whatever the client raises.
    """
    with Bars(console=console) as bars:
        return client.wait(number, on_record=partial(show_phases, bars), poll_s=poll_s)


def show_phases(bars: Bars, record: Record) -> None:
    """Bring the bar of every attempt at a phase up to date; attempts not seen before get one."""
    for run in record["phases"]:
        label = run["phase"] if run["attempt"] == 1 else f"{run['phase']} #{run['attempt']}"
        bars.share(label, run["progress"], said(run))
        if run["finished_at"] is not None:
            bars.close(label)


def said(run: Record) -> str:
    """What there is to say of an attempt: its own words while it runs, else its state and the reason."""
    if run["state"] == "running":
        return str(run["text"])
    if run["state"] == "queued" and run["text"]:
        return str(run["text"])
    return f"{run['state']} ({run['error']['code']})" if run["error"] else str(run["state"])


def standing(record: Record) -> str:
    """The state of an iteration, and what it is about to be where somebody asked for it."""
    return f"{record['state']}, to be paused" if record["wish"] == "pause" else str(record["state"])


def show_iterations(items: Sequence[Record], *, console: Console | None = None) -> None:
    """Print one line per iteration; its lineage where there are several."""
    several = len({item["lineage"] for item in items}) > 1
    told = ("lineage",) if several else ()
    table = Table("iteration", *told, "state", "requested", "finished", "error")
    for item in items:
        error = item["error"]["code"] if item["error"] else ""
        table.add_row(
            str(item["number"]),
            *(item[name] for name in told),
            standing(item),
            moment(item["requested_at"]),
            moment(item["finished_at"]),
            error,
        )
    (console or Console()).print(table if items else "no iteration yet; ask for one with `gymnastd iterate`")


def show_iteration(record: Record, *, console: Console | None = None) -> None:
    """Print what is known of one iteration: phases, real success, model error."""
    out = console or Console()
    whose = "" if record["lineage"] == "main" else f" of lineage {record['lineage']}"
    out.print(f"iteration {record['number']}{whose} is {standing(record)}")
    if record["error"]:
        out.print(f"  {record['error']['code']}: {record['error']['message']}", markup=False)
    phases = Table("phase", "attempt", "state", "done", "says")
    for run in record["phases"]:
        phases.add_row(
            run["phase"], str(run["attempt"]), run["state"], f"{100 * run['progress']:.0f} %", said(run)
        )
    out.print(phases)
    held_out = record["world_model"]["held_out_error"]
    if held_out:
        out.print(f"world model, held-out error: before {held_out['before']}, after {held_out['after']}")
    for line in learning_lines(record):
        out.print(line, markup=False, highlight=False)
    rates = [
        {"iteration": record["number"], "task": task, **rate} for task, rate in record["success"].items()
    ]
    if rates:
        show_success_rates(
            [*rates, {"iteration": record["number"], "task": None, **record["overall"]}], console=out
        )


def trust_lines(world_model: Record) -> list[str]:
    """What the gate said and how far the world model is trusted, task by task."""
    lines: list[str] = []
    if gate := world_model["gate"]:
        verdict = "accepted" if gate["accepted"] else "rejected, the iteration goes on with the old one"
        lines.append(f"world model {verdict}: {'; '.join(gate['reasons'])}")
    if trust := world_model["trust"]:
        lines.append(f"rollouts of at most {trust['horizon']} steps are trusted; held-out episodes end")
        lines += [f"  {task}: {outcome_text(own)}" for task, own in sorted(trust["outcomes"].items())]
        lines += closed_loop_lines(trust.get("closed_loop"))
    return lines


def closed_loop_lines(found: Record | None) -> list[str]:
    """How often the policy succeeds in imagination and on the robot, from the same starts."""
    if not found or not found["tasks"]:
        return []
    return ["the policy itself, from the same starts:"] + [
        f"  {task}: imagined {own['hits'] + own['false_hopes']}, really {own['hits'] + own['missed']} of "
        f"{right_of_known(own)[1]}, {own['declined']} not judged"
        for task, own in sorted(found["tasks"].items())
    ]


def learning_lines(record: Record) -> list[str]:
    """What became of the candidate, of the world model, of the judge, and of tasks that were not trusted."""
    return [
        *trial_lines(record["trial"]),
        *filter(None, [record.get("trial_not_carried")]),
        *trust_lines(record["world_model"]),
        *audit_lines(record["judge_audit"]),
        *alarm_lines(record.get("alarms", ())),
        *(
            f"{task} had its full length: {why}"
            for task, why in sorted(record.get("full_length", {}).items())
        ),
        *(f"{task} left out: {reason}" for task, reason in sorted(record["tasks_left_out"].items())),
    ]


def alarm_lines(alarms: Sequence[Record]) -> list[str]:
    """Where the success of a policy that did not change has changed: look at the robot and its scene."""
    return [
        f"alarm: success of policy {alarm['policy_number']} at {alarm['task']} on {alarm['station']} "
        f"{alarm['direction']} from {told(alarm['before'])} to {told(alarm['after'])} since "
        f"{moment(alarm['changed_at'])}, and the policy is the same"
        for alarm in alarms
    ]


def audit_lines(audit: Record | None) -> list[str]:
    """How the judge did on real held-out episodes, in one line."""
    if not audit:
        return []
    said = []
    for task, own in sorted(audit.items()):
        right, known = right_of_known(own)
        said.append(f"{task} {right} of {known}")
    return [f"the judge says what the label says: {'; '.join(said)}"]


def trial_lines(trial: Record | None) -> list[str]:
    """What became of the candidate, with its successes beside the champion's."""
    if trial is None:
        return []
    if "by_task" not in trial:
        return [f"candidate {trial['decision']} without a trial"]
    by_task = sorted(trial["by_task"].items())
    counts = "; ".join(
        f"{task} {told(own['candidate'])} against {told(own['champion'])}" for task, own in by_task
    )
    what = "champion rolled back" if trial["decision"] == "rolled_back" else f"candidate {trial['decision']}"
    lines = [f"{what}, better with probability {trial['probability_better']:.2f}: {counts}"]
    if trial.get("carried"):
        lines.append(f"  {carried_text(trial['carried'])}")
    if trial["decision"] == "undecided" and trial.get("carries_left"):
        lines.append("  the next iteration of the lineage carries it on")
    return lines


def told(count: Record) -> str:
    return f"{count['successes']}/{count['episodes']}"


def outcome_text(own: Record) -> str:
    """`as imagined 10 of 12 (optimism +0.08), 1 not judged`."""
    right, known = right_of_known(own)
    optimism = f" (optimism {own['optimism']:+.2f})" if known else ""
    return f"as imagined {right} of {known}{optimism}, {own['declined']} not judged"


def show_success_rates(items: Sequence[Record], *, console: Console | None = None) -> None:
    """Print real success rates as k/n with the interval."""
    table = Table("iteration", "task", "success", "95 % interval")
    for item in items:
        low, high = item["wilson_low"], item["wilson_high"]
        table.add_row(
            str(item["iteration"]),
            item["task"] or "all",
            f"{item['successes']}/{item['episodes']}",
            f"{100 * low:.0f} to {100 * high:.0f} %",
        )
    (console or Console()).print(table if items else "no episode has been judged yet")


def moment(instant: str | None) -> str:
    """Shorten a time of the daemon to the second; the zone is always UTC."""
    return instant[:19].replace("T", " ") if instant else ""
