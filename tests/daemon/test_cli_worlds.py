"""`gymnastd what-if` against a daemon that is served here, with a worker of the test's own."""

import json
import threading
from datetime import UTC, datetime
from inspect import signature

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from daemon.cli import app
from daemon.cli_worlds import encoded
from daemon.client import DaemonClient
from daemon.errors import DaemonRefused, RequestInvalid
from daemon.settings import Settings
from daemon.world_client import WorldClient
from daemon.worlds.errors import WhatIfFailed, WhatIfWaits
from storage import what_ifs
from tests.daemon.serving import serving


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "start.png"
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(file)
    return file


def worker(services, *, error=None):
    """Do the next what-if that comes, in a thread."""

    def work():
        waiting, blobs = threading.Event(), services.blobs
        rollout = {"success": None, "probability": 0.5, "along": [0.5]}
        rollout |= {"strip": blobs.put(b"strip"), "film": blobs.put(b"film")}
        rate = {"successes": 0, "judged": 0, "declined": 1, "wilson_low": 0.0, "wilson_high": 1.0}
        result = {"read": {}, "steps": 5, "trusted_steps": 3, "rate": rate, "rollouts": [rollout]}
        for _ in range(3000):
            now = datetime.now(UTC)
            with services.database.write() as session:
                claimed = what_ifs.claim(session, "w", ttl_s=60, now=now)
                if claimed is not None and error is not None:
                    what_ifs.fail(session, claimed, error=error, retry=False, now=now)
                elif claimed is not None:
                    what_ifs.finish(session, claimed, result=result, now=now)
            if claimed is not None:
                return
            waiting.wait(0.01)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(Settings(data_dir=tmp_path_factory.mktemp("lab"), worker_count=0)) as served:
        yield served


def run(served, *words):
    return CliRunner().invoke(app, ["what-if", *map(str, words), "--url", served.url])


ASKED = ("--instruction", "open it")


def test_it_is_asked_and_its_id_is_told(served, picture):
    done = run(served, "--image", picture, *ASKED, "--rollouts", 3, "--seed", 7)
    assert done.exit_code == 0, done.output
    (record,) = WorldClient(served.url).what_ifs(limit=1)["items"]
    assert done.stdout == f"what-if {record['id']} is queued\n"
    assert (record["rollouts"], record["seed"], record["instruction"]) == (3, 7, "open it")
    worker(served.services).join(60)


def test_it_is_followed_to_its_end_and_its_films_are_fetched(served, picture, tmp_path):
    thread = worker(served.services)
    done = run(served, "--image", picture, *ASKED, "--out", tmp_path / "films")
    thread.join(60)
    assert done.stdout.splitlines() == [
        "imagined 0/0 (95 % interval 0 to 100 %), 1 not judged; 5 steps, trusted to step 3",
        "  rollout 0: not judged, probability 0.5",
    ]
    assert (tmp_path / "films" / "rollout-00.jpg").read_bytes() == b"strip"
    assert (tmp_path / "films" / "rollout-00.mp4").read_bytes() == b"film"


def test_the_answer_can_be_had_as_it_is(served, picture):
    thread = worker(served.services)
    done = run(served, "--image", picture, *ASKED, "--wait", "--json")
    thread.join(60)
    assert json.loads(done.stdout)["result"]["rate"]["declined"] == 1


def test_one_that_failed_says_why(served, picture):
    thread = worker(served.services, error=("retired", "the policy is gone"))
    done = run(served, "--image", picture, *ASKED, "--wait")
    thread.join(60)
    assert isinstance(done.exception, WhatIfFailed)
    assert "failed with retired: the policy is gone" in str(done.exception)


def test_waiting_for_one_has_an_end(served, picture):
    client = WorldClient(served.url)
    record = client.ask_what_if({"image": encoded(picture), "instruction": "open it"})
    with pytest.raises(WhatIfWaits, match=f"what-if {record['id']} is still queued after"):
        client.wait_what_if(record["id"], poll_s=0.01, timeout_s=0.05)
    worker(served.services).join(60)
    assert client.wait_what_if(record["id"])["state"] == "finished"


@pytest.mark.parametrize("wait", [DaemonClient.wait, WorldClient.wait_what_if])
def test_no_client_waits_for_ever_unless_it_is_told_to(wait):
    default = signature(wait).parameters["timeout_s"].default
    assert 3600.0 < default <= 7 * 86_400.0


def test_what_cannot_be_asked_is_told(served, picture, tmp_path):
    assert isinstance(run(served, "--image", tmp_path / "none.png", *ASKED).exception, RequestInvalid)
    assert isinstance(run(served, "--image", picture).exception, DaemonRefused)
    assert isinstance(run(served, "--episode", "nowhere").exception, DaemonRefused)


def test_what_was_asked_is_listed_newest_first_and_in_pages(served, picture):
    for instruction in ("open it", "close it"):
        run(served, "--image", picture, "--instruction", instruction)
    words = ("what-ifs", "--limit", 1, "--url", served.url)
    done = CliRunner().invoke(app, [*map(str, words)], env={"COLUMNS": "200"})
    assert "close it" in done.stdout
    assert "open it" not in done.stdout
    cursor = done.stdout.strip().rsplit(" ", 1)[1]
    rest = CliRunner().invoke(app, [*map(str, words), "--cursor", cursor, "--json"])
    assert json.loads(rest.stdout)["items"][0]["instruction"] == "open it"
