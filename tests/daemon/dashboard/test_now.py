"""The page Now: what runs, what somebody has to do, and buttons that do what the API does."""

import json
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from daemon.app import create_app
from daemon.run_log import log_path
from daemon.spec import IterationSpec
from daemon.station_cameras import NO_CAMERA
from robot_bridge import reader
from robot_bridge.client import StationClient
from robot_bridge.station.human import HumanCall
from robot_bridge.station.serve import running_station
from storage import audit, iterations, phase_runs
from tests.daemon.dashboard.conftest import Browser
from tests.daemon.dashboard.html import Page
from tests.robot_bridge.builders import a_request
from tests.robot_bridge.toy_driver import ToyDriver


@pytest.fixture
def station(tmp_path):
    with running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench") as url:
        yield url


@pytest.fixture
def at_the_station(settings, station, slow_machine):
    """A browser at a daemon whose robot is there."""
    with TestClient(create_app(settings.model_copy(update={"station_url": station}))) as client:
        yield Browser(client.app)


def test_an_empty_daemon_has_a_page_without_faults(browser):
    page = browser.page("/")
    assert page.faults() == []
    assert "No iteration yet" in page.text
    assert json.loads(text_of(page, "textarea")) == IterationSpec().document()


def text_of(page, tag):
    return (
        Page(page.source)
        .source.split(f"<{tag}")[1]
        .split(">", 1)[1]
        .split(f"</{tag}>")[0]
        .replace("&#34;", '"')
    )


def test_a_started_iteration_is_shown_with_its_phases_and_its_log(browser, claim_phase, database, settings):
    assert browser.post("/start", spec='{"seed": 3}', key="k").status_code == 303
    claimed = claim_phase()
    log = log_path(settings.data_dir, claimed.phase_run_id)
    log.parent.mkdir(parents=True)
    log.write_text("<u>first line</u>\nlast line\n")
    with database.write() as session:
        phase_runs.heartbeat(
            session, claimed, progress=0.25, text="<b>episode 3 of 12</b>", now=datetime.now(UTC)
        )
    page = browser.page("/")
    assert page.faults() == []
    assert [bar["value"] for bar in page.all("progress")] == ["0.25", "0.0", "0.0"]
    assert "<b>episode 3 of 12</b>" in page.text
    assert "<u>first line</u>\nlast line" in page.text
    assert page.all("div", data_run="collect-1"), "what the live stream's progress is written to"


def test_the_same_form_sent_twice_starts_one(browser, database):
    for _ in range(2):
        browser.post("/start", spec='{"seed": 3}', key="k")
    with database.read() as session:
        assert [row.spec["seed"] for row in iterations.list_iterations(session)[0]] == [3]
        assert [event.action for event in audit.read(session)] == ["iteration_requested"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{", "expected JSON"),
        ('{"seed": -1}', "seed"),
        ('{"speed": 1}', "speed"),
        ("[]", "spec"),
        ("1" * 5000, "expected JSON"),
    ],
)
def test_a_spec_that_is_refused_comes_back_with_the_reason(browser, database, spec, said):
    answer = browser.post("/start", spec=spec, key="k")
    page = Page(answer.text)
    assert answer.status_code == 422
    assert page.faults() == []
    assert said in page.text
    assert text_of(page, "textarea") == spec
    with database.read() as session:
        assert iterations.list_iterations(session)[0] == []


def test_a_spec_that_the_robots_cannot_follow_comes_back_with_the_reason(settings):
    ours = settings.model_copy(update={"collect_via": "callback"})
    with TestClient(create_app(ours)) as client:
        answer = Browser(client.app).post("/start", spec='{"stop_on_success": true}', key="k")
    page = Page(answer.text)
    assert (answer.status_code, page.faults()) == (422, [])
    assert "GYMNASTD_COLLECT_VIA is callback" in page.text


def test_the_next_spec_begins_with_the_last(browser):
    browser.post("/start", spec='{"seed": 77}', key="k")
    assert json.loads(text_of(browser.page("/"), "textarea"))["seed"] == 77


@pytest.mark.parametrize(
    ("acts", "state", "offered"),
    [
        (["pause"], "paused", {"resume", "cancel"}),
        (["pause", "resume"], "requested", {"pause", "cancel"}),
        (["cancel"], "cancelled", set()),
    ],
)
def test_buttons_steer_the_iteration(browser, database, acts, state, offered):
    browser.post("/start", spec="{}", key="k")
    with database.read() as session:
        began = iterations.list_iterations(session)[0][0].state
    for act in acts:
        assert browser.post(f"/iterations/1/{act}").status_code == 303
    page = browser.page("/")
    found = {
        form["action"].rsplit("/", 1)[1] for form in page.all("form") if "/iterations/" in form["action"]
    }
    assert found - {"skip"} == offered
    assert (f"is {state}" in page.text) or (state == "requested" and began)
    with database.read() as session:
        assert {event.actor for event in audit.read(session)} == {"rest"}


def test_the_audit_names_who_pressed_the_button(logged_in, database):
    browser = logged_in("operate", name="night-shift")
    browser.post("/start", spec="{}", key="k")
    browser.post("/iterations/1/pause")
    with database.read() as session:
        assert {(event.actor, event.action) for event in audit.read(session)} == {
            ("night-shift", "iteration_requested"),
            ("night-shift", "iteration_paused"),
        }


def test_a_phase_can_be_skipped_and_only_a_phase(browser, database):
    browser.post("/start", spec="{}", key="k")
    assert browser.post("/iterations/1/skip", phase="finetune_world_model").status_code == 303
    assert browser.post("/iterations/1/skip", phase="lunch").status_code == 422
    assert browser.post("/iterations/1/explode").status_code == 422
    assert "skipped" in browser.page("/").text


def test_an_act_that_the_state_forbids_is_a_page_that_says_why(browser):
    browser.post("/start", spec="{}", key="k")
    browser.post("/iterations/1/cancel")
    answer = browser.post("/iterations/1/pause")
    assert answer.status_code == 409
    assert Page(answer.text).faults() == []
    assert browser.post("/iterations/9/pause").status_code == 404


def test_a_failed_iteration_says_why_and_can_be_retried(browser, claim_phase, database, now):
    browser.post("/start", spec="{}", key="k")
    claimed = claim_phase()
    with database.write() as session:
        row = iterations.list_iterations(session)[0][0]
        iterations.fail(session, row, error_code="arm_gone", message="<i>no arm</i>", now=now)
    page = browser.page("/")
    assert claimed.phase == "collect"
    assert "<i>no arm</i> [arm_gone]" in page.text
    assert page.all("form", action="/iterations/1/retry")
    assert browser.post("/iterations/1/retry").status_code == 303


def test_a_robot_that_answers_is_shown_as_it_stands(at_the_station, station):
    page = at_the_station.page("/")
    assert page.faults() == []
    assert station in page.text
    assert "is idle" in page.text


def test_the_emergency_stop_stops_the_robot_without_a_lease_and_says_what_to_do(at_the_station, until):
    assert at_the_station.post("/estop").status_code == 303
    until(lambda: "is stopped" in at_the_station.page("/").text, attempts=400)
    page = at_the_station.page("/")
    assert "clear-estop" in page.text
    assert page.all("p", role="alert")
    assert page.faults() == []


def test_a_stop_that_did_not_work_says_so_loudly(browser):
    answer = browser.post("/estop")
    page = Page(answer.text)
    assert answer.status_code == 424
    assert "NOT STOPPED" in page.text
    assert "red button" in page.text
    assert page.faults() == []


def test_what_a_human_has_to_do_is_said_in_the_stations_words(at_the_station, tmp_path, now):
    HumanCall(tmp_path / "spool").ask("put the <eggplant> back", now)
    page = at_the_station.page("/")
    assert "put the <eggplant> back" in page.text
    assert "human-done" in page.text


def test_autoevals_cells_are_not_asked(settings):
    ours = settings.model_copy(update={"collect_via": "autoeval", "autoeval_url": "http://127.0.0.1:9"})
    with TestClient(create_app(ours)) as client:
        browser = Browser(client.app)
        assert "AutoEval runs the episodes" in browser.page("/").text
        assert "not ours to stop" in browser.post("/estop").text


def test_the_end_of_a_log_of_long_lines_is_shown_and_no_more(browser, claim_phase, settings):
    browser.post("/start", spec="{}", key="k")
    log = log_path(settings.data_dir, claim_phase().phase_run_id)
    log.parent.mkdir(parents=True)
    log.write_text("x" * 500_000 + " the end\n")
    page = browser.page("/")
    assert page.faults() == []
    assert "the end" in page.text


# ---- cameras ---------------------------------------------------------------------------------------------


def camera_of(page):
    (figure,) = page.all("figure", data_camera="0")
    return figure


def test_the_camera_of_a_robot_at_work_is_shown_with_its_age(at_the_station, station):
    client = StationClient(station)
    client.acquire_lease("somebody")
    client.create_episode(a_request(episode_id="e1"))
    page = at_the_station.page("/")
    client.close()
    assert page.faults() == []
    assert camera_of(page)["class"] == "camera live"
    (picture,) = page.all("img")
    assert picture["alt"] == "What the camera of robot 1 shows"
    assert "Live, " in page.text
    assert at_the_station.client.get(picture["src"]).headers["content-type"] == "image/jpeg"
    assert page.all("section", data_cameras="/v1/cameras"), "where the script asks for newer ones"
    assert "'self'" in at_the_station.get("/").headers["content-security-policy"]


def test_a_camera_that_has_shown_nothing_has_no_picture_and_says_so(at_the_station):
    page = at_the_station.page("/")
    assert page.faults() == []
    assert camera_of(page)["class"] == "camera dark"
    assert page.all("img") == []
    assert "No picture yet." in page.text


def test_a_station_of_an_older_version_is_shown_without_a_camera(at_the_station, monkeypatch):
    monkeypatch.setattr(reader, "SNAPSHOT_PATH", "/v1/not-yet")
    page = at_the_station.page("/")
    assert page.faults() == []
    assert NO_CAMERA in page.text
    assert "is idle" in page.text


def test_autoevals_pictures_are_not_shown_as_nobody_could_tell_an_old_one(settings):
    ours = settings.model_copy(update={"collect_via": "autoeval", "autoeval_url": "http://127.0.0.1:9"})
    with TestClient(create_app(ours)) as client:
        page = Browser(client.app).page("/")
    assert page.faults() == []
    assert page.all("figure") == []
    assert "say nothing of when they were taken" in page.text
