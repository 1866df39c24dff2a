"""Progress: rates with intervals, who went on, what was imagined, what it cost."""

import pytest

from daemon.dashboard.progress import SHOWN
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


def test_the_rates_can_be_had_as_csv(browser, laboratory):
    (link, by_policy) = [
        found["href"] for found in browser.page("/progress").all("a") if "csv" in found["href"]
    ]
    for one in (link, by_policy):
        answer = browser.client.get(one)
        assert answer.headers["content-type"].startswith("text/csv")
        assert len(answer.text.splitlines()) > 2


def test_many_iterations_come_in_pages(browser, client):
    for seed in range(SHOWN + 1):
        client.post("/v1/iterations", json={"seed": seed})
    page = browser.page("/progress")
    (older,) = page.all("a", rel="next")
    assert browser.client.get(older["href"]).status_code == 200
