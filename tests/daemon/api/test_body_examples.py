"""Every body that can be sent has an example, and the call takes it."""

import jsonschema_rs
import pytest

from daemon.api.body_examples import BODIES
from daemon.app import create_app
from daemon.settings import Settings

DOCUMENT = create_app(Settings()).openapi()
SENT = {
    f"{method.upper()} {path}": operation["requestBody"]["content"]["application/json"]
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if "requestBody" in operation
}


def test_every_body_has_an_example_and_no_example_is_of_nothing():
    assert SENT.keys() == BODIES.keys()


@pytest.mark.parametrize("call", sorted(BODIES))
def test_an_example_stands_in_the_document_and_is_of_its_schema(call):
    assert SENT[call]["example"] == BODIES[call]
    schema = {**SENT[call]["schema"], "components": DOCUMENT["components"]}
    jsonschema_rs.validate(schema, BODIES[call])


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("POST /v1/iterations", 201),
        ("POST /v1/schedules", 201),
        ("PUT /v1/stations/{station_id}/hours", 200),
        ("POST /v1/start-images", 201),
        ("POST /v1/policies/{checkpoint_id}/promote", 404),
        ("POST /v1/episodes/{episode_id}/labels", 404),
        ("POST /v1/episodes/{episode_id}/notes", 404),
    ],
)
def test_sent_as_it_stands_it_is_understood(client, call, status):
    """404: the body was taken, and what the address names is not there."""
    method, path = call.split(" ")
    for name in ("station_id", "checkpoint_id", "episode_id"):
        path = path.replace(f"{{{name}}}", "nobody")
    assert client.request(method, path, json=BODIES[call]).status_code == status
