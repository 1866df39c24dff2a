"""Access tokens over REST: shown once, never more than their maker's; not for the first and the last."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.api.callers import ANYBODY, Caller
from daemon.api.errors import Forbidden, MakerUnknown, Unauthorized
from daemon.api.tokens import require_may_make
from storage import access_tokens, audit
from storage.access_tokens import SCOPES


@pytest.fixture
def make(database):
    """Make a token beside the API; gives its id and the header that shows it."""

    def one(*scopes, name="ann"):
        now = datetime.now(UTC)
        with database.write() as session:
            row, token = access_tokens.create(session, name, scopes=scopes, expires_at=None, now=now)
        return row.id, {"Authorization": f"Bearer {token}"}

    return one


@pytest.fixture
def admin(make):
    return make("admin")[1]


def acts(database):
    with database.read() as session:
        return [(event.actor, event.action, event.subject) for event in audit.read(session)]


def wish(name="bob", *scopes, **fields):
    return {"name": name, "scopes": scopes or ["read"], **fields}


def test_a_token_that_was_made_is_shown_once_and_opens_what_it_may(client, admin, database):
    answer = client.post("/v1/tokens", json=wish("bob", "label"), headers=admin)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert (made["name"], made["scopes"], made["state"]) == ("bob", ["label"], "in force")
    bob = {"Authorization": f"Bearer {made['token']}"}
    assert client.get("/v1/iterations", headers=bob).status_code == 200
    assert client.post("/v1/iterations", json={}, headers=bob).status_code == 403
    listed = client.get("/v1/tokens", headers=admin)
    assert [(token["name"], token["id"]) for token in listed.json()["items"]][1] == ("bob", made["id"])
    assert made["token"][21:] not in listed.text
    assert "secret" not in listed.text
    assert acts(database) == [("ann", "token_created", "access token bob")]


def test_a_token_ends_when_it_was_to_end_and_tells_so(client, admin):
    ends = datetime.now(UTC) + timedelta(days=1)
    made = client.post("/v1/tokens", json=wish(expires_at=ends.isoformat()), headers=admin).json()
    assert datetime.fromisoformat(made["expires_at"]) == ends
    assert made["state"] == f"in force until {ends:%Y-%m-%d %H:%M} UTC"


def test_a_revoked_token_is_refused_and_its_row_stays(client, admin, make, database):
    _, bob = make("read", name="bob")
    answer = client.delete("/v1/tokens/bob", headers=admin)
    assert (answer.status_code, answer.text) == (204, "")
    assert client.get("/v1/iterations", headers=bob).status_code == 401
    told = client.get("/v1/tokens", headers=admin).json()["items"]
    assert [token["revoked_at"] is None for token in told] == [True, False]
    assert told[1]["state"].startswith("revoked ")
    assert acts(database) == [("ann", "token_revoked", "access token bob")]
    assert client.delete("/v1/tokens/bob", headers=admin).status_code == 404


@pytest.mark.parametrize("scope", ["read", "operate", "label"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/tokens"), ("POST", "/v1/tokens"), ("DELETE", "/v1/tokens/ann")]
)
def test_tokens_are_for_the_scope_admin(client, make, database, scope, method, path):
    _, headers = make(scope)
    answer = client.request(method, path, json=wish(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert acts(database) == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (wish("ann"), 409, "access_token_exists"),
        (wish("an apple"), 422, "access_token_invalid"),
        (wish("n" * 101), 422, "request_invalid"),
        (wish("bob", "fly"), 422, "request_invalid"),
        ({"name": "bob", "scopes": []}, 422, "request_invalid"),
        (wish(expires_at="2020-01-01T00:00:00Z"), 422, "access_token_invalid"),
        (wish(expires_at="2999-01-01T00:00:00"), 422, "request_invalid"),
        (wish(secret="mine"), 422, "request_invalid"),
    ],
)
def test_what_is_no_token_is_refused_and_nothing_is_made(client, admin, database, body, status, code):
    answer = client.post("/v1/tokens", json=body, headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert acts(database) == []


def test_the_first_token_is_made_on_the_daemons_machine(client, database):
    answer = client.post("/v1/tokens", json=wish("mallory", "admin"))
    assert (answer.status_code, answer.json()["code"]) == (403, "maker_unknown")
    assert "gymnastd token create" in answer.json()["detail"]
    assert acts(database) == []


def test_the_last_token_is_revoked_on_the_daemons_machine(client, admin, database):
    answer = client.delete("/v1/tokens/ann", headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (409, "last_token")
    assert client.get("/v1/tokens", headers=admin).status_code == 200
    assert acts(database) == []


@pytest.mark.parametrize("held", SCOPES)
@pytest.mark.parametrize("wanted", SCOPES)
def test_nobody_gives_a_scope_that_they_have_not_got(client, make, held, wanted):
    token_id, _ = make(held)
    claimed = Caller(name="ann", scopes=frozenset(SCOPES), token_id=token_id)  # what the row says counts
    services, scopes = client.app.state.services, access_tokens.allowed([held])
    if wanted in scopes:
        require_may_make(services, claimed, scopes=[wanted])
        return
    with pytest.raises(Forbidden, match=f"needs the scope {wanted}, token ann has"):
        require_may_make(services, claimed, scopes=[wanted, held])


def test_a_maker_whose_token_was_revoked_a_moment_ago_makes_none(client, make, database):
    token_id, _ = make("admin")
    maker = Caller(name="ann", scopes=frozenset(SCOPES), token_id=token_id)
    with database.write() as session:
        access_tokens.revoke(session, "ann", now=datetime.now(UTC))
    with pytest.raises(Unauthorized):
        require_may_make(client.app.state.services, maker, scopes=["read"])
    with pytest.raises(MakerUnknown):
        require_may_make(client.app.state.services, ANYBODY, scopes=["read"])
