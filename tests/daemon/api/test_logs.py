"""Logs over REST: the end of what the worker of one attempt wrote."""

import logging

import pytest

from daemon.run_log import phase_log


@pytest.fixture
def written(client, finish_phase, settings, caplog):
    """An iteration whose first phase is over and left ten lines."""
    caplog.set_level("INFO")
    client.post("/v1/iterations", json={})
    claimed = finish_phase()
    with phase_log(settings, claimed.phase_run_id):
        for turn in range(10):
            logging.getLogger("daemon.phases.test").info("line %d <b>", turn)
    return "/v1/iterations/1/phases/collect/1/log"


def test_the_log_is_text_that_no_browser_takes_for_a_page(client, written):
    answer = client.get(written)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.text.splitlines()) == 10


def test_the_end_of_it_can_be_asked_for(client, written):
    lines = client.get(written, params={"tail": 2}).text.splitlines()
    assert [line.split()[-2] for line in lines] == ["8", "9"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/iterations/2/phases/collect/1/log", 404),
        ("/v1/iterations/1/phases/collect/2/log", 404),
        ("/v1/iterations/1/phases/update_policy/1/log", 404),
        ("/v1/iterations/1/phases/..%2F..%2Fetc/1/log", 404),
        ("/v1/iterations/1/phases/finetune_world_model/1/log", 404),
        ("/v1/iterations/1/phases/collect/0/log", 422),
        ("/v1/iterations/1/phases/collect/1/log?tail=0", 422),
        ("/v1/iterations/1/phases/collect/1/log?tail=5001", 422),
    ],
)
def test_a_log_that_is_not_here_is_a_problem(client, written, path, status):
    assert client.get(path).status_code == status
