"""Clients of the stations that the settings name, with their token and certificates."""

from daemon.settings import Settings
from robot_bridge.client import StationClient
from robot_bridge.transport import Retries


def station_client(settings: Settings, address: str, *, tries: int | None = None) -> StationClient:
    """A client of one station; with `tries` it does not wait for long.

    Raises:
        OSError: the token's file cannot be read.
        TokenUnprotected: the token would go over the network in clear.
    """
    token = settings.station_token_file.read_text().strip() if settings.station_token_file else None
    verify = str(settings.station_ca_file) if settings.station_ca_file else True
    retries = Retries() if tries is None else Retries(tries=tries)
    return StationClient(address, token=token, verify=verify, retries=retries)
