"""Every command that prints an answer prints it as one JSON document if asked."""

import json
import re
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from daemon.cli import app
from daemon.errors import DaemonRefused, IterationFailed
from daemon.settings import Settings
from robot_bridge.station.estop import EStopLatch
from robot_bridge.station.human import HumanCall
from robot_bridge.station.tokens import TokenFile
from storage import access_tokens, episodes, iterations
from tests.daemon.serving import serving

EPISODE = str(UUID(int=1))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def served(tmp_path):
    with serving(Settings(data_dir=tmp_path / "lab", worker_count=0)) as served:
        yield served


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A data directory with its database, and no daemon."""
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(tmp_path / "lab"))
    assert run("db", "upgrade").exit_code == 0
    return tmp_path


def run(*words, answer=None):
    return CliRunner().invoke(app, [str(word) for word in words], input=answer)


def document(*words):
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output or done.exception
    return json.loads(done.stdout)


def test_what_steers_an_iteration_answers_with_its_record(served):
    assert document("iterate", "--url", served.url)["state"] == "requested"
    for act, state in (("pause", "paused"), ("resume", "requested"), ("cancel", "cancelled")):
        record = document(act, 1, "--url", served.url)
        assert record["number"] == 1
        assert record["state"] == state or act == "resume"
    assert document("iterate", "--url", served.url)["number"] == 2
    assert document("skip", 2, "collect", "--url", served.url)["number"] == 2


def test_an_iteration_that_is_waited_for_is_one_document_or_an_error(served):
    done = document("iterate", "--key", "k", "--url", served.url)
    with served.services.database.write() as session:
        row = iterations.get(session, done["id"])
        iterations.fail(session, row, error_code="bad_luck", message="it rained", now=datetime.now(UTC))
    failed = run("iterate", "--key", "k", "--wait", "--json", "--url", served.url)
    assert isinstance(failed.exception, IterationFailed)
    assert document("retry", done["number"], "--url", served.url)["state"] != "failed"


def test_schedules_and_hours_are_told_as_the_api_tells_them(served):
    made = document("schedule", "add", "hourly", "--every", 3600, "--url", served.url)
    assert (made["name"], made["trigger"]) == ("hourly", {"kind": "interval", "seconds": 3600.0})
    (listed,) = document("schedule", "list", "--url", served.url)["items"]
    assert listed["id"] == made["id"]
    assert document("schedule", "pause", "hourly", "--url", served.url)["enabled"] is False
    assert document("schedule", "resume", "hourly", "--url", served.url)["enabled"] is True
    assert document("schedule", "show", "hourly", "--url", served.url)["id"] == made["id"]
    assert document("schedule", "run-now", "hourly", "--url", served.url)["number"] == 1
    hours = document("hours", "set", "cell-1", "--open", "mon-fri 20:00-06:00", "--url", served.url)
    assert document("hours", "show", "cell-1", "--url", served.url)["hours"] == hours["hours"]


def test_what_is_taken_away_is_named(served, tmp_path):
    made = document("schedule", "add", "hourly", "--every", 3600, "--url", served.url)
    gone = document("schedule", "remove", "hourly", "--url", served.url)
    assert gone == {"id": made["id"], "name": "hourly", "removed": True}
    document("hours", "set", "cell-1", "--minutes-per-hour", 10, "--url", served.url)
    assert document("hours", "clear", "cell-1", "--url", served.url) == {"station": "cell-1", "removed": True}
    assert document("hours", "show", "cell-1", "--url", served.url)["hours"]["minutes_per_hour"] is None
    picture = tmp_path / "start.png"
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(picture)
    asked = ("--task", "open_drawer", "--instruction", "open it", "--url", served.url)
    kept = document("start-image", "add", picture, *asked)["id"]
    gone = document("start-image", "remove", kept, "--url", served.url)
    assert gone == {"id": kept, "removed": True}
    refused = run("start-image", "remove", kept, "--json", "--url", served.url)
    assert (refused.stdout, refused.exception.status) == ("", 404)


def test_what_is_text_for_programs_anyway_is_json_too(served):
    document("iterate", "--url", served.url)
    assert document("manifest", 1, "--url", served.url) == json.loads(
        run("manifest", 1, "--url", served.url).stdout
    )
    families = {each["name"]: each for each in document("metrics", "--url", served.url)["items"]}
    build = families["gymnastd_build_info"]
    assert (build["kind"], build["samples"][0]["value"]) == ("gauge", 1)
    text = run("metrics", "--url", served.url).stdout
    assert list(families) == re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)


def test_a_label_and_a_note_are_told_as_the_api_tells_them(served, an_episode, now):
    with served.services.database.write() as session:
        provenance = episodes.Provenance(origin="base")
        episodes.commit(session, served.services.blobs, an_episode(1), provenance=provenance, now=now)
    kept = document("label", EPISODE, "failure", "--labeller", "ann", "--url", served.url)
    assert (kept["success"], kept["who"], kept["counts"]) == (False, "ann", True)
    note = document("note", EPISODE, "it snagged", "--author", "bob", "--url", served.url)
    assert (note["text"], note["author"]) == ("it snagged", "bob")
    assert document("notes", EPISODE, "--url", served.url) == {"items": [note]}
    assert document("episode", EPISODE, "--url", served.url)["notes"] == 1


def test_tokens_are_listed_without_their_secrets(lab):
    secret = run("token", "create", "--name", "ann", "--scope", "read", "--expires-days", 1).stdout.strip()
    run("token", "create", "--name", "bob", "--scope", "label")
    run("token", "revoke", "bob")
    ann, bob = sorted(document("token", "list")["items"], key=lambda item: item["name"])
    assert (ann["name"], ann["scopes"], ann["revoked_at"]) == ("ann", ["read"], None)
    assert ann["expires_at"] > ann["created_at"]
    assert bob["state"].startswith("revoked ")
    assert secret not in json.dumps(ann)
    file = lab / "tokens.json"
    run("station", "token", "create", "daemon", "--scope", "drive", "--scope", "observe", "--tokens", file)
    (daemon,) = document("station", "token", "list", "--tokens", file)["items"]
    assert (daemon["name"], daemon["scopes"]) == ("daemon", ["drive", "observe"])


def test_a_token_that_is_made_is_told_once_with_all_that_is_known_of_it(lab):
    made = document("token", "create", "--name", "ann", "--scope", "read", "--expires-days", 1)
    secret = made.pop("token")
    assert access_tokens.read(secret) is not None
    assert made == document("token", "list")["items"][0]
    assert document("token", "revoke", "ann") == {"name": "ann", "revoked": True, "was_last": True}
    file = lab / "tokens.json"
    words = ("daemon", "--scope", "drive", "--scope", "observe", "--tokens", file)
    made = document("station", "token", "create", *words)
    assert TokenFile(file).check(made.pop("token")).scopes == {"drive", "observe"}
    assert [made] == document("station", "token", "list", "--tokens", file)["items"]
    gone = document("station", "token", "revoke", "daemon", "--tokens", file)
    assert gone == {"name": "daemon", "revoked": True}
    again = run("station", "token", "revoke", "daemon", "--tokens", file, "--json")
    assert (again.exit_code, again.stdout) == (1, "")


def test_a_token_made_and_ended_over_rest_is_told_in_the_same_way(lab):
    admin = lab / "admin"
    admin.write_text(run("token", "create", "--name", "root", "--scope", "admin", "--scope", "read").stdout)
    with serving(Settings(data_dir=lab / "lab", worker_count=0)) as served:
        there = ("--url", served.url, "--token-file", admin)
        made = document("token", "create", "--name", "ann", "--scope", "read", *there)
        assert access_tokens.read(made.pop("token")) is not None
        assert made == document("token", "list", *there)["items"][1]
        gone = document("token", "revoke", "ann", *there)
        assert gone == {"name": "ann", "revoked": True, "was_last": False}


def test_the_database_says_where_it_is_and_where_the_release_is(lab):
    newest = document("db", "current")["release"]
    assert document("db", "upgrade") == {"database": newest, "release": newest}
    assert document("db", "downgrade", "0004", "--yes") == {"database": "0004", "release": newest}
    behind = run("db", "current", "--json")
    assert (behind.exit_code, json.loads(behind.stdout)["database"]) == (1, "0004")
    unsure = run("db", "downgrade", "0003", "--json", answer="n\n")
    assert (unsure.exit_code, unsure.stdout) == (1, "")
    assert "What later revisions added is lost" in unsure.stderr
    sure = run("db", "downgrade", "0003", "--json", answer="y\n")
    assert json.loads(sure.stdout)["database"] == "0003"


def test_what_is_asked_at_the_robot_is_asked_beside_the_answer(tmp_path):
    spool = ("--spool", tmp_path, "--json")
    nothing = {"spool": str(tmp_path), "done": False, "waited_for": None}
    assert json.loads(run("station", "human-done", *spool).stdout) == nothing
    HumanCall(tmp_path).ask("the drawer jams", NOON)
    refused = run("station", "human-done", *spool, answer="n\n")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "the drawer jams. Is that done?" in refused.stderr
    done = json.loads(run("station", "human-done", *spool, answer="y\n").stdout)
    assert done == {"spool": str(tmp_path), "done": True, "waited_for": "the drawer jams"}
    EStopLatch(tmp_path).latch("a hand in the cell", NOON)
    cleared = run("clear-estop", *spool, answer="y\n")
    stopped = {"since": NOON.isoformat(), "reason": "a hand in the cell"}
    assert json.loads(cleared.stdout) == {"spool": str(tmp_path), "cleared": True, "stopped": stopped}
    assert "Is the arm free to move?" in cleared.stderr
    again = json.loads(run("station", "clear-estop", *spool).stdout)
    assert again == {"spool": str(tmp_path), "cleared": False, "stopped": None}


def test_backup_and_restore_say_what_there_was(lab, monkeypatch):
    made = document("backup", lab / "backups")
    assert made["damaged"] == []
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(lab / "elsewhere"))
    back = document("restore", lab / "backups")
    assert (back["name"], back["rows"], back["damaged"]) == (made["name"], made["rows"], [])
    found = document("db", "current")
    assert found["database"] == found["release"] != ""


def test_exports_and_imports_say_how_many(lab, an_episode, now, monkeypatch):
    from daemon.stores import open_blobs, open_database

    settings = Settings(data_dir=lab / "lab")
    database = open_database(settings)
    with database.write() as session:
        provenance = episodes.Provenance(origin="base")
        episodes.commit(session, open_blobs(settings), an_episode(1), provenance=provenance, now=now)
    database.dispose()
    sent = document("export", "bridge-raw", lab / "out")
    assert sent == {
        "episodes": 1,
        "before": 0,
        "later": 0,
        "folder": str(lab / "out"),
        "manifest": str(lab / "out" / "manifest.json"),
    }
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(lab / "elsewhere"))
    assert document("import", "bridge-raw", lab / "out") == {"episodes": 1, "frames": 4, "added": 1}
    assert document("import", "bridge-raw", lab / "out")["added"] == 0


def test_every_command_shows_its_token_also_to_the_stream(lab):
    token = lab / "token"
    token.write_text(run("token", "create", "--name", "ann", "--scope", "operate").stdout)
    with serving(Settings(data_dir=lab / "lab", worker_count=0)) as served:
        for words in (["pause", 1], ["schedule", "list"], ["episodes"], ["ledger"], ["events"]):
            stranger = run(*words, "--url", served.url)
            assert stranger.exception.problem_code == "unauthorized", words
            known = run(*words, "--url", served.url, "--token-file", token)
            problem = getattr(known.exception, "problem_code", None)
            assert problem in {None, "page_not_found"}, words
        from daemon.cli_rest import client_of

        with client_of(served.url, token).open_events() as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
        with pytest.raises(DaemonRefused):
            client_of(served.url, None).open_events()
