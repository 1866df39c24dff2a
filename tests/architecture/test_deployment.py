"""The container files name commands, settings and files that exist. No engine runs them here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from daemon.settings import PREFIX, Settings
from robot_bridge.station.doors import scope_of
from tests.architecture.documents import require_parsed

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)


def test_the_five_roles_are_there() -> None:
    assert set(SERVICES) == {"postgres", "migrate", "serve", "worker", "station"}


@pytest.mark.parametrize("name", OURS)
def test_every_service_runs_a_command_that_the_program_takes(name: str) -> None:
    program, *words = SERVICES[name]["command"]
    assert program == "gymnastd"
    require_parsed(tuple(words))


def test_every_service_of_ours_is_of_one_image() -> None:
    assert len(OURS) == 4
    assert {(SERVICES[name]["build"], SERVICES[name]["image"]) for name in OURS} == {(".", "gymnastd")}


def test_all_processes_of_the_daemon_have_the_same_settings() -> None:
    ours = [SERVICES[name] for name in ("migrate", "serve", "worker")]
    assert all(service["environment"] == ours[0]["environment"] for service in ours)
    settings = ours[0]["environment"]
    found = Settings(**{name.removeprefix(PREFIX).lower(): value for name, value in settings.items()})
    assert found.worker_count == 0
    assert str(found.database_password_file) == "/run/secrets/postgres_password"
    assert SERVICES["worker"]["volumes"] == SERVICES["serve"]["volumes"]


def test_whoever_speaks_with_the_station_over_loopback_shares_its_network() -> None:
    assert SERVICES["serve"]["environment"]["GYMNASTD_STATION_URL"] == "http://127.0.0.1:8401"
    for name in ("worker", "station"):
        assert SERVICES[name]["network_mode"] == "service:serve"
        assert "ports" not in SERVICES[name]


def test_what_stays_up_says_whether_it_is_well() -> None:
    for name in sorted(set(SERVICES) - {"migrate"}):
        assert SERVICES[name]["restart"] == "unless-stopped"
        kind, *words = SERVICES[name]["healthcheck"]["test"]
        assert kind in {"CMD", "CMD-SHELL"}
        if words[0] == "gymnastd":
            require_parsed(tuple(words[1:]))
        if words[0] == "python":
            compile(words[2], name, "exec")
    assert "/readyz" in SERVICES["serve"]["healthcheck"]["test"][-1]
    assert scope_of("GET", "/v1/health") == (True, None)
    assert "/v1/health" in SERVICES["station"]["healthcheck"]["test"][-1]
    assert SERVICES["migrate"]["restart"] == "no"


def test_the_workers_time_to_end_is_the_units() -> None:
    unit = (ROOT / "packaging" / "gymnastd-worker@.service").read_text()
    seconds = re.search(r"TimeoutStopSec=(\d+)", unit)
    assert seconds is not None
    assert SERVICES["worker"]["stop_grace_period"] == f"{seconds[1]}s"


def test_settings_in_the_container_files_exist() -> None:
    text = DOCKERFILE + (ROOT / "docker-compose.yml").read_text()
    named = {name.removeprefix(PREFIX) for name in re.findall(r"GYMNASTD_[A-Z_]+[A-Z]", text)}
    assert named <= {name.upper() for name in Settings.model_fields}
    assert {"DATA_DIR", "DATABASE_URL", "STATION_URL"} <= named


def test_the_schema_is_brought_up_to_date_once_before_serving() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["worker"]["depends_on"] == {"serve": {"condition": "service_healthy"}}
    after = SERVICES["serve"]["depends_on"]
    assert after == {"migrate": {"condition": "service_completed_successfully"}}


def test_nothing_listens_beyond_the_hosts_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_password_stands_in_the_files() -> None:
    for name in ("postgres", "migrate", "serve", "worker"):
        assert SERVICES[name]["secrets"] == ["postgres_password"]
    assert urlsplit(SERVICES["serve"]["environment"]["GYMNASTD_DATABASE_URL"]).password is None
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
