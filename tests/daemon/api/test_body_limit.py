import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from daemon.api.body_limit import BodyLimit

LIMIT = 1000


@pytest.fixture
def client():
    app = FastAPI()
    app.add_middleware(BodyLimit, limit_bytes=LIMIT)

    @app.post("/")
    async def measure(request: Request) -> int:
        return len(await request.body())

    @app.get("/")
    def read() -> str:
        return "read"

    with TestClient(app) as client:
        yield client


def in_pieces(total: int, piece: int = 64):
    """A body of unknown length: the client declares none."""
    while total > 0:
        yield b"x" * min(piece, total)
        total -= piece


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_a_body_within_the_limit_arrives_whole(client, size):
    assert client.post("/", content=b"x" * size).json() == size


def test_a_body_one_byte_too_long_is_refused(client):
    answer = client.post("/", content=b"x" * (LIMIT + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert str(LIMIT) in answer.json()["detail"]


def test_a_body_of_undeclared_length_is_measured_not_believed(client):
    assert client.post("/", content=in_pieces(LIMIT)).json() == LIMIT
    assert client.post("/", content=in_pieces(LIMIT + 1)).status_code == 413


def test_requests_without_a_body_pass(client):
    assert client.get("/").json() == "read"


def test_the_connection_serves_again_after_a_refusal(client):
    client.post("/", content=b"x" * 5000)
    assert client.post("/", content=b"xy").json() == 2
