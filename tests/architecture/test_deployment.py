"""The container files name commands, settings and files that exist. No engine runs them here."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from daemon.cli import app
from daemon.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)


def test_the_four_roles_are_there() -> None:
    assert set(SERVICES) == {"postgres", "migrate", "serve", "station"}


@pytest.mark.parametrize("name", OURS)
def test_every_service_runs_a_command_that_exists_with_its_options(name: str) -> None:
    line = " ".join(SERVICES[name]["command"])
    tail = line[line.rindex("gymnastd ") + len("gymnastd ") :]
    words, command = shlex.split(tail), get_command(app)
    while words and not words[0].startswith("-") and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []


def test_settings_in_the_container_files_exist() -> None:
    text = DOCKERFILE + (ROOT / "docker-compose.yml").read_text()
    named = {name.removeprefix(PREFIX) for name in re.findall(r"GYMNASTD_[A-Z_]+[A-Z]", text)}
    assert named <= {name.upper() for name in Settings.model_fields}
    assert {"DATA_DIR", "DATABASE_URL", "STATION_URL"} <= named


def test_the_schema_is_brought_up_to_date_once_before_serving() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    after = SERVICES["serve"]["depends_on"]
    assert after == {"migrate": {"condition": "service_completed_successfully"}}


def test_nothing_listens_beyond_the_hosts_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_password_stands_in_the_files() -> None:
    for name in ("postgres", "migrate", "serve"):
        assert SERVICES[name]["secrets"] == ["postgres_password"]
    assert "POSTGRES_PASSWORD" not in SERVICES["postgres"]["environment"]
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert Path(COMPOSE["secrets"]["postgres_password"]["file"]).name in ignored


def test_volumes_that_services_use_are_declared() -> None:
    used = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_what_the_image_copies_is_in_the_tree() -> None:
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source


def test_the_image_does_not_run_as_root() -> None:
    assert DOCKERFILE.index("USER gymnast") < DOCKERFILE.index("CMD")
