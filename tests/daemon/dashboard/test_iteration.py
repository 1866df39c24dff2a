"""The page of one iteration: phases, decisions with their evidence, curves, lineage, what changed."""

import json

import pytest

from daemon.curves import curves_path
from daemon.dashboard.changes import tables_of, told
from daemon.dashboard.phase_curves import MOST_CURVES
from storage import iterations, manifests, phase_runs

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


def test_a_trial_that_was_carried_on_says_from_where_and_one_that_was_not_why(browser, finish_phase, client):
    carried = {"from": 1, "iterations": [1], "before": 4, "episodes": 9, "of": 16}
    trial = {"decision": "undecided", "probability_better": 0.7, "by_task": {}, "carries_left": 1}
    client.post("/v1/iterations", json={"seed": 9})
    finish_phase(trial={**trial, "carried": carried}, trial_not_carried=None)
    text = browser.page("/iterations/3").text
    assert "The trial was carried on from iteration 1, 9 of 16 episodes so far." in text
    assert "The next iteration of the lineage carries it on." in text
    client.post("/v1/iterations/3/cancel")
    client.post("/v1/iterations", json={"seed": 10})
    finish_phase(trial=None, trial_not_carried="the trial of policy 2 is not carried on")
    text = browser.page("/iterations/4").text
    assert "The trial of policy 2 is not carried on." in text
    record = client.get("/v1/iterations/4").json()
    assert record["trial_not_carried"] == "the trial of policy 2 is not carried on"


def test_training_curves_are_drawn(browser):
    titles = [chart for chart in browser.page("/iterations/1").all("title") if "id" in chart]
    assert any(found["id"].startswith("t-collect-") for found in titles)


def test_the_manifest_is_named_by_the_digest_that_the_api_gives(browser, client):
    tag = client.get("/v1/iterations/1/manifest").headers["etag"].strip('"')
    assert tag in browser.page("/iterations/1").text


def test_what_changed_is_told_against_the_iteration_before_with_real_success_first(browser, client, database):
    with database.write() as session:
        for row in iterations.list_iterations(session)[0]:
            for run in phase_runs.of_iteration(session, row.id):
                manifests.save(session, run.id, {"checkpoints": {}, "episodes": []}, now=row.requested_at)
    assert "This is the first" in browser.page("/iterations/1").text
    page = browser.page("/iterations/2")
    text = " ".join(page.text.split())
    assert "From iteration 1 to 2." in text
    told = text[text.index("What was measured") :]
    before, after = (
        {item["task"]: item for item in client.get("/v1/success-rates").json()["items"]
         if item["iteration"] == number}
        for number in (1, 2)
    )  # fmt: skip
    beside = [
        f"{rate['successes']} of {rate['episodes']} "
        f"({100 * rate['wilson_low']:.0f} to {100 * rate['wilson_high']:.0f} %)"
        for rate in (before[None], after[None])
    ]
    assert before[None] != after[None], "the two sides can be told apart"
    assert told.startswith("What was measured WhatBeforeNow real success" + "".join(beside)), told[:200]
    assert told.index("real success, open_drawer") < told.index("trusted steps")
    assert "Update the policy: made policynumber 1" in told
    assert told.index("Checkpoints WhatBeforeNow") < told.index("Spec WhatBeforeNow seed12")


def test_what_has_no_number_is_told_in_words():
    rate = {"successes": 1, "episodes": 2, "wilson_low": 0.0945, "wilson_high": 0.9055}
    assert told(rate) == "1 of 2 (9 to 91 %)"
    assert told({"id": "0123456789", "number": 3, "sha256": "s"}) == "number 3 (01234567)"
    assert [told(value) for value in (None, True, False, 0.123456, 12, "promoted", [1, 2])] == [
        "–", "yes", "no", "0.1235", "12", "promoted", "[1, 2]",
    ]  # fmt: skip


def test_an_equal_spec_is_said_to_be_the_same():
    nothing = {"measured": [], "checkpoints": [], "spec": [], "circumstances": {}}
    assert tables_of(nothing) == [("Spec", [])]


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
    assert page.text.count("28 more curves are not drawn") == 3
    assert len(page.all("a", href="/v1/iterations/1/curves")) == 3


def test_a_document_of_another_release_breaks_no_page(browser, finish_phase, client):
    client.post("/v1/iterations", json={"seed": 9})
    finish_phase(trial={"decision": "adopted"})
    finish_phase(trust={"horizon": 3}, gate={"accepted": False, "reasons": []})
    finish_phase(judge_audit={"lid": {"hits": 1, "false_hopes": 0, "missed": 0, "rightly_failed": 0}})
    for path in ("/", "/progress", "/iterations/3", "/trust", "/imagination"):
        assert browser.page(path).faults() == []
