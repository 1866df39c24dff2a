"""Notes on an episode's page: written in a form of their own, told beside the verdicts, without one."""

import pytest

from storage import audit, labels, notes
from tests.daemon.dashboard.html import Page
from tests.daemon.dashboard.laboratory import HOSTILE
from tests.daemon.dashboard.test_episodes import episode

pytestmark = pytest.mark.usefixtures("laboratory")

SNAGGED = "gripper cable snagged at step 20"


@pytest.fixture
def path():
    return f"/episodes/{episode(12)}"


def written(database):
    """What was written on the episode besides what the laboratory wrote."""
    with database.read() as session:
        found = [(row.author, row.text) for row in notes.history(session, episode(12))]
    return found[1:]


def test_a_note_stands_on_the_page_at_once_and_judges_nothing(browser, database, path):
    with database.read() as session:
        before = [row.id for row in labels.history(session, episode(12))]
    answer = browser.post(f"{path}/notes", seen=path, text=f"  {SNAGGED} ", author="ann", key="k")
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert written(database) == [("ann", SNAGGED)]
    page = browser.page(path)
    assert page.faults() == []
    assert SNAGGED in page.text
    with database.read() as session:
        assert [row.id for row in labels.history(session, episode(12))] == before
        (act,) = audit.read(session, subject=f"episode {episode(12)}")
    assert (act.actor, act.action) == ("ann", "note_added")


def test_what_people_wrote_is_shown_as_it_is_and_never_run(browser, database, path):
    page = browser.page(path)
    assert HOSTILE in page.text
    assert HOSTILE not in page.source


def test_the_form_works_without_a_script_and_has_a_key_that_leads_to_its_field(browser, path):
    page = browser.page(path)
    assert page.all("form", action=f"{path}/notes", method="post")
    (field,) = page.all("input", name="text")
    assert (field["data-key"], field["maxlength"]) == ("w", "2000")
    assert "required" in field
    keys = [found["data-key"] for _, found in page.elements if "data-key" in found]
    assert sorted(keys) == ["f", "n", "s", "u", "w"]


def test_pressing_twice_is_one_note_and_writing_anew_another(browser, database, path):
    for text in (SNAGGED, SNAGGED, "and again at step 31"):
        answer = browser.post(f"{path}/notes", seen=path, text=text, author="ann", key="k")
        assert answer.status_code == 303
    assert written(database) == [("ann", SNAGGED), ("ann", "and again at step 31")]


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "", "author": "ann", "key": "k"},
        {"text": "  ", "author": "ann", "key": "k"},
        {"text": "x" * 2001, "author": "ann", "key": "k"},
        {"author": "ann", "key": "k"},
        {"text": SNAGGED, "author": "", "key": "k"},
        {"text": SNAGGED, "key": "k"},
        {"text": SNAGGED, "author": "ann"},
    ],
)
def test_a_note_that_is_none_is_a_page_that_says_so(browser, database, path, fields):
    answer = browser.post(f"{path}/notes", **fields)
    assert answer.status_code == 422
    assert Page(answer.text).faults() == []
    assert written(database) == []


def test_a_note_on_no_episode_is_a_page_that_says_so(browser):
    answer = browser.post("/episodes/nobody/notes", text=SNAGGED, author="ann", key="k")
    assert answer.status_code == 404
    assert Page(answer.text).faults() == []


def test_a_form_that_no_page_of_ours_made_writes_nothing(browser, database, path):
    fields = {"word": "guessed", "text": SNAGGED, "author": "ann", "key": "k"}
    assert browser.client.post(f"{path}/notes", data=fields).status_code == 403
    assert written(database) == []


def test_who_has_a_token_is_named_by_it(logged_in, database, path):
    browser = logged_in("label", name="bob")
    assert browser.page(path).all("input", name="author") == []
    browser.post(f"{path}/notes", seen=path, text=SNAGGED, author="somebody-else", key="k")
    assert written(database) == [("bob", SNAGGED)]


def test_writing_needs_the_scope_of_labels_and_reading_none_of_it(logged_in, database, path):
    browser = logged_in("operate")
    page = browser.page(path)
    assert page.all("input", name="text") == []
    assert HOSTILE in page.text
    assert browser.post(f"{path}/notes", seen=path, text=SNAGGED, key="k").status_code == 403
    assert written(database) == []


def test_the_list_says_how_many_notes_an_episode_has(browser, database, now):
    listed = browser.page("/episodes").text
    assert listed.count("1 note") == 6
    assert "2 notes" not in listed
    with database.write() as session:
        notes.append(session, episode(12), SNAGGED, author="ann", now=now)
    listed = browser.page("/episodes").text
    assert (listed.count("1 note"), listed.count("2 notes")) == (5, 1)
