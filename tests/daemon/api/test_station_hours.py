"""Hours of a station over REST, and an iteration that waits for them."""

from datetime import UTC, datetime, timedelta

import pytest

from storage import audit

URL = "/v1/stations/cell-1/hours"
NIGHTS = {
    "timezone": "Europe/Berlin",
    "open": [{"days": ["mon", "tue"], "begins": "20:00", "ends": "06:00"}],
    "rest": {"after_minutes": 50, "minutes": 10},
}


def later_today():
    """Hours that open in two hours from now, and when that is."""
    begins = datetime.now(UTC) + timedelta(hours=2)
    ends = begins + timedelta(hours=1)
    return {"open": [{"begins": f"{begins:%H:%M}", "ends": f"{ends:%H:%M}"}]}, f"{begins:%Y-%m-%d %H:%M} UTC"


def test_without_hours_a_robot_may_always_move(client):
    answer = client.get(URL)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"0"')
    record = answer.json()
    assert (record["hours"]["open"], record["open_now"], record["waiting_for"]) == ([], True, None)


def test_hours_are_kept_shown_replaced_and_removed(client, database):
    first = client.put(URL, json=NIGHTS)
    assert (first.status_code, first.headers["etag"]) == (200, '"1"')
    assert first.json()["hours"]["open"] == NIGHTS["open"]
    assert client.get(URL).json()["hours"] == first.json()["hours"]
    second = client.put(URL, json={"minutes_per_hour": 30}, headers={"If-Match": '"1"'})
    assert (second.json()["hours"]["open"], second.json()["version"]) == ([], 2)
    assert client.delete(URL).status_code == 204
    assert client.delete(URL).status_code == 204, "gone is gone"
    assert client.get(URL).json()["version"] == 0
    with database.read() as session:
        events = audit.read(session, subject="station cell-1")
    assert [event.action for event in events] == ["hours_removed", "hours_set", "hours_set"]


def test_a_change_of_hours_that_somebody_else_changed_is_refused(client):
    client.put(URL, json=NIGHTS)
    for answer in (
        client.put(URL, json={}, headers={"If-Match": '"0"'}),
        client.delete(URL, headers={"If-Match": '"0"'}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert client.get(URL).json()["version"] == 1


@pytest.mark.parametrize(
    "hours",
    [
        {"timezone": "Nowhere"},
        {"open": [{"begins": "24:00", "ends": "06:00"}]},
        {"open": [{"days": [], "begins": "20:00", "ends": "06:00"}]},
        {"open": [{"days": ["noday"], "begins": "20:00", "ends": "06:00"}]},
        {"quiet": [{"begins": "00:00", "ends": "00:00"}]},  # never open
        {"minutes_per_hour": 0},
        {"rest": {"after_minutes": 5}},
        {"closed": []},
    ],
)
def test_hours_that_cannot_be_are_refused(client, hours):
    answer = client.put(URL, json=hours)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert client.get(URL).json()["version"] == 0


def test_an_iteration_outside_of_the_hours_waits_and_says_until_when(client, until):
    hours, opens = later_today()
    client.put(URL, json=hours)
    client.post("/v1/iterations", json={})
    record = until(lambda: (r := client.get("/v1/iterations/1").json())["state"] == "running" and r)
    assert record["phases"] == []
    assert record["waiting_for"] == f"cell-1 outside of robot hours: waiting until {opens}"
    assert not client.get(URL).json()["open_now"]
    client.delete(URL)
    record = until(lambda: (r := client.get("/v1/iterations/1").json())["phases"] and r)
    assert record["waiting_for"] is None
