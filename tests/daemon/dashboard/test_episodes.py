"""Episodes: filtered, shown with pictures and curves, labelled by keyboard or mouse."""

import pytest

from storage import audit, labels
from storage.tables import EpisodeRow
from tests.daemon.conftest import build_episode
from tests.daemon.dashboard.html import Page
from tests.daemon.dashboard.laboratory import HOSTILE, TASK

pytestmark = pytest.mark.usefixtures("laboratory")


def episode(number):
    return build_episode(number).manifest.episode_id


def listed(page):
    return [
        found["href"].rsplit("/", 1)[1] for found in page.all("a") if found["href"].startswith("/episodes/")
    ]


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({}, 6),
        ({"task": HOSTILE}, 2),
        ({"task": TASK, "label": "success"}, 2),
        ({"label": "unlabelled"}, 2),
        ({"iteration": "1"}, 3),
        ({"valid": "no"}, 0),
        ({"station": "cell-1"}, 6),
        ({"from": "2026-01-01", "to": "2026-01-01"}, 6),
        ({"from": "2026-01-02"}, 0),
        ({"to": "2025-12-31"}, 0),
        ({"task": "", "label": "", "iteration": "", "from": ""}, 6),
    ],
)
def test_episodes_are_found_by_what_they_are(browser, asked, count):
    page = browser.page("/episodes", **asked)
    assert page.faults() == []
    assert len(listed(page)) == count


def test_the_policy_of_a_card_finds_its_episodes(browser, laboratory):
    older, newer = (made["policy"] for made in laboratory)
    card = browser.page("/episodes")
    assert {found["title"] for found in card.all("code")} == {older, newer}
    for name in (newer, newer[:8], "2"):
        assert listed(browser.page("/episodes", policy=name)) == [episode(20)]
    assert len(listed(browser.page("/episodes", policy="1"))) == 5
    assert listed(browser.page("/episodes", policy="3")) == []
    assert "No episode fits" in browser.page("/episodes", policy="nobody").text


def test_episodes_that_do_not_count_are_found_and_say_so(browser, database):
    with database.write() as session:
        session.get(EpisodeRow, episode(11)).valid_for_policy_eval = False
    invalid = browser.page("/episodes", valid="no")
    assert listed(invalid) == [episode(11)]
    assert "does not count" in invalid.text
    valid = listed(browser.page("/episodes", valid="yes"))
    assert len(valid) == 5
    assert episode(11) not in valid


@pytest.mark.parametrize(
    "asked", [{"label": "good"}, {"colour": "red"}, {"iteration": "0"}, {"from": "soon"}]
)
def test_a_filter_that_nobody_understands_is_a_page_that_says_so(browser, asked):
    answer = browser.get("/episodes", **asked)
    assert answer.status_code == 422
    assert Page(answer.text).faults() == []


def test_an_iteration_that_is_not_there_has_no_episodes(browser):
    assert browser.get("/episodes", iteration=99).status_code == 404


def test_pages_keep_the_filter(browser, monkeypatch):
    monkeypatch.setattr("daemon.dashboard.episodes.SHOWN", 1)
    first = browser.page("/episodes", task=HOSTILE, **{"from": "2026-01-01"})
    (link,) = first.all("a", rel="next")
    second = Page(browser.client.get(link["href"]).text)
    assert len(listed(first)) == len(listed(second)) == 1
    assert listed(first) != listed(second)
    assert second.all("option", selected=None) or "selected" in second.source


def test_an_episode_has_its_film_its_curves_and_its_history(browser):
    page = browser.page(f"/episodes/{episode(10)}")
    assert page.faults() == []
    assert page.all("video", src=f"/v1/episodes/{episode(10)}/video.mp4", data_steps="6")
    assert len(page.all("svg")) == 14
    assert len([line for line in page.all("line") if "data-cursor" in line]) == 14
    assert HOSTILE in page.text
    assert HOSTILE not in page.source
    assert {found["data-key"] for found in page.all("button") if "data-key" in found} == {"s", "f", "u"}


def test_pictures_are_the_recorded_ones(browser):
    built = build_episode(10, steps=6)
    for index in (0, 3, 6):
        answer = browser.get(f"/episodes/{episode(10)}/frames/{index}.jpg")
        assert answer.content == built.frames.jpeg(index)
        assert answer.headers["content-type"] == "image/jpeg"
    assert browser.get(f"/episodes/{episode(10)}/frames/7.jpg").status_code == 404
    assert browser.get("/episodes/nobody/frames/0.jpg").status_code == 404


def test_what_is_not_there_is_said(browser):
    answer = browser.get("/episodes/nobody")
    assert answer.status_code == 404
    assert Page(answer.text).faults() == []
    assert browser.post("/episodes/nobody/labels", said="success", labeller="ann", key="k").status_code == 404


def test_an_episode_whose_files_were_let_go_keeps_its_labels(browser, database, now):
    with database.write() as session:
        row = session.get(EpisodeRow, episode(10))
        row.retired_at = now
    page = browser.page(f"/episodes/{episode(10)}")
    assert page.faults() == []
    assert "files were let go" in page.text
    assert page.all("video") == page.all("svg") == []
    assert "files were let go" in browser.page("/episodes").text


@pytest.mark.parametrize(("said", "success"), [("success", True), ("failure", False)])
def test_a_label_counts_at_once(browser, database, said, success):
    path = f"/episodes/{episode(12)}"
    answer = browser.post(
        f"{path}/labels", seen=path, said=said, labeller="ann", note="looked twice", key="k"
    )
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    with database.read() as session:
        row = labels.effective_label(session, episode(12))
        assert (row.success, row.source, row.judge, row.answer) == (success, "human", "ann", "looked twice")
        assert [event.action for event in audit.read(session, subject=f"episode {episode(12)}")] == [
            "label_added"
        ]
    assert "looked twice" in browser.page(path).text


def test_pressing_twice_labels_once_and_changing_ones_mind_adds_another(browser, database):
    path = f"/episodes/{episode(12)}"
    for said in ("success", "success", "failure", "unknown"):
        browser.post(f"{path}/labels", seen=path, said=said, labeller="ann", key="k")
    with database.read() as session:
        own = [row.success for row in labels.history(session, episode(12)) if row.judge == "ann"]
        assert own == [True, False, None]
        assert labels.effective_label(session, episode(12)).success is False


@pytest.mark.parametrize(
    "fields",
    [
        {"said": "great", "labeller": "ann", "key": "k"},
        {"labeller": "ann", "key": "k"},
        {"said": "success", "labeller": "", "key": "k"},
        {"said": "success", "key": "k"},
        {"said": "success", "labeller": "ann", "key": "k", "note": "n" * 2001},
    ],
)
def test_a_label_that_is_none_is_refused(browser, database, fields):
    answer = browser.post(f"/episodes/{episode(12)}/labels", **fields)
    assert answer.status_code == 422
    with database.read() as session:
        assert {row.judge for row in labels.history(session, episode(12))} == {HOSTILE}


def test_who_has_a_token_is_named_by_it(logged_in, database):
    browser, path = logged_in("label", name="bob"), f"/episodes/{episode(12)}"
    assert browser.page(path).all("input", name="labeller") == []
    browser.post(f"{path}/labels", seen=path, said="success", labeller="somebody-else", key="k")
    with database.read() as session:
        assert labels.effective_label(session, episode(12)).judge == "bob"


def test_labelling_needs_its_own_scope(logged_in):
    browser, path = logged_in("operate"), f"/episodes/{episode(12)}"
    assert browser.page(path).all("button", name="said") == []
    assert browser.post(f"{path}/labels", seen=path, said="success", key="k").status_code == 403
