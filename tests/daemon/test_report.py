"""The report says what the summary holds, stands alone and draws curves the right way up."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from jinja2 import UndefinedError

from daemon.report import (
    CURVE_HEIGHT,
    CURVE_WIDTH,
    Curve,
    FilmStrip,
    curves_of,
    drift_of,
    render_report,
)

JPEG = b"\xff\xd8\xff\xe0 not a real picture \xff\xd9"


def a_trust() -> dict[str, object]:
    outcome = {
        "hits": 6, "false_hopes": 2, "missed": 1, "rightly_failed": 2, "declined": 3,
        "agreement": 8 / 11, "optimism": 1 / 11,
    }  # fmt: skip
    curve = {"1": 0.1, "2": 0.2, "10": 0.3}
    return {
        "horizon": 33,
        "outcomes": {"open_drawer": outcome},
        "drift": {"psnr": curve, "ssim": curve, "latents": curve},
        "shuffled_latents": curve,
    }


def a_summary(**changes: object) -> dict[str, Any]:
    iteration = {
        "number": 1,
        "success": {
            "open_drawer": {"successes": 7, "episodes": 10, "wilson_low": 0.3968, "wilson_high": 0.8922}
        },
        "imagined_success": {"open_drawer": {"first": 0.25, "last": 0.5}},
        "trial": None,
        "judge_audit": None,
        "tasks_left_out": {},
        "world_model": {
            "held_out_error": {
                "before": 0.02,
                "after": 0.01,
                "by_horizon": {"10": {"before": 0.02, "after": 0.01}},
            },
            "gate": {"accepted": True, "reasons": ["latent error 0.3 -> 0.2: better"]},
            "trust": a_trust(),
        },
    }
    return {"cell_seed": 7, "seed": 0, "tasks": ["open_drawer"], "iterations": [iteration], **changes}


def a_curve(points: list[tuple[float, float]]) -> Curve:
    return Curve(iteration=1, phase="update_policy", name="loss", points=points)


def test_the_page_shows_successes_and_their_interval() -> None:
    page = render_report(a_summary(), strips=[], curves=[])
    assert "7/10" in page
    assert "40–89" in page
    assert "0.25 → 0.50" in page


def test_the_page_says_which_trial_was_carried_on_and_why_one_was_not() -> None:
    summary = a_summary()
    count = {"successes": 1, "episodes": 12}
    summary["iterations"][0]["trial"] = {
        "decision": "undecided",
        "probability_better": 0.8,
        "by_task": {"open_drawer": {"champion": count, "candidate": count}},
    }
    page = render_report(summary, strips=[], curves=[])
    assert "undecided, better with probability 0.80</td>" in page
    summary["iterations"][0]["trial"]["carried"] = {"from": 3, "episodes": 24, "of": 96}
    summary["iterations"][0]["trial_not_carried"] = "the trial of <b> is not carried on"
    page = render_report(summary, strips=[], curves=[])
    assert "better with probability 0.80, carried on from iteration 3, 24 of 96 episodes so far" in page
    assert "Iteration 1: the trial of &lt;b&gt; is not carried on." in page


def test_the_page_shows_the_error_before_and_after_finetuning() -> None:
    page = render_report(a_summary(), strips=[], curves=[])
    assert "<td>0.02000</td><td>0.01000</td>" in page


def test_the_page_says_how_far_the_world_model_is_trusted() -> None:
    page = render_report(a_summary(), strips=[], curves=[])
    for part in (
        "<td>8/11</td>",
        "<td>+0.09</td>",
        "<td>3</td>",
        "<td>33</td>",
        "accepted: latent error 0.3",
    ):
        assert part in page
    assert page.count("by step") == 4


def test_an_iteration_that_measured_no_trust_has_no_row_of_it() -> None:
    summary = a_summary()
    summary["iterations"][0]["world_model"]["trust"] = None
    assert "by step" not in render_report(summary, strips=[], curves=[])


def test_drift_curves_go_by_step_and_not_by_text() -> None:
    curves = {curve.name: curve.points for curve in drift_of(1, a_trust())}
    assert curves["psnr"] == [(1.0, 0.1), (2.0, 0.2), (10.0, 0.3)]
    assert len(curves) == 4
    assert drift_of(1, None) == []


def test_a_task_without_a_valid_episode_is_said_to_have_none() -> None:
    page = render_report(a_summary(tasks=["open_drawer", "close_drawer"]), strips=[], curves=[])
    assert "no valid episode" in page


def test_the_page_fetches_nothing_from_anywhere() -> None:
    strip = FilmStrip(iteration=1, task="open_drawer", real_jpeg=JPEG, imagined_jpeg=JPEG)
    page = render_report(a_summary(), strips=[strip], curves=[a_curve([(0, 1.0), (1, 2.0)])])
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []
    assert "http" not in page.replace("HTTP", "")


def test_film_strips_stand_in_the_page_byte_for_byte() -> None:
    strip = FilmStrip(iteration=2, task="close_drawer", real_jpeg=JPEG, imagined_jpeg=JPEG[::-1])
    page = render_report(a_summary(), strips=[strip], curves=[])
    found = [base64.b64decode(text) for text in re.findall(r"base64,([^\"]+)\"", page)]
    assert found == [JPEG, JPEG[::-1]]


def test_names_from_a_lab_cannot_inject_markup() -> None:
    strip = FilmStrip(iteration=1, task="<script>alert(1)</script>", real_jpeg=JPEG, imagined_jpeg=JPEG)
    page = render_report(a_summary(), strips=[strip], curves=[])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_summary_without_its_numbers_is_refused_rather_than_shown_empty() -> None:
    with pytest.raises(UndefinedError):
        render_report({"cell_seed": 7, "seed": 0, "tasks": []}, strips=[], curves=[])


@pytest.mark.parametrize(
    ("points", "drawn"),
    [
        ([(0.0, 0.0), (1.0, 1.0)], f"0.0,{CURVE_HEIGHT:.1f} {CURVE_WIDTH:.1f},0.0"),  # rising goes up
        ([(10.0, 4.0), (20.0, 2.0)], f"0.0,0.0 {CURVE_WIDTH:.1f},{CURVE_HEIGHT:.1f}"),
        ([(0.0, 3.0), (2.0, 3.0)], f"0.0,{CURVE_HEIGHT:.1f} {CURVE_WIDTH:.1f},{CURVE_HEIGHT:.1f}"),  # flat
        ([(5.0, 1.0), (5.0, 2.0)], f"0.0,{CURVE_HEIGHT:.1f} 0.0,0.0"),  # one update recorded twice
    ],
)
def test_a_curve_fills_its_box_with_the_highest_value_on_top(
    points: list[tuple[float, float]], drawn: str
) -> None:
    assert a_curve(points).polyline() == drawn


def test_a_curve_knows_its_extremes_and_its_end() -> None:
    curve = a_curve([(0, 2.0), (1, 5.0), (2, 3.0)])
    assert (curve.low, curve.high, curve.last) == (2.0, 5.0, 3.0)


def test_curves_need_two_points_to_be_curves() -> None:
    recorded = {"update_policy": {"loss": [[0, 1.0], [1, 0.5]], "kept_groups": [[0, 4]]}}
    assert [(c.iteration, c.phase, c.name) for c in curves_of(3, recorded)] == [(3, "update_policy", "loss")]
