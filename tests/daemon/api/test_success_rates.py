import pytest

from storage import episodes, iterations

URL = "/v1/success-rates"


def collected(database, blobs, now, iteration, built):
    with database.write() as session:
        rows, _ = iterations.list_iterations(session)
        row = next(row for row in rows if row.number == iteration)
        provenance = episodes.Provenance(origin="collect", iteration_id=row.id)
        episodes.commit(session, blobs, built, provenance=provenance, now=now)


def test_each_task_of_each_iteration_has_a_rate_and_an_interval(client, database, blobs, now, an_episode):
    for seed in (1, 2):
        client.post("/v1/iterations", json={"seed": seed})
    for number, (iteration, task, success) in enumerate(
        [
            (1, "open_drawer", True),
            (1, "open_drawer", False),
            (1, "close_drawer", True),
            (2, "open_drawer", True),
        ]
    ):
        built = an_episode(number, task_id=task, success=success)
        collected(database, blobs, now, iteration, built)
    items = client.get(URL).json()["items"]
    told = {(item["iteration"], item["task"]): (item["successes"], item["episodes"]) for item in items}
    assert told == {
        (1, "open_drawer"): (1, 2),
        (1, "close_drawer"): (1, 1),
        (1, None): (2, 3),
        (2, "open_drawer"): (1, 1),
        (2, None): (1, 1),
    }
    both = next(item for item in items if item["iteration"] == 1 and item["task"] == "open_drawer")
    assert both["wilson_low"] == pytest.approx(0.0945, abs=1e-4)
    assert both["wilson_high"] == pytest.approx(0.9055, abs=1e-4)


def test_an_iteration_that_collected_nothing_has_no_rate(client):
    client.post("/v1/iterations", json={})
    assert client.get(URL).json() == {"items": [], "next_cursor": None}


def test_rates_come_in_pages_of_iterations(client, database, blobs, now, an_episode):
    for seed in range(3):
        client.post("/v1/iterations", json={"seed": seed})
        collected(database, blobs, now, seed + 1, an_episode(seed))
    first = client.get(URL, params={"limit": 2}).json()
    assert [item["iteration"] for item in first["items"]] == [3, 3, 2, 2]
    second = client.get(URL, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["iteration"] for item in second["items"]] == [1, 1]
    assert second["next_cursor"] is None
