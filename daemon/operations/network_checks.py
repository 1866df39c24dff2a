"""Checks of those that the daemon asks: robot stations, and the judge's endpoint where there is one."""

from contextlib import closing

import requests

from daemon.operations.findings import Finding, fault, ok, warning
from daemon.settings import Settings
from daemon.station_clients import station_client
from robot_bridge.errors import RobotBridgeError

ANSWER_S = 5.0
REFUSALS = {401, 403}


def check_stations(settings: Settings) -> list[Finding]:
    """Every station of the settings: whether it answers, and may move."""
    if settings.collect_via == "autoeval":
        return [ok("station", f"AutoEval at {settings.autoeval_url} runs the episodes; it is not asked here")]
    return [check_station(settings, url) for url in settings.stations]


def check_station(settings: Settings, url: str) -> Finding:
    """One station."""
    name = "station"
    try:
        client = station_client(settings, url, tries=1)
    except OSError as error:
        return fault(name, f"the token file cannot be read: {error}", "correct GYMNASTD_STATION_TOKEN_FILE")
    with closing(client):
        try:
            described, health, status = client.station(), client.health(), client.status()
        except (RobotBridgeError, OSError) as error:
            return fault(
                name, f"{url}: {error}", "start the station, or correct GYMNASTD_STATION_URL and its token"
            )
    if status.estop_reason is not None:
        remedy = "look at the arm, then `gymnastd clear-estop` at the station"
        return fault(name, f"{url}: {described.station_id} is stopped: {status.estop_reason}", remedy)
    if status.waiting_for is not None:
        remedy = "do it, then `gymnastd station human-done` at the station"
        return warning(name, f"{url}: {described.station_id} waits for a human: {status.waiting_for}", remedy)
    if not health.ready:
        return warning(name, f"{url}: {described.station_id} is {health.state}", "see the station's log")
    return ok(name, f"{url}: {described.station_id} is {health.state}")


def check_judge(settings: Settings) -> Finding:
    """The endpoint of a vision-language model, where the settings name one."""
    name, url = "judge", settings.judge_url
    if url is None:
        return ok(name, "no endpoint is configured")
    try:
        key = settings.judge_key_file.read_text().strip() if settings.judge_key_file else None
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        status = requests.get(f"{url}/models", headers=headers, timeout=ANSWER_S).status_code
    except OSError as error:  # of the key file, or of requests, whose errors are such
        return fault(
            name, f"{url}: {type(error).__name__}", "start the endpoint, or correct GYMNASTD_JUDGE_URL"
        )
    if status in REFUSALS:
        return fault(name, f"{url} refuses the key with status {status}", "correct GYMNASTD_JUDGE_KEY_FILE")
    if status >= 500:
        return fault(name, f"{url} answers with status {status}", "see to the endpoint")
    return ok(name, f"{url} answers")
