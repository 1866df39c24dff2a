"""The OpenAPI document tells every refusal: which status a call can answer, as what, with an example."""

import json

import pytest
from fastapi.testclient import TestClient

from daemon.api.answers import OWN, Problem, examples
from daemon.api.problems import PROBLEM_TYPE, STATUS, problem_of
from daemon.app import create_app
from daemon.settings import Settings
from tests.daemon.api.conftest import require_told

DOCUMENT = create_app(Settings()).openapi()
CALLS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
STATUSES = {call: set(operation["responses"]) for call, operation in CALLS.items()}


def test_what_is_told_of_a_call_is_told_of_one_that_exists():
    assert OWN.keys() <= CALLS.keys()


def test_every_status_that_is_told_has_a_problem_with_an_example_of_it():
    answers = DOCUMENT["components"]["responses"]
    told = {status for statuses in STATUSES.values() for status in statuses if status >= "4"}
    assert {f"Problem{status}" for status in told} == set(answers)
    for status in told:
        ((media, content),) = answers[f"Problem{status}"]["content"].items()
        assert media == PROBLEM_TYPE
        assert content["example"]["status"] == int(status)
        assert STATUS[content["example"]["code"]] == int(status)
        Problem.model_validate(content["example"])


@pytest.mark.parametrize("error", examples(), ids=lambda error: error.code)
def test_a_real_refusal_has_no_member_that_is_not_told(error):
    document = json.loads(bytes(problem_of(error).body))
    assert set(document) <= set(DOCUMENT["components"]["schemas"]["Problem"]["properties"])


@pytest.mark.parametrize(
    ("call", "statuses"),
    [
        ("GET /healthz", {"200", "429"}),
        ("GET /readyz", {"200", "429", "503"}),
        ("GET /v1/events", {"200", "401", "403", "422", "429", "503"}),
        ("POST /v1/iterations", {"200", "201", "401", "403", "409", "413", "422", "429", "503"}),
        (
            "PATCH /v1/schedules/{schedule_id}",
            {"200", "401", "403", "404", "409", "412", "413", "422", "428", "429", "503"},
        ),
        ("POST /v1/estop", {"200", "401", "403", "413", "422", "424", "429", "503"}),
        ("DELETE /v1/tokens/{name}", {"204", "401", "403", "404", "409", "413", "422", "429", "503"}),
    ],
)
def test_a_call_tells_what_its_kind_and_its_work_can_lead_to(call, statuses):
    assert STATUSES[call] == statuses


def test_what_is_found_again_is_told_as_what_is_made():
    for call, operation in CALLS.items():
        whole = {status: answer for status, answer in operation["responses"].items() if status != "206"}
        made = [answer for status, answer in whole.items() if status.startswith("2")]
        assert all(answer.get("content") == made[0].get("content") for answer in made), call
        assert (len(made) == 2) == (200 in OWN.get(call, ())), call


def test_the_frameworks_own_words_for_a_refusal_are_told_nowhere():
    assert "HTTPValidationError" not in json.dumps(DOCUMENT)
    assert "#/components/schemas/ValidationError" not in json.dumps(DOCUMENT)


def test_a_test_of_the_api_fails_at_a_status_that_is_not_told(client):
    silent = {"paths": {"/v1/iterations/{number}": {"get": {"responses": {"200": {}}}}}}
    answer = TestClient(client.app).get("/v1/iterations/7")
    require_told(DOCUMENT, answer)
    with pytest.raises(AssertionError, match=r"get .* 404"):
        require_told(silent, answer)


def test_a_body_that_is_no_text_is_refused_as_what_it_is(client):
    answer = client.post("/v1/iterations", content=b"\xff", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert "body" in answer.json()["faults"]
