"""Progress: rates with intervals, who went on, what was imagined, what it cost."""

from datetime import UTC, datetime

import pytest

from daemon.dashboard.cost_charts import cost_charts
from daemon.dashboard.progress import SHOWN
from storage import device_time, metrics
from tests.daemon.dashboard.laboratory import HOSTILE, TASK


def test_without_an_episode_the_page_says_so(browser):
    page = browser.page("/progress")
    assert "No episode has been judged yet" in page.text
    assert page.all("svg") == []


@pytest.mark.usefixtures("laboratory")
def test_each_task_has_a_chart_with_intervals_and_its_imagined_success(browser):
    page = browser.page("/progress")
    assert page.text.count("Success at ") >= 2
    assert f"Success at {HOSTILE}" in page.text
    assert any("whisker" in line["class"] for line in page.all("line"))
    assert "imagined after the update" in page.text
    assert "Optimism of the world model" in page.text


@pytest.mark.usefixtures("laboratory")
def test_who_went_on_is_marked_in_chart_and_table(browser):
    page = browser.page("/progress")
    assert any("hollow" in circle["class"] for circle in page.all("circle"))
    assert "does not go on" in page.text
    assert "candidate better with probability 0.90" in page.text
    assert any("mark" in line["class"] for line in page.all("line"))


@pytest.mark.usefixtures("laboratory")
def test_the_table_has_the_rates_of_the_rest_api(browser, client):
    text = " ".join(browser.page("/progress").text.split())
    items = client.get("/v1/success-rates", params={"by": "iteration,task,policy"}).json()["items"]
    for item in items:
        if item["episodes"]:
            assert f"{item['successes']} of {item['episodes']}" in text
            assert f"{100 * item['wilson_low']:.0f} to {100 * item['wilson_high']:.0f} %" in text
    assert TASK in text


@pytest.mark.usefixtures("laboratory")
def test_robot_hours_and_what_the_judge_cost_are_charts_beside_their_table(
    browser, client, finish_phase, database
):
    assert "Cost of the judge" not in browser.page("/progress").text, "no judge was asked"
    client.post("/v1/iterations", json={"phases": ["update_policy"]})
    done = finish_phase(judge_audit={})
    with database.write() as session:
        values = {"judge_requests": 12.0, "judge_usd": 0.5}
        metrics.record(session, done.phase_run_id, values, now=datetime.now(UTC))
    page = browser.page("/progress")
    assert page.faults() == []
    for title in ("Robot hours, by iteration", "Requests to the judge", "Cost of the judge, USD"):
        assert title in page.text
    assert "iteration 3: 12" in page.text
    hours = sum(cost["robot_seconds"] for cost in client.get("/v1/ledger").json()["items"]) / 3600
    assert hours > 0.0


def test_a_cost_begins_at_zero_and_what_was_not_used_has_no_chart():
    costs = [
        {"iteration": number, "robot_seconds": seconds, "judge_requests": 0, "judge_usd": 0.0}
        for number, seconds in ((3, 7200.0), (1, 3600.0))
    ]
    (chart,) = cost_charts(costs)
    assert (chart.title, chart.span) == ("Robot hours", (0.0, 2.0))
    assert [(point.x, point.y) for point in chart.series[0].points] == [(1, 1.0), (3, 2.0)]
    assert cost_charts([]) == []


def test_the_costs_name_the_devices_and_so_does_the_iteration(browser, client, database, claim_phase):
    client.post("/v1/iterations", json={"phases": ["update_policy"]})
    claimed = claim_phase()
    with database.write() as session:
        device_time.note_device(session, claimed, "<b>NVIDIA H200</b>")
    for path in ("/progress", "/iterations/1"):
        page = browser.page(path)
        assert page.faults() == []
        assert "<b>NVIDIA H200</b>" in page.text


def test_many_iterations_come_in_pages(browser, client):
    for seed in range(SHOWN + 1):
        client.post("/v1/iterations", json={"seed": seed})
    page = browser.page("/progress")
    (older,) = page.all("a", rel="next")
    assert browser.client.get(older["href"]).status_code == 200
