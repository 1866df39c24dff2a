import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli import announced, app
from daemon.client import DaemonClient
from daemon.errors import DaemonUnreachable, RequestInvalid, SettingUnknown
from daemon.settings import Settings
from daemon.stores import open_database
from storage import episodes, iterations
from storage.interchange.errors import ClipInvalid


def run(*arguments, **variables):
    """The command line as a process; the environment is this one plus `variables`."""
    command = [sys.executable, "-m", "daemon.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def inside(*arguments):
    """The command line in this process: faster, and its errors keep their class."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@contextmanager
def serving(tmp_path, *arguments):
    """`gymnastd serve` without workers on a free port; yields its URL and the process."""
    announce = tmp_path / "serve.url"
    command = [sys.executable, "-m", "daemon.cli", "serve", "--port", "0", "--announce", str(announce)]
    environment = {**os.environ, "GYMNASTD_WORKER_COUNT": "0", "GYMNASTD_DATA_DIR": str(tmp_path / "lab")}
    with subprocess.Popen(
        [*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline().startswith("gymnastd serves http://127.0.0.1:")
            yield announce.read_text().strip(), process
        finally:
            process.kill()


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path) as (url, _):
        yield url


STEERING = ["pause", "resume", "cancel", "retry", "skip"]
HELP = ["serve", "worker", "station", "iterate", "status", "success-rates", "db", "pretrain", "import"]
HELP += ["manifest", "diff", "rerun", "doctor", "backup", "restore", "gc"]


def test_help_names_every_command_and_loads_nothing_heavy():
    script = (
        "import sys; from typer.testing import CliRunner; from daemon.cli import app\n"
        "result = CliRunner().invoke(app, ['--help'], env={'COLUMNS': '200'})\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'sqlalchemy', 'fastapi', 'mujoco', 'av'}\n"
        "sys.stdout.write(result.output + '\\nloaded:' + ','.join(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    output, loaded = done.stdout.rsplit("loaded:", 1)
    assert loaded == ""
    for command in [*HELP, "finetune-world-model", "demo"]:
        assert command in output


@pytest.mark.parametrize(
    "command", [[name] for name in [*HELP, *STEERING]] + [["import", "worldgym-clips"], ["db", "upgrade"]]
)
def test_every_command_explains_itself(command):
    result = inside(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_serve_answers_where_it_says_and_stops_on_a_signal(tmp_path):
    with serving(tmp_path) as (url, process):
        assert DaemonClient(url).ready()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_a_second_serve_on_the_same_data_is_refused_in_one_sentence(tmp_path):
    with serving(tmp_path) as (_, process):
        done = run("serve", "--port", "0", "--data-dir", tmp_path / "lab")
    assert done.returncode == 1
    assert f"pid {process.pid}" in done.stderr
    assert "[data_directory_busy]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "code"),
    [({"GYMNASTD_COLOUR": "red"}, "setting_unknown"), ({"GYMNASTD_HOST": "0.0.0.0"}, "setting_invalid")],  # noqa: S104
)
def test_wrong_settings_are_refused_before_anything_is_made(tmp_path, variables, code):
    done = run("serve", "--data-dir", tmp_path / "lab", **variables)
    assert done.returncode == 1
    assert f"[{code}]" in done.stderr
    assert not (tmp_path / "lab").exists()


def test_manifest_and_diff_speak_with_the_daemon(served):
    for seed in (3, 4):
        inside("iterate", "--seed", seed, "--url", served)
    document = json.loads(inside("manifest", 2, "--url", served).output)
    assert (document["number"], document["spec"]["seed"], document["phases"]) == (2, 4, {})
    found = json.loads(inside("diff", 1, 2, "--json", "--url", served).output)
    assert found["spec"] == [{"field": "seed", "from": 3, "to": 4}]
    table = inside("diff", 1, 2, "--url", served).output
    assert table.splitlines()[2].replace("┃", " ").split() == ["iteration", "1", "iteration", "2"]
    assert any(line.replace("│", " ").split() == ["seed", "3", "4"] for line in table.splitlines())


def test_iterate_status_and_success_rates_speak_with_the_daemon(served, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"seed": 1, "collect": {"episodes_per_task": 3}}))
    asked = inside(
        "iterate", "--spec", spec, "--seed", 9, "--task", "open_drawer", "--key", "k", "--url", served
    )
    assert asked.output == "iteration 1 is requested\n"
    record = json.loads(inside("status", 1, "--json", "--url", served).output)
    assert record["spec"]["seed"] == 9
    assert record["spec"]["tasks"] == ["open_drawer"]
    assert record["spec"]["collect"]["episodes_per_task"] == 3
    assert "iteration 1 is" in inside("status", 1, "--url", served).output
    assert "requested" in inside("status", "--url", served).output
    assert "no episode has been judged yet" in inside("success-rates", "--url", served).output
    assert json.loads(inside("success-rates", "--json", "--url", served).output)["items"] == []


def test_an_iteration_is_steered_from_the_command_line(served):
    inside("iterate", "--url", served)
    assert inside("pause", 1, "--url", served).output == "iteration 1 is paused\n"
    assert inside("skip", 1, "collect", "--url", served).output == "iteration 1 is paused\n"
    assert "iteration 1 is r" in inside("resume", 1, "--url", served).output
    assert inside("cancel", 1, "--url", served).output == "iteration 1 is cancelled\n"
    refused = run("retry", 1, "--url", served)
    assert refused.returncode == 1
    assert "illegal_move" in refused.stderr
    assert inside("skip", 1, "rest", "--url", served).exit_code == 2


def test_iterate_with_the_same_key_asks_once(served):
    for _ in range(2):
        assert "iteration 1" in inside("iterate", "--key", "k", "--url", served).output


def test_iterate_wait_follows_to_the_end_and_fails_with_the_iteration(served, tmp_path, now):
    waiting = subprocess.Popen(
        [sys.executable, "-m", "daemon.cli", "iterate", "--wait", "--url", served],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with waiting:
        assert waiting.stdout.readline() == "iteration 1 is requested\n"
        database = open_database(Settings(data_dir=tmp_path / "lab"))
        with database.write() as session:
            rows, _ = iterations.list_iterations(session)
            iterations.fail(session, rows[0], error_code="bad_luck", message="it rained", now=now)
        database.dispose()
        _, errors = waiting.communicate(timeout=30)
    assert waiting.returncode == 1
    assert "bad_luck: it rained" in errors
    assert "[iteration_failed]" in errors


def test_success_rates_show_counts_with_intervals(served, tmp_path, now, an_episode, blobs):
    inside("iterate", "--url", served)
    database = open_database(Settings(data_dir=tmp_path / "lab"))
    with database.write() as session:
        rows, _ = iterations.list_iterations(session)
        provenance = episodes.Provenance(origin="collect", iteration_id=rows[0].id)
        for number in range(3):
            episode = an_episode(number, success=number == 0)
            episodes.commit(session, blobs, episode, provenance=provenance, now=now)
    database.dispose()
    output = inside("success-rates", "--url", served).output
    assert "open_drawer" in output
    assert "1/3" in output
    assert "6 to 79 %" in output


def test_the_ledger_shows_what_iterations_used(served, tmp_path, now, an_episode, blobs):
    assert "no iteration in that time" in inside("ledger", "--url", served).output
    inside("iterate", "--url", served)
    database = open_database(Settings(data_dir=tmp_path / "lab"))
    with database.write() as session:
        rows, _ = iterations.list_iterations(session)
        provenance = episodes.Provenance(origin="collect", iteration_id=rows[0].id)
        episodes.commit(session, blobs, an_episode(1), provenance=provenance, now=now)
    database.dispose()
    document = json.loads(inside("ledger", "--url", served, "--json").output)
    assert [(item["iteration"], item["robot_episodes"]) for item in document["items"]] == [(1, 1)]
    assert "0 for $0.00" in inside("ledger", "--url", served).output
    early = inside("ledger", "--url", served, "--until", "2020-01-01T00:00:00Z").output
    assert "no iteration in that time" in early


def test_a_daemon_that_is_not_there_is_told_in_one_sentence(tmp_path):
    done = run("status", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "gymnastd serve" in done.stderr
    assert "[daemon_unreachable]" in done.stderr
    assert isinstance(inside("status", "--url", "http://127.0.0.1:9").exception, DaemonUnreachable)


@pytest.mark.parametrize("content", [None, "{", "[1]", "seed: 1"])
def test_a_spec_file_that_is_no_json_object_is_refused(tmp_path, content):
    path = tmp_path / "spec.json"
    if content is not None:
        path.write_text(content)
    result = inside("iterate", "--spec", path, "--url", "http://127.0.0.1:9")
    assert isinstance(result.exception, RequestInvalid)
    assert str(path) in str(result.exception)


def test_db_upgrade_makes_the_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(tmp_path))
    first, again = inside("db", "upgrade"), inside("db", "upgrade")
    assert first.exit_code == again.exit_code == 0
    assert first.output == again.output
    database = open_database(Settings(data_dir=tmp_path))
    database.require_current()
    assert str(database.revision()) in first.output
    database.dispose()


def test_a_misspelt_setting_stops_every_command_that_has_settings(monkeypatch):
    monkeypatch.setenv("GYMNASTD_COLOUR", "red")
    for command in (["db", "upgrade"], ["worker"], ["serve"], ["finetune-world-model"]):
        assert isinstance(inside(*command).exception, SettingUnknown), command


def test_a_station_that_is_not_simulated_is_not_offered():
    result = inside("station")
    assert result.exit_code == 2
    assert "--sim" in result.output


def test_an_announcement_is_whole_or_not_there(tmp_path):
    file = tmp_path / "url"
    announced("hello", "http://127.0.0.1:1", file)
    assert file.read_text() == "http://127.0.0.1:1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["url"]


@pytest.mark.slow
def test_a_simulated_station_serves_over_http(tmp_path):
    pytest.importorskip("mujoco", reason="the simulated cell needs the sim extra")
    announce = tmp_path / "station.url"
    command = [sys.executable, "-m", "daemon.cli", "station", "--sim", "--cell-seed", "3", "--port", "0"]
    with subprocess.Popen(
        [*command, "--spool", str(tmp_path / "spool"), "--announce", str(announce)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline().startswith("station serves http://127.0.0.1:")
            assert announce.read_text().startswith("http://127.0.0.1:")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


def test_importing_a_folder_that_is_no_folder_of_clips_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(tmp_path / "lab"))
    (tmp_path / "clips").mkdir()
    result = inside("import", "worldgym-clips", tmp_path / "clips")
    assert isinstance(result.exception, ClipInvalid)


CLIPS = Path(__file__).parents[3] / "shared" / "data" / "bridge_v2_sample"


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the sample of real clips lies beside the repository only")
def test_importing_real_clips_twice_adds_them_once(tmp_path, monkeypatch):
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(tmp_path / "lab"))
    first, again = (inside("import", "worldgym-clips", CLIPS).stdout for _ in range(2))
    assert first == "10 episodes, 355 frames; 10 were new\n"
    assert again == "10 episodes, 355 frames; 0 were new\n"


def test_an_emergency_stop_is_cleared_only_after_somebody_looked(tmp_path):
    from datetime import UTC, datetime

    from robot_bridge.station.estop import EStopLatch

    latch = EStopLatch(tmp_path)
    latch.latch("a hand in the cell", datetime(2026, 1, 1, tzinfo=UTC))
    runner, command = CliRunner(), ["clear-estop", "--spool", str(tmp_path)]
    refused = runner.invoke(app, command, input="n\n")
    assert "a hand in the cell" in refused.output
    assert refused.exit_code != 0
    assert latch.read() is not None
    assert runner.invoke(app, command, input="y\n").exit_code == 0
    assert latch.read() is None
    assert "no emergency stop" in runner.invoke(app, command).output


def test_commands_show_the_token_of_a_file_that_a_setting_or_an_option_names(tmp_path, monkeypatch):
    with monkeypatch.context() as lab:
        lab.setenv("GYMNASTD_DATA_DIR", str(tmp_path / "lab"))
        made = CliRunner().invoke(app, ["token", "create", "--name", "ann", "--scope", "operate"])
    file = tmp_path / "token"
    file.write_text(made.stdout)
    with serving(tmp_path) as (url, _):
        assert inside("status", "--url", url).exception.problem_code == "unauthorized"
        assert inside("status", "--url", url, "--token-file", file).exit_code == 0
        monkeypatch.setenv("GYMNASTD_TOKEN_FILE", str(file))
        assert inside("iterate", "--url", url).output == "iteration 1 is requested\n"
        assert inside("success-rates", "--url", url).exit_code == 0
