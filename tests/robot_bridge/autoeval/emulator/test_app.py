"""The emulator as one app: job API and hub side by side, over HTTP."""

from __future__ import annotations

from tests.robot_bridge.autoeval.emulator.conftest import until
from tests.robot_bridge.toy_driver import ToyDriver


def test_any_page_of_the_web_may_call(emulate):
    emulated = emulate()
    answer = emulated.session.options(
        emulated.url + "/jobs/",
        headers={"Origin": "https://example.org", "Access-Control-Request-Method": "POST"},
        timeout=20,
    )
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_every_call_that_an_adapter_makes_is_in_the_open_api(emulate):
    paths = emulate().get("/openapi.json").json()["paths"]
    assert set(paths) >= {
        "/test_policy_server/",
        "/jobs/",
        "/jobs/{job_id}",
        "/jobs/{job_id}/output",
        "/jobs/{job_id}/cancel",
        "/admin/jobs/{job_id}/cancel",
        "/robot_status/",
        "/robot_status/{robot}/offline",
        "/robot_status/{robot}/online",
        "/robot_status/all/offline",
        "/upload/{robot_index}",
        "/update_status/{robot_index}",
        "/images/{robot_index}/{image_type}",
        "/get_status_data/{robot_index}",
        "/api/datasets/{owner}/{name}/tree/{revision}",
        "/datasets/{owner}/{name}/resolve/{revision}/{path}",
    }


def test_a_root_that_is_not_there_is_made(emulate, tmp_path):
    emulate()
    assert {"database.db", "admin_api_key.txt", "tmp"} <= {path.name for path in tmp_path.iterdir()}


def test_a_cell_that_cannot_start_fails_the_job_and_not_the_server(emulate):
    def build() -> ToyDriver:
        raise OSError("no camera here")

    emulated = emulate(build=build)
    row = emulated.ended(emulated.submit())
    assert row["status"] == "failed"
    assert "no camera here" in row["tmux_output"]
    assert until(lambda: emulated.get("/robot_status/").status_code) == 200
