"""`check` as a command: its options, its questions, its exit status, its files."""

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from daemon.cli_check import check
from robot_bridge.drivers.lab_package import LabPackageMissing
from robot_bridge.drivers.opening import DriverUnavailable
from robot_bridge.errors import UnknownTask

app = typer.Typer()
app.command()(check)


def run(tmp_path, *arguments, answer=""):
    words = ["--out", str(tmp_path), *map(str, arguments)]
    return CliRunner().invoke(app, words, input=answer, env={"COLUMNS": "200"})


@pytest.mark.slow
def test_a_simulated_cell_is_checked_and_leaves_its_report(tmp_path):
    done = run(tmp_path, "--sim", "--yes", "--cell-seed", 3, "--task", "close_drawer")
    assert done.exit_code == 0, done.output
    tree = json.loads((tmp_path / "check.json").read_text())
    assert tree["allowed_to_move"] is True
    assert {item["verdict"] for item in tree["items"]} == {"passed"}
    assert "home of close_drawer" in done.output
    assert "Bring-up check of widowx_250s" in (tmp_path / "check.md").read_text()


def test_a_dry_run_asks_nothing(tmp_path):
    done = run(tmp_path, "--sim", "--dry-run")
    assert done.exit_code == 0
    assert "[y/N]" not in done.output
    assert json.loads((tmp_path / "check.json").read_text())["dry_run"] is True


def test_the_report_can_be_the_answer_and_the_questions_are_beside_it(tmp_path):
    done = run(tmp_path, "--sim", "--json", answer="n\n")
    assert done.exit_code == 2
    tree = json.loads(done.stdout)
    assert tree == {"folder": str(tmp_path), **json.loads((tmp_path / "check.json").read_text())}
    assert (tree["exit_status"], tree["allowed_to_move"]) == (2, False)
    assert "[y/N]" in done.stderr
    assert "the report is" in done.stderr


def test_somebody_who_says_no_is_heard(tmp_path):
    done = run(tmp_path, "--sim", answer="n\n")
    assert done.exit_code == 2
    assert "[y/N]" in done.output
    items = json.loads((tmp_path / "check.json").read_text())["items"]
    assert next(item for item in items if item["name"] == "home")["verdict"] == "skipped"


def test_sim_and_a_real_driver_exclude_each_other(tmp_path):
    done = run(tmp_path, "--sim", "--driver", "widowx-envs")
    assert done.exit_code == 2
    assert "exclude each other" in done.output


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--driver", "widowx-envs"), LabPackageMissing),
        (("--driver", "manipulator-gym", "--address", "nowhere"), DriverUnavailable),
        (("--sim", "--dry-run", "--task", "juggle"), UnknownTask),
    ],
)
def test_what_cannot_be_checked_is_an_error_of_ours(tmp_path, arguments, error):
    done = run(tmp_path, *arguments)
    assert isinstance(done.exception, error)
    assert not (tmp_path / "check.json").exists()


def test_the_help_names_every_option_and_loads_no_simulator():
    script = (
        "import sys, typer; from daemon.cli_check import check\n"
        "from typer.testing import CliRunner\n"
        "app = typer.Typer(); app.command()(check)\n"
        "done = CliRunner().invoke(app, ['--help'], env={'COLUMNS': '200'})\n"
        "assert 'mujoco' not in sys.modules and 'numpy' not in sys.modules\n"
        "sys.stdout.write(done.output)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for option in ("--driver", "--sim", "--cell-seed", "--out", "--yes", "--dry-run", "--address", "--tasks"):
        assert option in done.stdout
