"""Costs and gains over REST, in the record, on the terminal; and how a judge's money gets there."""

import csv
import io
import json
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from daemon.comparison import mean_difference
from daemon.console_ledger import points, show_ledger
from daemon.judge_costs import costs_path, judge_costs
from storage import device_time, episodes, iterations, phase_runs
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


@pytest.fixture
def learned(client, claim_phase, database):
    """Two iterations that learned: ten minutes each on either of two devices."""
    for device in ("NVIDIA H200", "AMD EPYC, 7763"):
        client.post("/v1/iterations", json={"phases": ["update_policy"]})
        claimed = claim_phase()
        with database.write() as session:
            device_time.note_device(session, claimed, device)
            begun = phase_runs.get(session, claimed.phase_run_id).started_at
            phase_runs.finish(session, claimed, outcome={}, now=begun + timedelta(minutes=10))


@pytest.mark.usefixtures("learned")
def test_hours_of_learning_are_told_by_device(client):
    answer = client.get(URL).json()
    newest, first = ({"AMD EPYC, 7763": 600.0}, {"NVIDIA H200": 600.0})
    assert [item["device_seconds"] for item in answer["items"]] == [
        pytest.approx(newest, abs=0.01),
        pytest.approx(first, abs=0.01),
    ]
    assert answer["total"]["device_seconds"] == pytest.approx({**newest, **first}, abs=0.01)
    run = client.get("/v1/iterations/1").json()["phases"][0]
    assert run["device"] == "NVIDIA H200"


@pytest.mark.usefixtures("learned")
def test_an_attempt_that_nobody_has_taken_has_no_device_yet(client, claim_phase):
    client.post("/v1/iterations", json={"phases": ["update_policy"]})
    claim_phase()
    assert client.get("/v1/iterations/3").json()["phases"][0]["device"] is None


@pytest.mark.usefixtures("learned")
@pytest.mark.parametrize("way", [{"params": {"format": "csv"}}, {"headers": {"Accept": "text/csv, */*"}}])
def test_the_ledger_comes_as_csv_with_a_column_for_each_device(client, way):
    answer = client.get(URL, **way)
    assert answer.headers["content-type"].startswith("text/csv")
    newest, first = csv.DictReader(io.StringIO(answer.text))
    assert (newest["iteration"], first["iteration"]) == ("2", "1")
    assert float(newest["device_seconds.AMD EPYC, 7763"]) == pytest.approx(600.0, abs=0.01)
    assert (newest["device_seconds.NVIDIA H200"], newest["gain.value"]) == ("", "")
    assert float(first["worker_seconds.update_policy"]) == pytest.approx(600.0, abs=0.01)


@pytest.mark.usefixtures("three_iterations")
def test_a_page_of_csv_names_the_next_one_in_a_header_and_has_the_gains(client):
    page = client.get(URL, params={"format": "csv", "limit": 1})
    (newest,) = csv.DictReader(io.StringIO(page.text))
    gain = client.get(URL).json()["items"][0]["gain"]
    assert [float(newest[f"gain.{name}"]) for name in gain] == pytest.approx(list(gain.values()))
    after = client.get(URL, params={"format": "csv", "cursor": page.headers["next-cursor"]})
    assert [row["iteration"] for row in csv.DictReader(io.StringIO(after.text))] == ["2", "1"]


def test_a_ledger_of_nothing_is_an_empty_csv(client):
    assert client.get(URL, params={"format": "csv"}).text == ""


@pytest.mark.usefixtures("learned")
def test_the_terminal_shows_the_hours_of_every_device(client):
    answer, text = client.get(URL).json(), StringIO()
    show_ledger(answer["items"], answer["total"], console=Console(file=text, width=140))
    lines = text.getvalue().splitlines()
    assert sum("0.17 h NVIDIA H200" in line for line in lines) == 2, "the iteration's, and that of all"
    assert sum("0.17 h AMD EPYC, 7763" in line for line in lines) == 2


def test_nothing_was_spent_before_the_first_iteration(client):
    answer = client.get(URL).json()
    assert (answer["items"], answer["next_cursor"]) == ([], None)
    assert answer["total"]["robot_episodes"] == 0


@pytest.mark.parametrize(
    "params", [{"from": "yesterday"}, {"to": "2026-01-01T00:00:00"}, {"cursor": "~"}, {"by": "device"}]
)
def test_a_time_without_a_zone_a_strange_cursor_and_an_unknown_parameter_are_refused(client, params):
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
    total = {**nothing, "device_seconds": {}, "judge_usd": 0.0, "gain": None, "gain_per_robot_hour": None}
    show_ledger([], total, console=Console(file=text))
    assert "no iteration" in text.getvalue()
    assert points(None) == ""


def test_a_judges_totals_become_metrics(tmp_path):
    assert judge_costs(tmp_path, "i") == {}
    file = costs_path(tmp_path, "i")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"requests": 12, "usd": 0.5, "prompt_tokens": 9}))
    assert judge_costs(tmp_path, "i") == {"judge_requests": 12.0, "judge_usd": 0.5}
