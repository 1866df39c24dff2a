"""What a process may have loaded, looked at in a fresh process."""

import subprocess
import sys

import pytest

LEARNING = ("torch", "transformers", "diffusers")
EXTRAS = ("wandb", "opentelemetry.sdk", "pyarrow", "mujoco")


def loaded_after(statement: str) -> set[str]:
    script = f"{statement}\nimport sys\nsys.stdout.write(','.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split(",")} | set(done.stdout.split(","))


def test_a_module_that_is_loaded_is_seen():
    assert "sqlalchemy" in loaded_after("import sqlalchemy")


@pytest.mark.parametrize(
    "module",
    [
        "daemon.app",
        "daemon.cli",
        "daemon.client",
        "daemon.phase_worker",
        "daemon.worker_process",
        "daemon.api",
    ],
)
def test_the_daemon_its_clients_and_its_loop_load_no_learning(module):
    loaded = loaded_after(f"import {module}")
    assert loaded.isdisjoint(LEARNING)
    assert loaded.isdisjoint(EXTRAS), "a phase, above all, knows of no sink"
    assert module in loaded


def test_the_command_line_loads_neither_the_server_nor_the_database():
    assert loaded_after("import daemon.cli").isdisjoint({"fastapi", "uvicorn", "sqlalchemy", "mujoco", "av"})


def test_the_robot_side_loads_neither_learning_nor_sql_nor_the_simulator():
    modules = "robot_bridge, robot_bridge.client, robot_bridge.episode, robot_bridge.safety"
    assert loaded_after(f"import {modules}").isdisjoint(
        {*LEARNING, "sqlalchemy", "mujoco", "storage", "daemon"}
    )


def test_storage_loads_neither_learning_nor_the_server():
    modules = "storage, storage.db, storage.episodes, storage.phase_runs, storage.checkpoints"
    assert loaded_after(f"import {modules}").isdisjoint({*LEARNING, "fastapi", "daemon"})


def test_the_package_named_daemon_is_ours():
    script = "import daemon, sys; sys.stdout.write(daemon.__file__)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert __file__.rsplit("/tests/", 1)[0] in found
