"""Robots' states, admin calls and the live view over HTTP."""

from __future__ import annotations

import threading

import pytest

from tests.robot_bridge.autoeval.emulator.conftest import until


def test_both_robots_are_online(emulate):
    assert emulate().get("/robot_status/").json() == [
        {"robot": "widowx_drawer", "is_online": True, "offline_message": None},
        {"robot": "widowx_sink", "is_online": True, "offline_message": None},
    ]


def test_an_admin_takes_a_robot_offline_and_back(emulate):
    emulated = emulate()
    emulated.post("/robot_status/widowx_sink/offline", headers=emulated.key())
    drawer, sink = emulated.get("/robot_status/").json()
    assert drawer["is_online"]
    assert not sink["is_online"]
    assert "offline" in sink["offline_message"]
    emulated.post("/robot_status/widowx_sink/online", headers=emulated.key())
    assert emulated.get("/robot_status/").json()[1] == {
        "robot": "widowx_sink",
        "is_online": True,
        "offline_message": None,
    }


def test_an_admin_takes_all_robots_offline(emulate):
    emulated = emulate()
    answer = emulated.post(
        "/robot_status/all/offline", params={"message": "moving house"}, headers=emulated.key()
    )
    assert answer.status_code == 200
    assert {row["offline_message"] for row in emulated.get("/robot_status/").json()} == {"moving house"}


@pytest.mark.parametrize("call", ["widowx_drawer/offline", "widowx_drawer/online", "all/offline"])
def test_nobody_else_does(emulate, call):
    emulated = emulate()
    assert emulated.post(f"/robot_status/{call}").status_code == 401
    assert emulated.post(f"/robot_status/{call}", headers={"X-API-Key": "ä"}).status_code == 403
    assert all(row["is_online"] for row in emulated.get("/robot_status/").json())


def test_an_unknown_robot_has_no_status_to_change(emulate):
    emulated = emulate()
    assert emulated.post("/robot_status/toaster/online", headers=emulated.key()).status_code == 404


def test_the_admin_key_stays_the_same_and_is_for_its_owner_only(emulate, tmp_path):
    first = emulate()
    key = first.key()
    assert (tmp_path / "admin_api_key.txt").stat().st_mode & 0o077 == 0
    assert emulate().key() == key


def test_the_live_page_shows_the_running_episode(emulate):
    emulated = emulate()
    assert emulated.get("/images/0/observation").status_code == 404
    assert emulated.get("/get_status_data/0").json()["language_instruction"] == "N/A"
    emulated.ended(emulated.submit(num_episodes=2, max_steps=3))
    picture = emulated.get("/images/0/observation")
    assert picture.headers["Content-Type"] == "image/jpeg"
    assert picture.content.startswith(b"\xff\xd8")
    assert emulated.get("/get_status_data/0").json() == {
        "language_instruction": "open the drawer",
        "episode": 1,
        "timestep": 2,
    }


def test_anybody_may_write_the_live_page(emulate):
    emulated = emulate()
    emulated.post("/update_status/1", json={"episode": 7, "colour": "red"})
    assert emulated.get("/get_status_data/1").json()["episode"] == 7
    files = {"file": ("x.jpg", b"\xff\xd8 not really\r\n--", "image/jpeg")}
    assert emulated.post("/upload/1", params={"type": "observation"}, files=files).status_code == 200
    assert emulated.get("/images/1/observation").content == b"\xff\xd8 not really\r\n--"


def test_only_observations_are_pictures(emulate):
    emulated = emulate()
    assert emulated.get("/images/0/wrist").status_code == 400
    files = {"file": ("x.jpg", b"x")}
    assert emulated.post("/upload/0", params={"type": "wrist"}, files=files).status_code == 400
    assert emulated.post("/upload/0", params={"type": "observation"}, data=b"none").status_code == 422


@pytest.mark.parametrize("index", [2, -1, 99])
def test_a_robot_that_the_page_does_not_have_breaks_it(emulate, index):
    emulated = emulate()
    assert emulated.get(f"/get_status_data/{index}").status_code == 500
    assert emulated.post(f"/update_status/{index}", json={}).status_code == 500


def test_a_human_lets_a_job_go_on_that_waits_for_one(emulate):
    emulated = emulate(failed_resets=frozenset({0}), human_answers=False)
    job_id = emulated.submit()
    until(lambda: emulated.get("/get_status_data/0").json().get("waiting_for_human"))
    assert emulated.policy.calls == []
    assert emulated.status(job_id) == "evaluating"
    assert emulated.post("/emulator/human/0").status_code == 200
    assert emulated.ended(job_id)["status"] == "completed"
    assert emulated.get("/get_status_data/0").json()["waiting_for_human"] is False


def test_many_readers_of_the_page_do_not_disturb_a_job(emulate):
    emulated = emulate()
    job_id = emulated.submit(num_episodes=3, max_steps=5)
    readers = [
        threading.Thread(target=emulated.get, args=(path,))
        for path in ("/get_status_data/0", "/images/0/observation", "/jobs/", "/robot_status/") * 4
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert emulated.ended(job_id)["status"] == "completed"
