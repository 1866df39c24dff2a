"""The learning proof: what it asks of the loop, what it tells of it, and that it goes on where it was."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console
from typer.testing import CliRunner

from daemon import learning_proof
from daemon.cli import app
from daemon.errors import ProofDiffers
from daemon.learning_figure import HEIGHT, TOP, Line, figure
from daemon.learning_proof import PRESETS, Plan, known_before, merged, prove_learning, run_arm
from daemon.learning_report import columns_of, markdown, points_of, rows_of, verdicts
from daemon.spec import parse_spec
from daemon.statistics import wilson_interval
from tests.waiting import until

SMALL: dict[str, Any] = {
    "steps": 10,
    "tasks": ["open_drawer", "close_drawer"],
    "collect": {"episodes_per_task": 2, "held_out_every": 2},
    "world_model": {"updates": 2, "batch": 2},
    "judge": {"updates": 1},
    "policy": {"updates": 1, "groups": 2, "group_size": 2, "epochs": 1},
}


def rate(successes: int, episodes: int) -> dict[str, Any]:
    interval = wilson_interval(successes, episodes)
    return {
        "successes": successes,
        "episodes": episodes,
        "wilson_low": interval.low,
        "wilson_high": interval.high,
    }


def a_record(number: int, *, drawer: int, eggplant: int, imagined: float | None = 0.5) -> dict[str, Any]:
    """Twenty episodes of each of two tasks."""
    return {
        "number": number,
        "success": {"open_drawer": rate(drawer, 20), "put_eggplant_blue_sink": rate(eggplant, 20)},
        "overall": rate(drawer + eggplant, 40),
        "imagined_success": {"open_drawer": {"first": 0.2, "last": imagined, "rollouts": 96}},
        "trial": None,
        "judge_audit": None,
        "tasks_left_out": {},
        "world_model": {
            "gate": {"accepted": True},
            "trust": {
                "overall": {"agreement": 0.9, "optimism": 0.05},
                "outcomes": {},
                "closed_loop": {"tasks": {}, "overall": {"optimism": -0.125}},
                "horizon": 31,
            },
        },
    }


def an_arm(*records: dict[str, Any]) -> dict[str, Any]:
    return {"points": points_of(records), "cpu_minutes": 12.0}


def test_every_iteration_has_its_own_seed_and_the_last_two_learn_nothing() -> None:
    plan = Plan(iterations=2, cell_seed=5, seed=10, spec={"steps": 30, "policy": {"updates": 7, "kl": 0.1}})
    documents = [plan.document(index, "loop") for index in range(4)]
    assert [document["seed"] for document in documents] == [10, 11, 12, 13]
    assert documents[0] == documents[1] | {"seed": 10} == {**plan.spec, "seed": 10}
    assert documents[2]["policy"] == {"updates": 0, "kl": 0.1}
    assert [documents[2][part]["updates"] for part in ("world_model", "judge")] == [0, 0]
    assert documents[3] == {**documents[2], "seed": 13, "trial": {"carries": 0}}, "the champion acts alone"
    assert plan.document(2, "control") == documents[2]


def test_the_control_leaves_the_world_model_and_the_judge_as_they_were_and_updates_the_policy() -> None:
    document = Plan(iterations=2, cell_seed=5, seed=0, spec=SMALL).document(0, "control")
    assert (document["world_model"]["updates"], document["judge"]["updates"]) == (0, 0)
    assert document["policy"] == SMALL["policy"]
    assert document["world_model"]["batch"] == 2


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_are_specs_the_daemon_takes(preset: str) -> None:
    plan = Plan(iterations=1, cell_seed=0, seed=0, spec=PRESETS[preset])
    for index in range(3):
        for arm in ("loop", "control"):
            parse_spec(plan.document(index, arm))
    assert parse_spec(PRESETS[preset]).collect.episodes_per_task >= 20
    assert parse_spec(PRESETS[preset]).collect.temperature == 0


def test_merging_changes_what_is_named_and_nothing_else() -> None:
    spec = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merged(spec, {"a": {"y": 5}, "c": {"z": 6}}) == {"a": {"x": 1, "y": 5}, "b": 3, "c": {"z": 6}}
    assert spec == {"a": {"x": 1, "y": 2}, "b": 3}


def test_a_row_tells_real_success_with_intervals_imagined_success_and_trust() -> None:
    arm = an_arm(a_record(1, drawer=10, eggplant=2), a_record(2, drawer=20, eggplant=9, imagined=None))
    assert columns_of(arm["points"])[1:3] == ["open_drawer", "put_eggplant_blue_sink"]
    first, second = rows_of(arm["points"])
    assert first[0] == "1"
    assert first[1].startswith("10/20")
    assert first[3].startswith("12/40")
    assert first[4:] == ["–", "0.50", "0.90", "+0.05", "-0.12", "40"]
    assert (second[5], second[-1]) == ("–", "80"), "nothing imagined, and episodes add up"


def test_episodes_of_both_policies_of_a_trial_took_the_robots_time() -> None:
    record = a_record(1, drawer=10, eggplant=2)
    both = {"champion": {"successes": 1, "episodes": 7}, "candidate": {"successes": 1, "episodes": 9}}
    record["trial"] = {"decision": "promoted", "by_task": {"open_drawer": both}}
    (point,) = points_of([record])
    assert point["robot_episodes"] == 16
    assert rows_of([point])[0][4] == "promoted"
    record["trial"]["carried"] = {"from": 1, "before": 6}
    (point,) = points_of([record])
    assert point["robot_episodes"] == 10, "six of them were run in the iteration before"


def test_what_a_rollback_rests_on_is_not_counted_again() -> None:
    record = a_record(1, drawer=10, eggplant=2)
    both = {"champion": {"successes": 1, "episodes": 700}, "candidate": {"successes": 1, "episodes": 900}}
    back = {"decision": "rolled_back", "by_task": {"open_drawer": both}, "tried": None}
    record["trial"] = back
    (point,) = points_of([record])
    assert point["robot_episodes"] == 40
    tried = {name: {"successes": 1, "episodes": 20} for name in both}
    record["trial"] = {**back, "tried": {"decision": "rejected", "by_task": {"open_drawer": tried}}}
    (point,) = points_of([record])
    assert point["robot_episodes"] == 40


def test_episodes_that_chose_a_policy_are_told_as_such() -> None:
    first, last = a_record(1, drawer=10, eggplant=2), a_record(2, drawer=20, eggplant=16)
    assert not any("chose" in sentence for sentence in verdicts(an_arm(first, last)))
    last["trial"] = {"decision": "promoted"}
    assert any("chose" in sentence for sentence in verdicts(an_arm(first, last)))
    last["trial"] = {"decision": "rolled_back", "tried": None}
    assert not any("chose" in sentence for sentence in verdicts(an_arm(first, last)))
    assert any("was rolled back" in sentence for sentence in verdicts(an_arm(first, last)))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"cell_seed": 8}, "cell_seed is 7, 8 was asked"), ({"iterations": 3}, "iterations is 2, 3 was asked")],
)
def test_a_folder_is_one_plans(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    plan = Plan(iterations=2, cell_seed=7, seed=0, spec={"steps": 10})
    assert known_before(tmp_path / "out", plan)["spec"] == {"steps": 10}
    assert known_before(tmp_path / "out", plan)["cell_seed"] == 7
    with pytest.raises(ProofDiffers, match=said):
        known_before(tmp_path / "out", replace(plan, **change))


def test_the_table_for_documents_has_a_line_per_iteration() -> None:
    arm = an_arm(a_record(1, drawer=10, eggplant=2), a_record(2, drawer=20, eggplant=9))
    table = [line for line in markdown(arm, title="loop").splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert "10/20  [30, 70] %" in table[2]


@pytest.mark.parametrize(
    ("last", "said"),
    [((20, 16), "better beyond the intervals"), ((12, 4), "the intervals overlap")],
)
def test_progress_is_called_progress_only_beyond_the_intervals(last: tuple[int, int], said: str) -> None:
    arm = an_arm(
        a_record(1, drawer=10, eggplant=2), a_record(2, drawer=0, eggplant=0),
        a_record(3, drawer=last[0], eggplant=last[1]),
    )  # fmt: skip
    sentences = verdicts(arm)
    assert said in sentences[0]
    assert not any("worse" in sentence for sentence in sentences[1:])


def test_a_task_that_fell_is_named() -> None:
    sentences = verdicts(an_arm(a_record(1, drawer=19, eggplant=2), a_record(2, drawer=5, eggplant=12)))
    assert [("worse" in sentence) for sentence in sentences[1:]] == [True, False]


def test_the_figure_is_a_picture_whose_heights_are_the_shares() -> None:
    line = Line.of_rates("open & close", [rate(0, 20), rate(20, 20)], strong=True)
    picture = ElementTree.fromstring(figure([line], title="a <title>"))  # noqa: S314
    (curve,) = picture.findall("{*}polyline")
    heights = [float(corner.split(",")[1]) for corner in curve.attrib["points"].split()]
    assert heights == pytest.approx([TOP + HEIGHT, TOP])
    assert "open & close" in [text.text for text in picture.findall("{*}text")]


def test_moments_without_a_number_are_left_out_of_a_curve() -> None:
    line = Line.of_values("imagined", [0.5, None, 1.0])
    picture = ElementTree.fromstring(figure([line], title=""))  # noqa: S314
    (curve,) = picture.findall("{*}polyline")
    assert len(curve.attrib["points"].split()) == 2
    assert Line.of_rates("x", [rate(0, 0)]).points == (None,)


def test_a_spec_that_is_none_is_refused_before_anything_starts(tmp_path: Path) -> None:
    for text in ('{"polcy": {}}', "no json", '{"steps": 1}'):
        file = tmp_path / "spec.json"
        file.write_text(text)
        result = CliRunner().invoke(
            app, ["bench", "learning", "--out", str(tmp_path / "o"), "--spec", str(file)]
        )
        assert result.exit_code != 0
        assert type(result.exception).__name__ in {"SpecUnknownField", "SpecInvalid"}
        assert not (tmp_path / "o").exists()


def test_an_iteration_that_failed_in_an_earlier_run_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retried: list[int] = []

    class Client:
        def __init__(self, url: str) -> None:
            self.number = 0

        def request_iteration(self, document: object, *, idempotency_key: str) -> dict[str, Any]:
            self.number += 1
            return {"number": self.number, "state": "failed" if self.number == 2 else "finished"}

        def retry(self, number: int) -> None:
            retried.append(number)

    monkeypatch.setattr(learning_proof, "servers", lambda *asked: nullcontext(("station", "daemon")))
    monkeypatch.setattr(learning_proof, "DaemonClient", Client)
    monkeypatch.setattr(learning_proof, "follow", lambda client, number, console: {"trial": None})
    plan = Plan(iterations=1, cell_seed=5, seed=1, spec=SMALL)
    records = run_arm(plan, tmp_path, arm="loop", console=Console(), told=lambda records: None)
    assert (len(records), retried) == (3, [2])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_proof_runs_both_arms_and_goes_on_where_it_was(tmp_path: Path) -> None:
    plan = Plan(iterations=1, cell_seed=5, seed=1, spec=SMALL)
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SMALL))
    words = ["--out", tmp_path, "--iterations", 1, "--cell-seed", 5, "--seed", 1, "--spec", spec]
    asked = ["bench", "learning", *map(str, words), "--json"]
    with subprocess.Popen([sys.executable, "-m", "daemon.cli", *asked]) as killed:
        until((tmp_path / "loop" / "serve.url").exists, "the daemon", within_s=90)
        killed.kill()  # its servers live on, and hold the lab's locks
    assert prove_learning(plan, out=tmp_path, arms=("loop", "control")) == 0
    first = json.loads((tmp_path / "learning.json").read_text())
    for arm in ("loop", "control"):
        points = first[arm]["points"]
        assert 3 <= len(points) <= 5
        assert [point["iteration"] for point in points] == list(range(1, len(points) + 1))
        assert {point["mean"]["episodes"] for point in points[:2]} == {4}
        assert not any(point["imagined"] for point in points[1:]), "after the first they only measure"
        assert points[-1]["trial"] is None, "the episodes at the end choose nobody"
    assert first["control"]["points"][0]["world_model_accepted"] is False, "nothing was learned"
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output or done.exception
    again = json.loads((tmp_path / "learning.json").read_text())
    assert json.loads(done.stdout) == {"folder": str(tmp_path), **again}
    assert "loop, iteration 3, the first 1 learn" in done.stderr
    assert again["loop"]["points"] == first["loop"]["points"], "the same iterations, not new ones"
    assert again["loop"]["cpu_minutes"] > first["loop"]["cpu_minutes"]
    for name in ("learning.md", "learning.svg"):
        assert (tmp_path / name).read_text()
