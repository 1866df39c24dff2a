"""Whatever is made from the REST API's own OpenAPI: nothing is done or told without its scope, no 500, and no
status that the document does not tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from requests import Request as Sendable
from schemathesis import GenerationMode

from daemon.api.security import OPEN_PATHS
from daemon.app import create_app
from daemon.settings import Settings
from storage import access_tokens, audit

EXAMPLES = 5  # per call, mode and caller
SCOPES = ("read", "operate", "label", "admin")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ADMINS = ("/v1/tokens", "/v1/audit")  # whatever is done there
LOOKS = {"GET"}  # what a token that cannot operate may do at most
QUICK = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Api:
    client: TestClient
    tokens: dict[str, str]

    def answer(self, case: schemathesis.Case, caller: str) -> tuple[int, str]:
        """Status and body of one call under the token of a scope, or under none."""
        try:
            made = Sendable(**case.as_transport_kwargs(base_url="http://testserver")).prepare()
            made.headers.pop("Authorization", None)
            if caller in self.tokens:
                made.headers["Authorization"] = f"Bearer {self.tokens[caller]}"
            answer = self.client.request(
                str(made.method), str(made.url), content=made.body or b"", headers=dict(made.headers)
            )
        except (ValueError, UnicodeError):  # no client could send it
            return 0, ""
        return answer.status_code, answer.text


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API with a token of each scope."""
    folder = tmp_path_factory.mktemp("api")
    ours = Settings(data_dir=folder, worker_count=0, rate_limit_per_s=1e6)
    with TestClient(create_app(ours), raise_server_exceptions=False) as client:
        client.app.state.services.feed.close()  # a stream ends as soon as it has begun
        now, tokens = datetime.now(UTC), {}
        with client.app.state.services.database.write() as session:
            for scope in SCOPES:
                made = access_tokens.create(session, scope, scopes=[scope], expires_at=None, now=now)
                tokens[scope] = made[1]
        for token in tokens.values():  # one that fitted before does not wait because of the stranger
            headers = {"Authorization": f"Bearer {token}"}
            assert client.get("/v1/iterations", headers=headers).status_code == 200
        yield Api(client, tokens)


def told(document: dict[str, Any], case: schemathesis.Case) -> set[int]:
    """The statuses that the document tells of such a call; another method than its own is 405."""
    operation = document["paths"][case.path].get(case.method.lower(), {"responses": {"405": {}}})
    return {int(status) for status in operation["responses"]}


def fitting(status: int, *, caller: str, case: schemathesis.Case) -> bool:
    """Whether a status is one that this caller may get for such a call."""
    if case.path in OPEN_PATHS:
        return status in {200, 405, 503}
    if caller == "stranger":
        return status in {401, 429}
    if case.path.startswith(ADMINS) and caller != "admin":
        return status in {403, 405, 422}  # a body that is no JSON is refused before the scope is looked at
    if caller == "admin" or case.method.upper() in LOOKS:
        return status < 500 and status not in {401, 403, 429}
    return status < 500 and status not in {401, 429}


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("caller", ["stranger", *SCOPES])
def test_every_call_is_answered_by_the_callers_scope_whatever_is_sent(
    api: Api, caller: str, mode: GenerationMode
) -> None:
    asked, document = [], api.client.app.openapi()

    def ask(case: schemathesis.Case) -> None:
        status, body = api.answer(case, caller)
        asked.append(status)
        assert status == 0 or fitting(status, caller=caller, case=case), (
            f"{case.method} {case.path} {status} {body[:300]}"
        )
        assert status == 0 or status in told(document, case), f"{case.method} {case.path} {status}"

    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        with suppress(Unsatisfiable):  # nothing of this call can be wrong
            QUICK(given(case=found.ok().as_strategy(generation_mode=mode))(ask))()
    assert sum(status != 0 for status in asked) > len(document["paths"])


def test_what_was_done_was_done_by_those_who_may(api: Api) -> None:
    for scope in SCOPES:
        headers = {"Authorization": f"Bearer {api.tokens[scope]}"}
        api.client.post("/v1/iterations", json={}, headers=headers)
    api.client.post("/v1/iterations", json={})
    with api.client.app.state.services.database.read() as session:
        actors = {event.actor for event in audit.read(session, limit=1000)}
    by_themselves = {actor for actor in actors if actor.startswith("schedule ")}  # what a call has set going
    assert actors - by_themselves == {"operate", "admin"}
