"""A schedule in a real daemon that is killed and started again: it asks neither twice nor never."""

import signal
from collections import Counter
from functools import partial

import pytest

from daemon.client import DaemonClient
from tests.daemon.test_app import data_dir, served, until  # noqa: F401 - data_dir is a fixture

WISH = {"name": "on-and-on", "trigger": {"kind": "after_previous"}, "max_runs": 4}
PATIENCE = 6000  # looks, a hundred a second


def iterations(client: DaemonClient) -> list[dict]:
    return client.iterations()["items"]


def schedule(client: DaemonClient) -> dict:
    (found,) = client.schedules()["items"]
    return found


def has_asked(client: DaemonClient, count: int) -> bool:
    return len(iterations(client)) >= count


def all_over(client: DaemonClient, count: int) -> list[dict]:
    items = iterations(client)
    return items if [item["state"] for item in items] == ["finished"] * count else []


def test_a_schedule_asks_for_one_iteration_after_the_other_until_its_last(data_dir):  # noqa: F811
    with served(data_dir) as (client, _):
        client.add_schedule(WISH | {"max_runs": 2})
        until(lambda: all_over(client, 2), PATIENCE)
        ended = until(lambda: (found := schedule(client))["enabled"] is False and found)
        assert (ended["runs"], ended["last_iteration"], ended["next_runs"]) == (2, 2, [])
        assert [item["spec"]["seed"] for item in iterations(client)] == [1, 0]


@pytest.mark.slow
def test_a_daemon_killed_again_and_again_loses_and_doubles_no_run(data_dir):  # noqa: F811
    with served(data_dir) as (client, process):
        client.add_schedule(WISH)
        until(lambda: iterations(client))
        process.send_signal(signal.SIGKILL)
        process.wait()
    for killed_with in (2, 3):
        with served(data_dir) as (client, process):
            until(partial(has_asked, client, killed_with), PATIENCE)
            process.send_signal(signal.SIGKILL)
            process.wait()
    with served(data_dir) as (client, _):
        items = until(lambda: all_over(client, 4), PATIENCE)
        until(lambda: not schedule(client)["enabled"])
        assert len(iterations(client)) == 4
    assert sorted(item["spec"]["seed"] for item in items) == [0, 1, 2, 3], "each run once, in its turn"
    assert max(Counter(item["number"] for item in items).values()) == 1


def test_a_paused_schedule_asks_for_nothing_more_and_its_iteration_goes_on(data_dir):  # noqa: F811
    (data_dir / "hold-collect").touch()
    with served(data_dir) as (client, _):
        client.add_schedule(WISH)
        until(lambda: iterations(client))
        client.change_schedule(schedule(client), enabled=False)
        (data_dir / "hold-collect").unlink()
        assert client.wait(1, poll_s=0.05, timeout_s=60)["state"] == "finished"
        assert len(iterations(client)) == 1
        client.change_schedule(schedule(client), enabled=True)
        until(lambda: len(iterations(client)) == 2)
