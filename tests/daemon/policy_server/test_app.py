"""Both ways of asking over HTTP: answers, refusals, hold actions, health; and nothing that is no request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from daemon.learning.policy.policy import Policy
from daemon.policy_server.app import MAX_BODY_BYTES, create_policy_app
from daemon.policy_server.sessions import PolicySessions
from robot_bridge.autoeval.wire import TEST_INSTRUCTION, encode_array
from robot_bridge.callback import PolicyActAnswer, PolicyReadyAnswer
from robot_bridge.episode import PolicyRef
from robot_bridge.protocol import PROBLEM_TYPE, Problem
from tests.daemon.policy_server.small_policies import OTHER_SENTENCE, SENTENCE, a_policy, asked, failing
from tests.daemon.policy_server.test_sessions import a_reset, an_act

REF = PolicyRef(name="nano", version="7", digest="sha256:" + "ab" * 32)
TOKEN = "the-word"  # noqa: S105


@pytest.fixture
def policy() -> Policy:
    return a_policy(chunk=2)


@pytest.fixture
def sessions(policy: Policy) -> PolicySessions:
    return PolicySessions(policy, REF)


@pytest.fixture
def client(sessions: PolicySessions) -> Iterator[TestClient]:
    with TestClient(create_policy_app(sessions)) as found:
        yield found


def a_body(number: int = 0, instruction: str = SENTENCE, **changes: Any) -> dict[str, Any]:
    body = {
        "image": encode_array(asked(number).image),
        "instruction": instruction,
        "proprio": encode_array(np.array([0.3, 0, 0.2, 0, 1.5, 0, 0, 0.39], np.float32)),
    }
    return {**body, **changes}


def the_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, PROBLEM_TYPE), answer.text
    assert Problem.model_validate_json(answer.content).code == code
    body: dict[str, Any] = answer.json()
    return body


def test_a_session_is_begun_and_decides_chunk_after_chunk(client: TestClient) -> None:
    ready = client.post("/v1/policy/reset", content=a_reset().model_dump_json())
    assert PolicyReadyAnswer.model_validate_json(ready.content) == PolicyReadyAnswer(
        session="s1", policy=REF, chunk=2
    )
    for t in (0, 2, 4):
        found = client.post("/v1/policy/act", content=an_act(t).model_dump_json())
        answer = PolicyActAnswer.model_validate_json(found.content)
        assert (answer.session, answer.t, len(answer.actions)) == ("s1", t, 2)
        assert found.headers["Server-Timing"].startswith(f"infer;dur={answer.infer_ms:.3f}, total;dur=")


def test_the_same_step_again_is_answered_the_same_without_thinking(client: TestClient) -> None:
    client.post("/v1/policy/reset", content=a_reset().model_dump_json())
    first, again = (client.post("/v1/policy/act", content=an_act(0).model_dump_json()) for _ in range(2))
    assert first.content == again.content
    assert again.headers["Server-Timing"].startswith("infer;dur=0.000")


def test_what_a_session_cannot_do_is_refused_with_its_code(client: TestClient) -> None:
    the_problem(client.post("/v1/policy/act", content=an_act(0).model_dump_json()), 409, "unknown_session")
    client.post("/v1/policy/reset", content=a_reset().model_dump_json())
    other = a_reset(seed=6).model_dump_json()
    the_problem(client.post("/v1/policy/reset", content=other), 422, "idempotency_mismatch")
    the_problem(client.post("/v1/policy/act", content=an_act(1).model_dump_json()), 422, "bad_request")
    bad = an_act(0, jpeg=b"ink").model_dump_json()
    the_problem(client.post("/v1/policy/act", content=bad), 422, "bad_observation")


def test_a_policy_that_fails_says_so_and_decides_the_same_step_later(
    client: TestClient, policy: Policy
) -> None:
    client.post("/v1/policy/reset", content=a_reset().model_dump_json())
    with failing(policy):
        answer = client.post("/v1/policy/act", content=an_act(0).model_dump_json())
        assert the_problem(answer, 503, "policy_failed")["retryable"]
    assert client.post("/v1/policy/act", content=an_act(0).model_dump_json()).status_code == 200


MALFORMED = {
    "nothing": b"",
    "half": b"{",
    "no object": b"[1]",
    "no text": b"\xff\xfe",
    "surrogate": b'{"\\ud800": 1}',
    "deep": b"[" * 100_000,
    "unknown": b'{"colour": "red"}',
    "nan": b'{"t": NaN}',
}


@pytest.mark.parametrize("path", ["/act", "/v1/policy/act", "/v1/policy/reset"])
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_request_is_told_as_such(client: TestClient, path: str, body: bytes) -> None:
    assert the_problem(client.post(path, content=body), 422, "bad_request")["detail"]


@pytest.mark.parametrize(
    "change",
    [
        {"t": -1},
        {"t": 1000},
        {"session": "../etc"},
        {"session": ""},
        {"surprise": 1},
        {"observation": None},
        {"t": "0x"},
    ],
    ids=str,
)
def test_a_command_with_one_wrong_field_is_refused_by_its_name(
    client: TestClient, change: dict[str, Any]
) -> None:
    body = {**an_act(0).model_dump(), **change}
    problem = the_problem(client.post("/v1/policy/act", json=body), 422, "bad_request")
    assert next(iter(change)) in problem["detail"]


@pytest.mark.parametrize("path", ["/act", "/v1/policy/act", "/v1/policy/reset", "/reset"])
def test_a_body_over_the_limit_is_not_read_into_anything(client: TestClient, path: str) -> None:
    the_problem(client.post(path, content=b" " * (MAX_BODY_BYTES + 1)), 413, "too_large")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/act", "POST"),
        ("DELETE", "/reset", "POST"),
        ("PUT", "/v1/policy/act", "POST"),
        ("PATCH", "/v1/policy/reset", "POST"),
        ("POST", "/health", "GET"),
    ],
)
def test_a_wrong_method_says_which_is_right(client: TestClient, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)
    the_problem(answer, 405, "unknown_call")
    assert answer.headers["Allow"] == allowed


def test_acting_gives_seven_numbers_as_a_list(client: TestClient) -> None:
    answer = client.post("/act", json=a_body())
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    action = answer.json()
    assert [type(number) for number in action] == [float] * 7


def test_an_encoded_question_gets_an_encoded_answer(client: TestClient) -> None:
    plain = client.post("/act", json=a_body()).json()
    client.post("/reset")
    encoded = client.post("/act", json={"encoded": json.dumps(a_body())}).json()
    assert isinstance(encoded, str)
    assert json.loads(encoded) == plain


@pytest.mark.parametrize("missing", [["proprio"], ["proprio", "unnorm_key"]])
def test_openvlas_clients_send_no_proprio_and_a_key_that_nobody_needs(
    client: TestClient, missing: list[str]
) -> None:
    with_all = client.post("/act", json=a_body()).json()
    client.post("/reset")
    body = a_body(unnorm_key="bridge_orig")
    for name in missing:
        body.pop(name)
    assert client.post("/act", json=body).json() == with_all


def test_chunks_are_executed_as_the_session_decided_them(client: TestClient) -> None:
    acted = [client.post("/act", json=a_body(number)).json() for number in range(4)]
    thought = [client.post("/act", json=a_body(4 + n)).headers["Server-Timing"] for n in range(2)]
    assert [timing.startswith("infer;dur=0.000") for timing in thought] == [False, True]
    client.post("/reset")
    assert [client.post("/act", json=a_body(number)).json() for number in range(4)] == acted


def test_another_instruction_without_a_reset_is_a_conflict(client: TestClient) -> None:
    client.post("/act", json=a_body())
    problem = the_problem(client.post("/act", json=a_body(1, OTHER_SENTENCE)), 409, "instruction_changed")
    assert "action" not in problem
    assert client.post("/reset").json() == {"status": "reset"}
    assert client.post("/act", json=a_body(1, OTHER_SENTENCE)).status_code == 200


def test_a_failure_holds_with_503_and_is_never_a_success_with_garbage(
    client: TestClient, policy: Policy
) -> None:
    before = [client.post("/act", json=a_body(number)).json() for number in range(2)]
    with failing(policy):
        for _ in range(3):
            problem = the_problem(client.post("/act", json=a_body(2)), 503, "policy_failed")
            assert problem["action"] == [0.0] * 6 + [before[-1][-1]]
    assert client.post("/act", json=a_body(2)).status_code == 200


def test_a_picture_of_another_shape_is_refused(client: TestClient) -> None:
    small = encode_array(np.zeros((64, 64, 3), np.uint8))
    the_problem(client.post("/act", json=a_body(image=small)), 422, "bad_observation")


def test_the_connection_test_gets_seven_numbers_and_begins_nothing(
    client: TestClient, sessions: PolicySessions
) -> None:
    blank = a_body(
        image=encode_array(np.zeros((256, 256, 3), np.uint8)),
        proprio=encode_array(np.zeros(8)),
        instruction=TEST_INSTRUCTION,
    )
    assert client.post("/act", json=blank).json() == [0.0] * 6 + [1.0]
    assert sessions.count == 0


def test_health_names_the_policy_and_what_calls_cost(client: TestClient, sessions: PolicySessions) -> None:
    before = client.get("/health").json()
    assert (before["status"], before["policy"], before["calls"]) == ("healthy", REF.model_dump(), 0)
    assert before["overhead_ms"] == {"p50": None, "p99": None}
    for number in range(3):
        client.post("/act", json=a_body(number))
    after = client.get("/health").json()
    assert (after["calls"], after["sessions"], after["temperature"]) == (3, 1, 0.0)
    assert 0 < after["infer_ms"]["p50"] <= after["infer_ms"]["p99"]
    assert 0 < after["overhead_ms"]["p50"] <= after["overhead_ms"]["p99"]
    sessions.swap(a_policy(seed=1), PolicyRef(name="newer"))
    assert client.get("/health").json()["policy"]["name"] == "newer"


@pytest.mark.parametrize("path", ["/v1/policy/reset", "/v1/policy/act", "/act", "/reset", "/openapi.json"])
@pytest.mark.parametrize("sent", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer "])
def test_with_a_token_strangers_get_nothing_but_health(
    sessions: PolicySessions, path: str, sent: str | None
) -> None:
    client = TestClient(create_policy_app(sessions, token=TOKEN))
    headers = {} if sent is None else {"Authorization": sent}
    answer = client.post(path, content=b"x" * (MAX_BODY_BYTES + 1), headers=headers)
    problem = the_problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert TOKEN not in json.dumps(problem)
    assert client.get("/health").status_code == 200


def test_with_its_token_a_caller_is_served(sessions: PolicySessions) -> None:
    client = TestClient(
        create_policy_app(sessions, token=TOKEN), headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert client.post("/act", json=a_body()).status_code == 200


def test_a_call_that_is_none_is_a_problem_too(client: TestClient) -> None:
    the_problem(client.get("/nope"), 404, "unknown_call")


def test_the_openapi_says_all_calls_their_bodies_and_their_refusals(sessions: PolicySessions) -> None:
    api = TestClient(create_policy_app(sessions)).get("/openapi.json").json()
    assert set(api["paths"]) == {"/v1/policy/reset", "/v1/policy/act", "/act", "/reset", "/health"}
    for path, calls in api["paths"].items():
        for method, call in calls.items():
            described = call["responses"]["200"]["content"]["application/json"]["schema"]
            assert described, (path, method)
    for path in ("/v1/policy/reset", "/v1/policy/act", "/act"):
        call = api["paths"][path]["post"]
        assert call["requestBody"]["required"]
        assert {"401", "413", "422"} <= set(call["responses"])
    held = api["paths"]["/act"]["post"]["responses"]["503"]["content"][PROBLEM_TYPE]["schema"]
    assert held["properties"]["action"]["maxItems"] == 7
    assert "$ref" not in json.dumps([api["paths"][path] for path in ("/act", "/v1/policy/act")])


def test_the_openapi_says_that_a_token_is_needed_where_one_is(sessions: PolicySessions) -> None:
    app = create_policy_app(sessions, token=TOKEN)
    api = TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}).get("/openapi.json").json()
    assert api["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert "security" in api["paths"]["/act"]["post"]
    assert "security" not in api["paths"]["/health"]["get"]
