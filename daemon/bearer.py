"""The token of a REST client: put into a header of every call to one address, and nowhere else."""

import re
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from daemon.errors import TokenUnusable
from robot_bridge.addresses import is_loopback

TOKEN = re.compile(r"[0-9A-Za-z._~+/=-]+")  # what a header can carry (RFC 6750, section 2.1)


class Bearer(AuthBase):
    """Puts a token into a call; an own class, because requests would take a `.netrc` for stronger."""

    def __init__(self, url: str, token: str) -> None:
        address = urlsplit(url)
        if address.scheme != "https" and not is_loopback(address.hostname or ""):
            raise TokenUnusable(url=url, reason="everybody on the way could read it")
        if not TOKEN.fullmatch(token):
            raise TokenUnusable(url=url, reason="it has characters that no token has")
        self._token = token

    def __call__(self, call: requests.PreparedRequest) -> requests.PreparedRequest:
        call.headers["Authorization"] = f"Bearer {self._token}"
        return call
