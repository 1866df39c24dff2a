"""Settings as a page: what is set, what of it can be switched, and never a secret."""

from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from daemon.app import create_app
from daemon.events.hooks import Webhook
from storage import access_tokens, audit, events, iterations, schedules, stations
from tests.daemon.dashboard.conftest import Browser
from tests.daemon.dashboard.laboratory import HOSTILE

NIGHTLY = {"name": "nightly", "trigger": {"kind": "cron", "expression": "0 20 * * *"}, "spec": {"seed": 5}}


@pytest.fixture
def nightly(client):
    answer = client.post("/v1/schedules", json=NIGHTLY)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_a_schedule_is_shown_with_its_next_time(browser, nightly):
    page = browser.page("/settings")
    assert page.faults() == []
    assert "nightly" in page.text
    assert "20:00:00 UTC" in page.text
    assert page.all("form", action=f"/schedules/{nightly}/disable")


def test_a_schedule_is_switched_off_and_on(browser, nightly, database):
    def version():
        return next(f["value"] for f in browser.page("/settings").all("input", name="version"))

    for switch, enabled in (("disable", False), ("enable", True)):
        answer = browser.post(f"/schedules/{nightly}/{switch}", version=version())
        assert answer.headers["location"] == "/settings"
        with database.read() as session:
            assert schedules.list_schedules(session)[0].enabled is enabled


def test_a_switch_on_an_old_page_changes_nothing(browser, nightly, database):
    assert browser.post(f"/schedules/{nightly}/disable", version="99").status_code == 412
    assert browser.post(f"/schedules/{nightly}/disable", version="x").status_code == 422
    assert browser.post(f"/schedules/{nightly}/explode", version="1").status_code == 422
    assert browser.post("/schedules/nobody/disable", version="1").status_code == 404
    with database.read() as session:
        assert schedules.list_schedules(session)[0].enabled is True


def test_a_schedule_runs_at_once_when_it_is_asked_to_and_only_once(browser, nightly, database):
    for _ in range(2):
        assert browser.post(f"/schedules/{nightly}/run", key="k").status_code == 303
    with database.read() as session:
        assert [row.spec["seed"] for row in iterations.list_iterations(session)[0]] == [5]


def test_stations_are_shown_with_their_hours(browser, client, database):
    hours = {"timezone": "UTC", "open": [{"days": ["mon"], "begins": "20:00", "ends": "06:00"}]}
    assert client.put("/v1/stations/bench/hours", json=hours).status_code == 200
    with database.write() as session:
        stations.ensure(session, "cell-7", now=datetime.now(UTC))
    page = browser.page("/settings")
    assert page.faults() == []
    assert "mon 20:00 to 06:00" in page.text
    assert "cell-7" in page.text


def test_a_station_with_a_hostile_name_is_shown_as_it_is(browser, database):
    with database.write() as session:
        stations.ensure(session, HOSTILE, now=datetime.now(UTC))
    page = browser.page("/settings")
    assert page.faults() == []
    assert HOSTILE in page.text


def test_budgets_are_shown_beside_each_other(settings):
    budgets = {"device_hours_per_day": 7.5, "device_hours_per_iteration": 2.25, "robot_episodes_per_day": 41}
    with TestClient(create_app(settings.model_copy(update=budgets))) as client:
        text = Browser(client.app).page("/settings").text
    for name, value in budgets.items():
        assert name in text
        assert str(value) in text


def test_backups_and_retention_are_shown_with_how_the_last_time_went(settings, tmp_path, now):
    upkeep = {"backup_dir": tmp_path / "SECRET", "upkeep_at": "23:59", "iterations_kept": 6}
    with TestClient(create_app(settings.model_copy(update=upkeep))) as client:
        browser = Browser(client.app)
        before = browser.page("/settings")
        with client.app.state.services.database.write() as session:
            facts = {"name": "20260101T", "files": 12, "copied_bytes": 3_000}
            events.note(session, "backup_made", at=now, facts=facts)
            events.note(session, "gc_failed", at=now, facts={"reason": "the disk is gone"})
        after = browser.page("/settings")
    assert before.text.count("every day at 23:59 UTC") == 2
    assert "14 backups" in before.text
    assert "what the 6 newest iterations made; all episodes" in before.text
    assert "backup 20260101T is made: 12 files, 3000 bytes of them new" in after.text
    assert "nothing was let go: the disk is gone" in after.text
    assert "SECRET" not in after.source


def test_who_sets_nothing_is_told_that_nobody_backs_up(browser):
    text = browser.page("/settings").text
    assert text.count("no, only by command") == 2
    assert "what the 10 newest iterations made; all episodes" in text


def test_webhooks_are_shown_without_their_addresses(settings, tmp_path):
    hook = Webhook(name="lab", url="https://hooks.example/SECRET", secret_file=tmp_path / "key")
    with TestClient(create_app(settings.model_copy(update={"webhooks": (hook,)}))) as client:
        page = Browser(client.app).page("/settings")
    assert "lab" in page.text
    assert "iteration_failed" in page.text
    assert "SECRET" not in page.source
    assert str(tmp_path) not in page.source


def test_tokens_are_shown_to_admins_without_what_would_open_anything(logged_in, make_token, database):
    shown = make_token("read", "label", name="reader")
    page = logged_in("admin", name="boss").page("/settings")
    assert page.faults() == []
    assert "reader" in page.text
    assert "label, read" in page.text
    with database.read() as session:
        rows = access_tokens.list_tokens(session)
    for row in rows:
        assert row.secret_hash not in page.source
        assert row.id not in page.source
    assert shown not in page.source


def test_others_see_no_tokens(logged_in, make_token):
    make_token("read", name="somebody-else")
    page = logged_in("operate").page("/settings")
    assert "somebody-else" not in page.text
    assert "scope admin" in page.text


def test_the_audit_names_who_switched_a_schedule(logged_in, client, make_token, database):
    boss = {"Authorization": f"Bearer {make_token('admin', name='boss')}"}
    made = client.post("/v1/schedules", json=NIGHTLY, headers=boss).json()["id"]
    logged_in("operate", name="night-shift").post(f"/schedules/{made}/disable", version="1")
    with database.read() as session:
        found = [(event.actor, event.action) for event in audit.read(session)]
    assert found == [("night-shift", "schedule_changed"), ("boss", "schedule_created")]


def test_who_only_reads_has_nothing_to_switch(logged_in, client, make_token):
    boss = {"Authorization": f"Bearer {make_token('admin', name='boss')}"}
    made = client.post("/v1/schedules", json=NIGHTLY, headers=boss).json()["id"]
    browser = logged_in("read")
    page = browser.page("/settings")
    assert "nightly" in page.text
    assert [form["action"] for form in page.all("form")] == ["/logout"]
    assert browser.post(f"/schedules/{made}/run", key="k").status_code == 403
