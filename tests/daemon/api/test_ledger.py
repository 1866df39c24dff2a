"""Costs and gains over REST, in the record, on the terminal; and how a judge's money gets there."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from daemon.comparison import mean_difference
from daemon.console_ledger import points, show_ledger
from daemon.judge_costs import costs_path, judge_costs
from storage import episodes, iterations
from storage.tables import EpisodeRow

URL = "/v1/ledger"


@pytest.fixture
def three_iterations(client, database, blobs, now, an_episode):
    """1 of 4, then nothing, then 3 of 4; an hour of the robot in each that collected."""
    number = 0
    with database.write() as session:
        for outcomes in ("+---", "", "+++-"):
            row, _ = iterations.request_iteration(
                session, spec={"seed": number}, idempotency_key=None, now=now
            )
            iterations.cancel(session, row.id, now=now)
            for outcome in outcomes:
                number += 1
                manifest = an_episode(number, success=outcome == "+").manifest
                built = an_episode(number, success=outcome == "+")
                later = manifest.started_at + timedelta(minutes=15)
                built = type(built)(
                    manifest=manifest.model_copy(update={"ended_at": later}),
                    steps=built.steps,
                    frames=built.frames,
                )
                origin = episodes.Provenance(origin="collect", iteration_id=row.id)
                episodes.commit(session, blobs, built, provenance=origin, now=now)
                assert session.get(EpisodeRow, manifest.episode_id).ended_at == later


@pytest.mark.usefixtures("three_iterations")
def test_success_gained_is_told_against_the_iteration_before_that_was_judged(client):
    answer = client.get(URL).json()
    newest, silent, first = answer["items"]
    gain = mean_difference([((1, 4), (3, 4))])
    assert newest["compared_with"] == 1
    assert newest["gain"] == pytest.approx({"value": gain.value, "low": gain.low, "high": gain.high})
    assert newest["gain_per_robot_hour"] == pytest.approx(newest["gain"], rel=1e-4), "one hour was spent"
    assert first["gain"] is None
    assert (silent["robot_episodes"], silent["gain"]) == (0, None)
    assert newest["robot_seconds"] == pytest.approx(3600, abs=0.1)


@pytest.mark.usefixtures("three_iterations")
def test_the_total_compares_the_newest_with_the_oldest(client):
    total = client.get(URL).json()["total"]
    assert (total["robot_episodes"], total["compared_with"]) == (8, 1)
    assert total["gain"]["value"] == pytest.approx(0.5)
    assert total["robot_seconds"] == pytest.approx(7200, abs=0.2)


@pytest.mark.usefixtures("three_iterations")
def test_an_iterations_record_and_a_page_tell_the_same(client):
    items = client.get(URL, params={"limit": 2}).json()["items"]
    for item in items:
        record = client.get(f"/v1/iterations/{item['iteration']}").json()
        assert record["ledger"] == item


def test_nothing_was_spent_before_the_first_iteration(client):
    answer = client.get(URL).json()
    assert (answer["items"], answer["next_cursor"]) == ([], None)
    assert answer["total"]["robot_episodes"] == 0


@pytest.mark.parametrize("params", [{"from": "yesterday"}, {"to": "2026-01-01T00:00:00"}, {"cursor": "~"}])
def test_a_time_without_a_zone_or_a_strange_cursor_is_refused(client, params):
    assert client.get(URL, params=params).status_code == 422


@pytest.mark.usefixtures("three_iterations")
def test_the_terminal_shows_a_line_for_each_iteration_and_one_for_all(client):
    answer, text = client.get(URL).json(), StringIO()
    show_ledger(answer["items"], answer["total"], console=Console(file=text, width=120))
    lines = text.getvalue().splitlines()
    assert any("│ 3 " in line and "1.00 h" in line and "+50 [" in line for line in lines)
    assert any("│ all " in line and "2.00 h" in line for line in lines)


def test_an_empty_ledger_says_so():
    text = StringIO()
    nothing = {"robot_episodes": 0, "robot_seconds": 0.0, "worker_seconds": {}, "judge_requests": 0}
    total = {**nothing, "judge_usd": 0.0, "gain": None, "gain_per_robot_hour": None}
    show_ledger([], total, console=Console(file=text))
    assert "no iteration" in text.getvalue()
    assert points(None) == ""


def test_a_judges_totals_become_metrics(tmp_path):
    assert judge_costs(tmp_path, "i") == {}
    file = costs_path(tmp_path, "i")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"requests": 12, "usd": 0.5, "prompt_tokens": 9}))
    assert judge_costs(tmp_path, "i") == {"judge_requests": 12.0, "judge_usd": 0.5}
