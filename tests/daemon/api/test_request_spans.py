"""What the span of a request says: method, route and status, and nothing that stands in an address."""

import pytest

from robot_bridge.spans import trace_id
from tests.traces import traced

TOKEN = "gmd_0123456789abcdef_" + "s" * 43


def test_a_request_is_a_span_by_its_route(client):
    client.post("/v1/iterations", json={})
    with traced() as seen:
        assert client.get("/v1/iterations/1?token=hunter22").status_code == 200
    told = seen.named("GET /v1/iterations/{number}")
    assert dict(told.attributes) == {
        "http.request.method": "GET",
        "http.route": "/v1/iterations/{number}",
        "http.response.status_code": 200,
    }
    assert told.kind.name == "SERVER"
    assert told.status.is_unset
    assert "hunter22" not in seen.text()


@pytest.mark.parametrize("path", ["/v1/iterations/77", f"/nowhere/{TOKEN}"])
def test_what_is_refused_is_no_fault_of_ours_and_no_path_is_told(client, path):
    with traced() as seen:
        answer = client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code in {401, 404}
    (told,) = [one for one in seen.spans if one.kind.name == "SERVER"]
    assert told.status.is_unset
    assert "sss" not in seen.text()
    assert "/nowhere" not in seen.text()


def test_a_fault_of_ours_is_marked(client, monkeypatch):
    monkeypatch.setattr("daemon.api.iterations.iterations.list_iterations", lambda *_, **__: 1 / 0)
    with traced() as seen:
        assert client.get("/v1/iterations").status_code == 500
    assert not seen.named("GET /v1/iterations").status.is_ok


def test_what_is_logged_for_a_request_can_be_found_by_its_trace(client, monkeypatch):
    found = []

    def listed(*_, **__):
        found.append(trace_id())
        return [], None

    monkeypatch.setattr("daemon.api.iterations.iterations.list_iterations", listed)
    with traced() as seen:
        client.get("/v1/iterations")
    assert found == [f"{seen.named('GET /v1/iterations').context.trace_id:032x}"]
