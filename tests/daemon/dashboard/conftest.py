"""Pages over the API's fixtures: a full database, and browsers that look at it."""

from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from storage import access_tokens
from tests.daemon.api.conftest import (
    blobs,
    claim_phase,
    client,
    database,
    finish_phase,
    settings,
    slow_machine,
    until,
)
from tests.daemon.dashboard.html import Page
from tests.daemon.dashboard.laboratory import fill

__all__ = ["blobs", "claim_phase", "client", "database", "finish_phase", "settings", "slow_machine", "until"]

HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def make_token(database):
    """Make a token; gives what a person would type in."""

    def one(*scopes, name="ann"):
        with database.write() as session:
            made = access_tokens.create(session, name, scopes=scopes, expires_at=None, now=datetime.now(UTC))
        return made[1]

    return one


class Browser:
    """Somebody at a browser: it asks for pages, keeps cookies, and sends the forms that it was shown."""

    def __init__(self, app):
        self.client = TestClient(app, headers=HTML, follow_redirects=False, raise_server_exceptions=False)

    def get(self, path, **params):
        return self.client.get(path, params=params)

    def page(self, path, **params) -> Page:
        answer = self.get(path, **params)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])
        return Page(answer.text)

    def post(self, path, *, seen="/", **fields):
        """Send a form of the page `seen`, with the word that stands in it."""
        word = Page(self.get(seen).text).value_of("word")
        return self.client.post(path, data={"word": word, **fields})

    def log_in(self, token, **fields):
        return self.post("/login", seen="/login", token=token, **fields)


@pytest.fixture
def browser(client):
    return Browser(client.app)


@pytest.fixture
def logged_in(client, make_token):
    """A browser whose session has these scopes."""

    def one(*scopes, name="ann"):
        found = Browser(client.app)
        assert found.log_in(make_token(*scopes, name=name)).status_code == 303
        return found

    return one


@pytest.fixture
def laboratory(client, finish_phase, database, blobs, settings):
    """Two finished iterations with hostile names; gives their checkpoints."""
    return fill(client, finish_phase, database, blobs, settings.data_dir)
