"""The commands of people who look on, against a real daemon."""

import json
import logging
import signal
import subprocess
import sys
from datetime import UTC, datetime
from uuid import UUID

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.events.feed import HEARTBEAT_S
from daemon.iteration import advance
from daemon.run_log import phase_log
from daemon.settings import Settings
from storage import episodes, events, iterations, labels, notes, phase_runs
from tests.daemon.serving import serving

EPISODE = str(UUID(int=1))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(Settings(data_dir=tmp_path_factory.mktemp("lab"), worker_count=0)) as served:
        yield served


def run(served, *words):
    return CliRunner().invoke(app, [*words, "--url", served.url])


def test_events_are_shown_oldest_first_and_as_json(served, now):
    with served.services.database.write() as session:
        for kind in ("judge_away", "judge_back"):
            events.note(session, kind, at=now, facts={"reason": "503"})
    done = run(served, "events", "--kind", "judge_away", "--kind", "judge_back")
    assert done.stdout.splitlines() == [
        "2026-01-01 12:00:00  the judge does not answer: 503",
        "2026-01-01 12:00:00  the judge answers again",
    ]
    (line,) = run(served, "events", "--limit", "1", "--kind", "judge_back", "--json").stdout.splitlines()
    assert json.loads(line)["kind"] == "judge_back"


def test_the_log_of_the_last_started_phase_is_shown(served, caplog):
    caplog.set_level("INFO")
    database, at = served.services.database, datetime.now(UTC)
    with database.write() as session:
        iterations.request_iteration(session, spec={}, idempotency_key=None, now=at)
    claimed = None
    while claimed is None:
        with database.write() as session:
            advance(session, now=at)
            claimed = phase_runs.claim(session, "w", ttl_s=3600, now=at)
    assert run(served, "logs", str(claimed.iteration_number)).exit_code == 1, "it has written nothing yet"
    with phase_log(served.services.settings, claimed.phase_run_id):
        logging.getLogger("daemon.phases.test").info("hello from the phase")
    done = run(served, "logs", str(claimed.iteration_number), "--tail", "1")
    assert done.stdout.endswith("INFO daemon.phases.test hello from the phase\n")
    told = json.loads(run(served, "logs", str(claimed.iteration_number), "--tail", "1", "--json").stdout)
    assert (told["iteration"], told["phase"], told["attempt"]) == (claimed.iteration_number, claimed.phase, 1)
    assert [line.endswith("hello from the phase") for line in told["lines"]] == [True]
    assert run(served, "logs", str(claimed.iteration_number), "--phase", "update_policy").exit_code == 1


def test_what_is_watched_is_told_to_programs_until_they_have_seen_enough(served, now):
    command = [sys.executable, "-m", "daemon.cli", "watch", "--json", "--url", served.url]
    with served.services.database.write() as session:
        events.note(session, "judge_away", at=now, facts={"reason": "before"})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        try:
            told = map(json.loads, watching.stdout)
            assert any(each["kind"] == "judge_away" for each in told)
            standing = next(each for each in told if each["kind"] == "standing")
            addresses = [robot["address"] for robot in standing["items"]]
            assert addresses == [served.services.settings.station_url]
            with served.services.database.write() as session:
                events.note(session, "judge_back", at=now, facts={})
            assert next(each["text"] for each in told if each["kind"] == "judge_back")
            watching.send_signal(signal.SIGINT)
            # a signal that comes just as a read begins waits for the stream's next heartbeat
            assert watching.wait(4 * HEARTBEAT_S) == 0
        finally:
            watching.kill()


@pytest.mark.parametrize(("verdict", "success"), [("success", True), ("failure", False), ("unknown", None)])
def test_a_verdict_is_added_with_who_and_why(served, an_episode, now, verdict, success):
    database = served.services.database
    with database.write() as session:
        provenance = episodes.Provenance(origin="base")
        episodes.commit(session, served.services.blobs, an_episode(1), provenance=provenance, now=now)
    done = run(served, "label", EPISODE, verdict, "--labeller", "ann", "--note", "seen", "--key", verdict)
    assert done.exit_code == 0, done.output
    assert f"{verdict} by ann" in done.stdout
    assert run(served, "label", EPISODE, verdict, "--labeller", "ann", "--note", "seen", "--key", verdict)
    with database.read() as session:
        own = [
            row for row in labels.history(session, EPISODE) if row.success is success and row.judge == "ann"
        ]
    assert [(row.source, row.answer) for row in own] == [("human", "seen")]


@pytest.mark.parametrize(
    "words", [("label", "nowhere", "success", "--labeller", "ann"), ("note", "nowhere", "it snagged")]
)
def test_an_episode_that_is_not_there_is_told(served, words):
    done = run(served, *words)
    assert done.exit_code == 1
    assert done.exception.problem_code == "not_found"


def test_a_note_is_added_once_under_its_key_and_judges_nothing(served, an_episode, now):
    database = served.services.database
    with database.write() as session:
        provenance = episodes.Provenance(origin="base")
        row, _ = episodes.commit(
            session, served.services.blobs, an_episode(2), provenance=provenance, now=now
        )
        before = [label.id for label in labels.history(session, row.id)]
    for _ in range(2):
        done = run(served, "note", row.id, " it snagged at step 20 ", "--author", "ann", "--key", "k")
        assert done.stdout == f"episode {row.id} has a note by ann\n"
    with database.read() as session:
        assert [(one.author, one.text) for one in notes.history(session, row.id)] == [
            ("ann", "it snagged at step 20")
        ]
        assert [label.id for label in labels.history(session, row.id)] == before


@pytest.mark.parametrize("text", ["", "x" * 2001])
def test_a_note_of_no_use_is_refused_by_its_field(served, text):
    done = run(served, "note", EPISODE, text)
    assert done.exception.problem_code == "request_invalid"
    assert "body.text" in str(done.exception)


@pytest.mark.parametrize("command", ["watch", "events", "logs", "label", "note"])
def test_every_command_explains_itself(command):
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
