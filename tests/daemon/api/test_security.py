"""Who may call what: every route has a scope, every token its own routes, and nothing else is let in."""

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient

from daemon.api.callers import ANYBODY, REMEMBERED_S, Callers
from daemon.api.doors import FAILURES_BURST, Doors
from daemon.api.problems import STATUS, install_problems
from daemon.api.security import OPEN_PATHS, Actor, Needs, guard, guarded, needs, scope_of
from daemon.app import create_app
from daemon.settings import Settings
from storage import access_tokens, audit
from storage.access_tokens import IMPLIED, SCOPES

OTHERS_REACH_IT = "192.0.2.7"


def routes():
    """Everything that the application answers."""
    return list(iter_route_contexts(create_app(Settings()).routes))


ROUTES = routes()
CALLS = [
    (method, route.path, scope_of(method, route.original_route.dependencies))
    for route in ROUTES
    if route.path not in OPEN_PATHS
    for method in sorted(route.methods)
]


def filled(path):
    """A path whose parameters name nothing that is there."""
    for name, value in (("number", "999"), ("task", "t"), ("origin", "real")):
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{", "").replace("}", "")


@pytest.fixture
def make(database):
    """Make a token; gives the header that shows it."""

    def one(*scopes, name="ann", expires_at=None):
        now = datetime.now(UTC)
        with database.write() as session:
            made = access_tokens.create(session, name, scopes=scopes, expires_at=expires_at, now=now)
        return {"Authorization": f"Bearer {made[1]}"}

    return one


def test_every_route_stands_behind_the_guard_or_on_the_short_list():
    """A new route without it fails here: include its router with `guarded()`."""
    unguarded = {
        route.path
        for route in ROUTES
        if not isinstance(route.original_route, APIRoute)
        or all(each.call is not guard for each in route.dependant.dependencies)
    }
    assert unguarded == OPEN_PATHS


def test_the_walk_over_the_routes_would_notice_one_without_guard():
    app, router = FastAPI(), APIRouter()
    router.get("/v1/new")(lambda: None)
    app.include_router(router)
    (found,) = [route for route in iter_route_contexts(app.routes) if route.path == "/v1/new"]
    assert all(each.call is not guard for each in found.dependant.dependencies)
    assert len(CALLS) >= 8


def test_every_route_has_one_of_the_scopes():
    assert {scope for _, _, scope in CALLS} <= set(SCOPES)
    assert ("POST", "/v1/iterations", "operate") in CALLS
    assert ("GET", "/v1/success-rates", "read") in CALLS


@pytest.mark.parametrize(
    ("method", "said", "scope"),
    [
        ("GET", [], "read"),
        ("HEAD", [], "read"),
        ("POST", [], "operate"),
        ("PATCH", [], "operate"),
        ("DELETE", [], "operate"),
        ("PURGE", [], "operate"),
        ("POST", ["label"], "label"),
        ("GET", ["admin"], "admin"),
        ("POST", ["operate", "read"], "read"),
    ],
)
def test_a_routes_scope_is_what_it_says_and_else_follows_from_its_method(method, said, scope):
    assert scope_of(method, [needs(one) for one in said]) == scope
    assert Needs("read")() is None


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_opens_the_routes_of_its_scope_and_no_other(client, make, scope):
    headers, opened = make(scope), {scope, *IMPLIED.get(scope, set())}
    client.app.state.services.feed.close()  # a stream ends as soon as it has begun
    for method, path, needed in CALLS:
        answer = client.request(method, filled(path), headers=headers, content=b"{}")
        if needed in opened:
            assert answer.status_code not in {401, 403, 429}, (method, path)
            assert answer.status_code < 500, (method, path)
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (method, path)
            assert f"needs the scope {needed}, token ann has" in answer.json()["detail"]


def test_without_a_token_no_route_answers_as_soon_as_there_is_one(client, make):
    make("read")
    for number, (method, path, _) in enumerate(CALLS):
        stranger = TestClient(client.app, client=(f"192.0.2.{number}", 50000))  # else it would have to wait
        answer = stranger.request(method, filled(path), content=b"{")
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), (method, path)
        assert answer.headers["www-authenticate"] == 'Bearer realm="gymnastd"'
        assert answer.headers["content-type"] == "application/problem+json"


def test_what_does_not_exist_is_not_told_to_strangers(client, make):
    headers = make("read")
    assert client.get("/v1/nowhere").status_code == 401
    assert client.get("/v1/nowhere", headers=headers).status_code == 404


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_health_and_the_documentation_are_open(client, make, path):
    make("admin")
    assert client.get(path).status_code in {200, 503}


def test_without_tokens_this_machine_is_open(client):
    assert client.get("/v1/iterations").status_code == 200
    assert client.post("/v1/iterations", json={}).status_code == 201
    wrong = {"Authorization": "Bearer left over"}
    assert client.get("/v1/iterations", headers=wrong).status_code == 200


def test_doors_that_others_can_reach_are_never_open(tmp_path, sqlite_url):
    pem = tmp_path / "any.pem"
    settings = Settings(
        data_dir=tmp_path,
        database_url=sqlite_url,
        worker_count=0,
        host=OTHERS_REACH_IT,
        tls_cert_file=pem,
        tls_key_file=pem,
    )
    with TestClient(create_app(settings.model_copy(update={"host": "127.0.0.1"}))) as inside:
        now = datetime.now(UTC)
        database = inside.app.state.services.database
        with database.write() as session:
            access_tokens.create(session, "ann", scopes=["read"], expires_at=None, now=now)
    with TestClient(create_app(settings)) as outside:
        with outside.app.state.services.database.write() as session:
            access_tokens.revoke(session, "ann", now=now)
        assert outside.get("/v1/iterations").status_code == 401


def test_a_trusted_network_is_open_until_there_is_a_token(tmp_path, sqlite_url):
    settings = Settings(
        data_dir=tmp_path, database_url=sqlite_url, worker_count=0, host="0.0.0.0", trust_network=True  # noqa: S104
    )  # fmt: skip
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/iterations").status_code == 200
    with TestClient(create_app(settings)) as client:
        with client.app.state.services.database.write() as session:
            access_tokens.create(session, "ann", scopes=["read"], expires_at=None, now=datetime.now(UTC))
        assert client.get("/v1/iterations").status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x y",
        "Basic YW5uOnNlY3JldA==",
        "gmd_0123456789abcdef_" + "s" * 43,
        "Bearer gmd_0123456789abcdef_" + "s" * 43,
        b"Bearer \xff\xfe",
    ],
)
def test_what_is_no_token_in_force_is_refused(client, make, header):
    make("admin")
    answer = client.get("/v1/iterations", headers={} if header is None else {"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_two_tokens_in_one_call_are_none(client, make):
    shown = make("admin")["Authorization"]
    answer = client.get("/v1/iterations", headers=[("Authorization", shown), ("Authorization", shown)])
    assert answer.status_code == 401


def test_the_scheme_may_be_written_in_any_case(client, make):
    shown = make("read")["Authorization"].replace("Bearer", "bEARER")
    assert client.get("/v1/iterations", headers={"Authorization": shown}).status_code == 200


def test_expired_and_revoked_and_wrong_ones_are_refused(client, make, database):
    ended = make("admin", name="ended", expires_at=datetime.now(UTC) + timedelta(microseconds=50))
    revoked = make("admin", name="revoked")
    with database.write() as session:
        access_tokens.revoke(session, "revoked", now=datetime.now(UTC))
    good = make("admin", name="good")
    wrong = {"Authorization": good["Authorization"][:-1] + ("A" if good["Authorization"][-1] != "A" else "B")}
    answers = [
        client.get("/v1/iterations", headers=headers).status_code for headers in (ended, revoked, wrong, good)
    ]
    assert answers == [401, 401, 401, 200]


@pytest.fixture
def seconds():
    return [1000.0]


@pytest.fixture
def one_call(sqlite_database, seconds):
    """An application of one call behind doors whose seconds the test counts; 2 calls a second, 6 at once."""
    app = FastAPI()
    callers = Callers(sqlite_database, now=lambda: datetime.now(UTC), clock=lambda: seconds[0])
    app.state.services = SimpleNamespace(callers=callers)
    settings = Settings(rate_limit_per_s=2.0)
    app.add_middleware(Doors, settings=settings, clock=lambda: seconds[0])
    app.get("/v1/thing")(lambda: "thing")
    return TestClient(app)


@pytest.fixture
def two_tokens(sqlite_database):
    now, headers = datetime.now(UTC), []
    with sqlite_database.write() as session:
        for name in ("ann", "bob"):
            made = access_tokens.create(session, name, scopes=["read"], expires_at=None, now=now)
            headers.append({"Authorization": f"Bearer {made[1]}"})
    return headers


def test_who_shows_no_token_that_is_known_waits_and_others_do_not(one_call, two_tokens, seconds):
    ann, bob = two_tokens
    assert one_call.get("/v1/thing", headers=ann).status_code == 200
    codes = [one_call.get("/v1/thing").status_code for _ in range(FAILURES_BURST + 1)]
    assert codes == [401] * FAILURES_BURST + [429]
    refused = one_call.get("/v1/thing")
    assert (refused.json()["code"], refused.json()["retryable"]) == ("rate_limited", True)
    assert refused.headers["retry-after"] == "6"
    seconds[0] += REMEMBERED_S  # one that fitted before goes on, also when it has to be looked up again
    assert one_call.get("/v1/thing", headers=ann).status_code == 200
    assert one_call.get("/v1/thing", headers=bob).status_code == 429, "another might be a guess"
    seconds[0] += 6.0
    assert one_call.get("/v1/thing", headers=bob).status_code == 200


def test_every_token_has_a_rate_of_its_own(one_call, two_tokens, seconds):
    ann, bob = two_tokens
    codes = [one_call.get("/v1/thing", headers=ann).status_code for _ in range(7)]
    assert codes == [200] * 6 + [429]
    assert one_call.get("/v1/thing", headers=ann).headers["retry-after"] == "1"
    assert one_call.get("/v1/thing", headers=bob).status_code == 200
    seconds[0] += 0.5
    assert one_call.get("/v1/thing", headers=ann).status_code == 200


def test_on_this_machine_nobody_is_counted_who_was_not_asked_for_a_token(one_call):
    assert {one_call.get("/v1/thing").status_code for _ in range(20)} == {200}


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8400", 200),
        ("http://127.0.0.1:8400", 200),
        ("https://evil.example", 403),
        ("http://testserver", 403),
        ("http://localhost.evil.example", 403),
        ("null", 403),
        ("http://[::1]:8400", 200),
        ("http://[", 403),
    ],
)
def test_while_nobody_shows_a_token_no_strangers_page_acts_for_them(client, origin, status):
    answer = client.post("/v1/iterations", json={}, headers={"Origin": origin})
    assert answer.status_code == (201 if status == 200 else status)
    if status == 403:
        assert answer.json()["code"] == "web_page_refused"


def test_with_a_token_it_does_not_matter_which_page_called(client, make):
    headers = make("read") | {"Origin": "https://dashboard.example"}
    assert client.get("/v1/iterations", headers=headers).status_code == 200


def test_a_trusted_network_is_no_reason_to_believe_a_page(tmp_path, sqlite_url):
    settings = Settings(data_dir=tmp_path, database_url=sqlite_url, worker_count=0, trust_network=True)
    with TestClient(create_app(settings)) as client:
        answers = [
            client.post("/v1/iterations", json={}, headers={"Origin": origin}).status_code
            for origin in ("http://127.0.0.1:8400", "http://testserver")  # rebinding makes Host its own
        ]
    assert answers == [201, 403]


def test_the_audit_names_nobody_where_nobody_is_asked_for_a_token(client, database):
    client.post("/v1/iterations", json={})
    with database.read() as session:
        assert [event.actor for event in audit.read(session)] == ["rest"]


def test_the_audit_names_whose_token_asked(client, make, database):
    client.post("/v1/iterations", json={}, headers=make("operate", name="night-shift"))
    with database.read() as session:
        (event,) = audit.read(session)
    assert (event.actor, event.action) == ("night-shift", "iteration_requested")


def test_the_actor_is_known_to_any_route():
    app, router = FastAPI(), APIRouter()
    install_problems(app)

    @router.get("/who")
    def who(actor: Actor):
        return actor

    app.include_router(router, dependencies=guarded())

    @app.middleware("http")
    async def doors(request, call_next):
        request.state.caller = ANYBODY
        return await call_next(request)

    assert TestClient(app).get("/who").json() == "rest"


def test_without_doors_before_it_the_guard_lets_nobody_in():
    app, router = FastAPI(), APIRouter()
    router.get("/v1/thing")(lambda: "secret")
    app.include_router(router, dependencies=guarded())
    answer = TestClient(app, raise_server_exceptions=False).get("/v1/thing")
    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_a_strangers_body_is_not_read(client, make):
    make("read")
    answer = client.post("/v1/iterations", content=b"x" * 10_000_000)
    assert answer.status_code == 401, "not 413: nobody looked at its length"


def test_nothing_secret_is_logged_or_answered(client, make, caplog):
    caplog.set_level(logging.DEBUG)
    shown = make("read")["Authorization"]
    answers = [
        client.get("/v1/iterations", headers={"Authorization": shown}),
        client.post("/v1/iterations", json={}, headers={"Authorization": shown}),
        client.get("/v1/iterations", headers={"Authorization": shown + "x"}),
        client.get("/v1/iterations", headers={"Authorization": shown.replace("Bearer ", "Basic ")}),
    ]
    assert [answer.status_code for answer in answers] == [200, 403, 401, 401]
    for text in (caplog.text, *(answer.text for answer in answers)):
        assert shown[-43:] not in text
    assert "call refused code=unauthorized method=GET path='/v1/iterations' peer=testclient" in caplog.text


def test_the_documentation_says_that_a_token_is_sent(client):
    document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert document["paths"]["/v1/iterations"]["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in document["paths"]["/healthz"]["get"]


def test_no_field_of_the_api_takes_an_address_that_the_daemon_would_then_call(client):
    """Addresses come from the settings of whoever owns the machine. One that came over the API would need
    a guard against addresses inside the network; there is none, so there must be no such field."""
    document = client.get("/openapi.json").json()
    named = request_fields(document)
    assert {"seed", "episodes_per_task"} <= named
    addresses = {"url", "uri", "endpoint", "address", "host", "webhook", "callback"}
    assert {name for name in named if set(name.lower().split("_")) & addresses} == set()


def request_fields(document):
    """The names of all parameters, and of all fields of bodies, however deep."""
    calls = [call for path in document["paths"].values() for call in path.values()]
    names = {parameter["name"] for call in calls for parameter in call.get("parameters", ())}
    open_nodes, seen = [call.get("requestBody") for call in calls], set()
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, list):
            open_nodes += node
        if not isinstance(node, dict):
            continue
        reference = node.get("$ref")
        if reference and reference not in seen:
            seen.add(reference)
            open_nodes.append(document["components"]["schemas"][reference.rsplit("/", 1)[1]])
        names |= set(node.get("properties", ()))
        open_nodes += node.values()
    return names


def test_every_refusal_at_the_door_has_a_status():
    assert [STATUS[code] for code in ("unauthorized", "forbidden", "web_page_refused", "rate_limited")] == [
        401,
        403,
        403,
        429,
    ]


def test_nobody_has_called_too_often_to_stop_a_robot(sqlite_database, two_tokens):
    app = FastAPI()
    callers = Callers(sqlite_database, now=lambda: datetime.now(UTC), clock=lambda: 0.0)
    app.state.services = SimpleNamespace(callers=callers)
    app.add_middleware(Doors, settings=Settings(rate_limit_per_s=1.0), clock=lambda: 0.0)
    for path in ("/v1/thing", "/v1/estop"):
        app.get(path)(lambda: "done")
    client, (ann, _) = TestClient(app), two_tokens
    codes = [client.get("/v1/thing", headers=ann).status_code for _ in range(10)]
    assert codes[-1] == 429
    assert [client.get("/v1/estop", headers=ann).status_code for _ in range(10)] == [200] * 10
