"""The page of one iteration: phases, decisions with their evidence, curves, lineage, what changed."""

import json

import pytest

from daemon.curves import curves_path
from daemon.dashboard.ancestry import MOST_BOXES, ancestry_of
from daemon.dashboard.iteration import MOST_CURVES
from storage import iterations, phase_runs
from tests.daemon.dashboard.laboratory import saved

pytestmark = pytest.mark.usefixtures("laboratory")


def test_the_list_leads_to_every_iteration(browser):
    links = {found["href"] for found in browser.page("/iterations").all("a")}
    assert {"/iterations/1", "/iterations/2"} <= links


def test_phases_have_their_state_and_their_log(browser):
    page = browser.page("/iterations/1")
    assert page.text.count("finished") >= 4
    assert page.all("a", href="/v1/iterations/1/phases/collect/1/log")


def test_decisions_stand_with_what_they_rest_on(browser):
    text = browser.page("/iterations/2").text
    assert "Accepted" in text
    assert "Candidate promoted" in text
    assert "0.900" in text
    assert "Tasks that the update did not trust" in text


def test_training_curves_are_drawn(browser):
    titles = [chart for chart in browser.page("/iterations/1").all("title") if "id" in chart]
    assert any(found["id"].startswith("t-collect-") for found in titles)


def test_the_manifest_is_named_by_the_digest_that_the_api_gives(browser, client):
    tag = client.get("/v1/iterations/1/manifest").headers["etag"].strip('"')
    assert tag in browser.page("/iterations/1").text


def test_what_changed_is_told_against_the_iteration_before(browser):
    assert "This is the first" in browser.page("/iterations/1").text
    text = browser.page("/iterations/2").text
    assert "From iteration 1 to 2" in text
    assert "seed" in text


def test_lineage_goes_from_the_newest_to_the_first(browser, laboratory, database):
    assert "policy 2 comes from policy 1" in browser.page("/iterations/2").text
    with database.read() as session:
        drawn = ancestry_of(session, laboratory[1]["policy"], iteration_id="nobody's")
    assert [box.number for box in drawn.boxes] == [2, 1]
    assert [box.mine for box in drawn.boxes] == [False, False]
    assert drawn.older == 0


def test_a_long_lineage_says_how_many_are_not_drawn(database, blobs, laboratory, tmp_path):
    parent = laboratory[1]["policy"]
    for number in range(3, MOST_BOXES + 3):
        parent = saved(database, blobs, tmp_path, kind="policy", number=number, parent=parent)
    with database.read() as session:
        drawn = ancestry_of(session, parent, iteration_id="nobody's")
    assert (len(drawn.boxes), drawn.older) == (MOST_BOXES, 2)
    assert drawn.width > drawn.boxes[-1].x


def test_a_page_of_long_and_many_curves_is_still_a_page(browser, database, settings):
    with database.read() as session:
        row = next(r for r in iterations.list_iterations(session)[0] if r.number == 1)
        runs = phase_runs.of_iteration(session, row.id)
    for run in runs:
        path = curves_path(settings.data_dir, run.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (
            json.dumps({"update": update, **{f"curve-{name}": 1 / (update + name + 1) for name in range(40)}})
            for update in range(600)
        )
        path.write_text("\n".join(lines))
    page = browser.page("/iterations/1")
    assert page.faults() == [], "a page has at most 200 kB"
    assert len([found for found in page.all("title") if "id" in found]) >= 3 * MOST_CURVES


def test_a_document_of_another_release_breaks_no_page(browser, finish_phase, client):
    client.post("/v1/iterations", json={"seed": 9})
    finish_phase(trial={"decision": "adopted"})
    finish_phase(trust={"horizon": 3}, gate={"accepted": False, "reasons": []})
    finish_phase(judge_audit={"lid": {"hits": 1, "false_hopes": 0, "missed": 0, "rightly_failed": 0}})
    for path in ("/", "/progress", "/iterations/3", "/trust", "/imagination"):
        assert browser.page(path).faults() == []
