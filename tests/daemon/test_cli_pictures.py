"""Pictures to start from and cameras, by command, against a daemon and a station of the test's own."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from daemon import station_cameras
from daemon.cli import app
from daemon.errors import DaemonRefused, PageNotFound, RequestInvalid
from daemon.settings import Settings
from robot_bridge.client import StationClient
from robot_bridge.station.serve import running_station
from tests.daemon.serving import serving
from tests.daemon.test_cli_look import cells, run
from tests.robot_bridge.builders import a_request
from tests.robot_bridge.toy_driver import ToyDriver


@pytest.fixture
def served(tmp_path):
    with serving(Settings(data_dir=tmp_path / "lab", worker_count=0)) as served:
        yield served


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "start.png"
    Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(file)
    return file


def test_a_picture_is_kept_listed_fetched_and_removed(served, picture, tmp_path):
    assert run(served, "start-image", "list").stdout.strip() == "no picture is kept"
    asked = ("start-image", "add", picture, "--task", "open_drawer", "--instruction", "open it", "--key", "k")
    done = run(served, *asked)
    assert done.exit_code == 0, done.output or done.exception
    kept = done.stdout.strip().rsplit(" ", 1)[1]
    assert run(served, *asked).stdout == done.stdout, "the same key keeps it once"
    (row,) = cells(run(served, "start-image", "list").stdout)[1:]
    assert row[:5] == [kept, "open_drawer", "open it", "24 x 16", "rest"]
    shown = run(served, "start-image", "show", kept, "--out", tmp_path / "out.png", "--json")
    assert json.loads(shown.stdout)["instruction"] == "open it"
    assert np.asarray(Image.open(tmp_path / "out.png")).tolist() == np.full((16, 24, 3), 90).tolist()
    assert run(served, "start-image", "remove", kept).stdout == f"start image {kept} is removed\n"
    gone = run(served, "start-image", "show", kept)
    assert isinstance(gone.exception, DaemonRefused)
    assert gone.exception.status == 404


def test_a_picture_that_is_none_is_refused_with_its_name(served, tmp_path):
    words = ("--task", "open_drawer", "--instruction", "open it")
    missing = run(served, "start-image", "add", tmp_path / "none.png", *words)
    assert isinstance(missing.exception, RequestInvalid)
    assert "none.png" in str(missing.exception)
    (tmp_path / "text.png").write_text("no picture")
    unusable = run(served, "start-image", "add", tmp_path / "text.png", *words)
    assert unusable.exception.problem_code == "picture_unusable"


@pytest.fixture
def with_cameras(tmp_path, monkeypatch):
    """A daemon with two stations: the camera of one shows something, the other is away."""
    for name, seconds in (("PATIENCE_S", 20.0), ("ANSWER_S", 20.0), ("LIVE_S", 60.0)):
        monkeypatch.setattr(station_cameras, name, seconds)
    with running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench") as station:
        client = StationClient(station)
        client.acquire_lease("somebody")
        client.create_episode(a_request(episode_id="e1"))
        urls = f"{station},http://127.0.0.1:9"
        with serving(Settings(data_dir=tmp_path / "lab", worker_count=0, station_url=urls)) as served:
            yield served
        client.close()


def test_the_newest_picture_of_a_camera_is_fetched_with_what_it_shows(with_cameras, tmp_path):
    file = tmp_path / "now.jpg"
    done = run(with_cameras, "snapshot", "--out", file)
    assert done.exit_code == 0, done.output or done.exception
    assert Image.open(io.BytesIO(file.read_bytes())).format == "JPEG"
    assert f"{file} is what camera 0 showed:" in done.stderr
    assert [row[2] for row in cells(done.stdout)[1:]] == ["live", "dark"]
    views = json.loads(run(with_cameras, "snapshot", "--json").stdout)["items"]
    assert [view["state"] for view in views] == ["live", "dark"]


@pytest.mark.parametrize(("camera", "said"), [(1, "did not answer"), (7, "there is no camera 7")])
def test_a_picture_that_there_is_not_is_told_with_why(with_cameras, tmp_path, camera, said):
    done = run(with_cameras, "snapshot", "--camera", camera, "--out", tmp_path / "now.jpg")
    assert isinstance(done.exception, PageNotFound)
    assert said in str(done.exception)
    assert not (tmp_path / "now.jpg").exists()


def test_a_group_without_a_word_shows_its_help():
    assert "remove" in CliRunner().invoke(app, ["start-image"]).output
