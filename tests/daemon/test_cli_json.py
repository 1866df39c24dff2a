"""Every command that prints an answer prints it as one JSON document if asked."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.errors import DaemonRefused, IterationFailed
from daemon.settings import Settings
from storage import episodes, iterations
from tests.daemon.serving import serving

EPISODE = str(UUID(int=1))


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


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


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


def test_a_label_is_told_as_the_api_tells_it(served, an_episode, now):
    with served.services.database.write() as session:
        provenance = episodes.Provenance(origin="base")
        episodes.commit(session, served.services.blobs, an_episode(1), provenance=provenance, now=now)
    kept = document("label", EPISODE, "failure", "--labeller", "ann", "--url", served.url)
    assert (kept["success"], kept["who"], kept["counts"]) == (False, "ann", True)


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
