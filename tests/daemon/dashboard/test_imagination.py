"""Imagination: real beside imagined, how they part, and how far that is trusted."""

import pytest

from daemon.dashboard.imagination import along_charts, drift_charts
from tests.daemon.dashboard.html import Page
from tests.daemon.dashboard.laboratory import HOSTILE, JPEG, TASK, trust_document


def test_before_anything_was_imagined_the_page_says_so(browser):
    assert "No world model has imagined" in browser.page("/imagination").text


@pytest.mark.usefixtures("laboratory")
def test_the_newest_is_shown_real_beside_imagined(browser):
    page = browser.page("/imagination")
    assert "Imagination of iteration 2" in page.text
    pictures = [found["src"] for found in page.all("img")]
    assert pictures == [f"/v1/iterations/2/film-strips/{TASK}/{one}.jpg" for one in ("real", "imagined")]
    assert [browser.client.get(one).content for one in pictures] == [JPEG, JPEG[::-1]]


@pytest.mark.usefixtures("laboratory")
def test_the_judge_is_shown_along_the_real_and_the_imagined_film(browser):
    page = browser.page("/imagination")
    assert page.faults() == []
    assert page.all("title", id="t-along-0")
    assert "real: 0.1 at step 0, 0.9 at 2; imagined: 0.1 at step 0, 0.4 at 2" in page.text


def test_the_judges_curves_skip_what_is_unknown_and_say_where_trust_ends():
    curves = {"real": [0.1, None, 0.9, 1.0], "imagined": [0.1, 0.2, 0.4, 0.5]}
    outcome = {"judge_along": {"b": curves, "a": curves}, "trust": {"horizon": 2}}
    charts = along_charts(outcome)
    assert [chart.key for chart in charts.values()] == ["along-0", "along-1"]
    real, imagined = charts["b"].series
    assert [(p.x, p.y) for p in real.points] == [(0.0, 0.1), (2.0, 0.9), (3.0, 1.0)]
    assert [p.y for p in imagined.points] == curves["imagined"]
    assert [mark.x for mark in charts["b"].marks] == [2]
    for trust in ({"horizon": 3}, None):
        assert not along_charts({**outcome, "trust": trust})["b"].marks


def test_an_iteration_of_a_release_before_has_strips_without_the_judges_curve():
    assert along_charts({"film_strips": {"t": {}}}) == {}


@pytest.mark.usefixtures("laboratory")
def test_an_older_one_can_be_chosen_and_one_that_imagined_nothing_cannot(browser, client):
    client.post("/v1/iterations", json={})
    page = browser.page("/imagination", iteration=1)
    assert "Imagination of iteration 1" in page.text
    assert [found for found in page.all("option") if "selected" in found] != []
    for number in (3, 99):
        answer = browser.get("/imagination", iteration=number)
        assert answer.status_code == 404
        assert Page(answer.text).faults() == []


@pytest.mark.usefixtures("laboratory")
def test_how_episodes_end_is_told_by_task(browser):
    text = browser.page("/imagination").text
    assert HOSTILE in text
    assert "73 %" in text
    assert "+0.09" in text
    assert "1.40 times as large" in text


def test_drift_has_a_chart_per_measure_and_says_where_trust_ends():
    document = trust_document()
    charts = {chart.key: chart for chart in drift_charts(document)}
    assert set(charts) == {"drift-psnr", "drift-ssim", "drift-latents"}
    assert [one.name for one in charts["drift-latents"].series] == [
        "own actions",
        "another episode's actions",
    ]
    assert [(p.x, p.y) for p in charts["drift-psnr"].series[0].points] == [(1.0, 0.1), (2.0, 0.2)]
    assert charts["drift-psnr"].marks == (), "33 steps are beyond what was measured"
    document["horizon"] = 2
    assert [mark.x for mark in drift_charts(document)[0].marks] == [2]
