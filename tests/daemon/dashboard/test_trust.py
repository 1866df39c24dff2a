"""Trust: world models and judges over the iterations, and alarms."""

import re
from html import unescape

import pytest

from daemon.dashboard.trust import audit_charts, closed_loop
from robot_bridge.safety import CLIPPED_BOX, CLIPPED_SPEED
from storage import checkpoints, episodes, iterations, stations
from storage.tables import TrustReportRow
from tests.daemon.conftest import build_episode
from tests.daemon.dashboard.laboratory import HOSTILE


def test_before_anything_was_measured_the_page_says_so(browser):
    text = browser.page("/trust").text
    assert "Nothing has been measured yet" in text
    assert "None: no policy that stayed the same" in text


@pytest.mark.usefixtures("laboratory")
def test_every_measure_has_a_chart_and_every_report_a_row(browser):
    page = browser.page("/trust")
    titles = {found["id"] for found in page.all("title") if "id" in found}
    assert titles == {"t-agreement", "t-optimism", "t-closed", "t-horizon", "t-sensitivity", "t-judge"}
    assert page.all("a", href="/imagination?iteration=1")
    assert "accepted" in page.text
    assert HOSTILE in page.text


def test_a_report_of_before_the_closed_loop_was_measured_is_shown_without_it():
    old, nobody = ({}, {"closed_loop": {"tasks": {}, "overall": {"optimism": None}}})
    assert [closed_loop(TrustReportRow(report=report)) for report in (old, nobody)] == [None, None]
    assert closed_loop(TrustReportRow(report={"closed_loop": {"overall": {"optimism": 0.25}}})) == 0.25


def test_the_judge_is_counted_over_all_tasks():
    own = {"hits": 1, "rightly_failed": 1, "false_hopes": 1, "missed": 1}
    (chart,) = audit_charts([(2, "a", own), (2, "b", {**own, "hits": 5}), (1, "a", own)])
    assert [(p.x, p.y) for p in chart.series[0].points] == [(1, 0.5), (2, 8 / 12)]
    assert audit_charts([(1, "a", dict.fromkeys(own, 0))]) == []
    assert len(chart.legend) == 1


def rows_of(page, *, station):
    """The cells of this station's rows in the first table."""
    table = page.source.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in table.split("<tr>")[1:]]
    return [[unescape(cell).strip() for cell in row] for row in rows if unescape(row[0]) == station]


def test_a_station_says_what_was_cut_where_how_long_it_took_and_when_it_was_heard_of(
    browser, database, blobs, now
):
    with database.write() as session:
        for number, cut in ((1, [CLIPPED_BOX | CLIPPED_SPEED, CLIPPED_SPEED]), (2, [])):
            built = build_episode(number, steps=5, cut=cut)
            origin = episodes.Provenance(origin="collect")
            row, _ = episodes.commit(session, blobs, built, provenance=origin, now=now)
        row.valid_for_policy_eval = False
    page = browser.page("/trust")
    assert page.faults() == []
    (told,) = rows_of(page, station="cell-1")
    assert told[1] != ""
    assert told[2:7] == ["2", "50.0 %", "2", "20.0 %", "speed 20.0 %, box 10.0 %"]
    assert told[7:] == ["13 and 13 ms", "204 and 204 ms"]


def test_a_station_without_measured_episodes_says_so_and_one_with_a_hostile_name_does_no_harm(
    browser, database, now
):
    with database.write() as session:
        stations.ensure(session, HOSTILE, now=now)
    page = browser.page("/trust")
    assert page.faults() == []
    assert HOSTILE not in page.source
    (told,) = rows_of(page, station=HOSTILE)
    assert told[2:] == ["0", "not measured", "0", "not measured", "", "not measured", "not measured"]


def test_a_policy_that_suddenly_fails_is_an_alarm(browser, client, database, blobs, now, tmp_path):
    (tmp_path / "policy").write_text("p")
    with database.write() as session:
        new = checkpoints.NewCheckpoint(kind="policy", spec_digest="5" * 64)
        policy = checkpoints.save(session, blobs, new, file=tmp_path / "policy", now=now).id
    for iteration, success in ((1, True), (2, False)):
        client.post("/v1/iterations", json={"seed": iteration})
        with database.write() as session:
            row = next(r for r in iterations.list_iterations(session)[0] if r.number == iteration)
            origin = episodes.Provenance(origin="collect", iteration_id=row.id, checkpoint_id=policy)
            for number in range(25):
                built = build_episode(100 * iteration + number, success=success, task_id=HOSTILE)
                episodes.commit(session, blobs, built, provenance=origin, now=now)
    page = browser.page("/trust")
    assert page.faults() == []
    assert f"at {HOSTILE} on cell-1 fell" in page.text
    assert "Look at the robot" in page.text
