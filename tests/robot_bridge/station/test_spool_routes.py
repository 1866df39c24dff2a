"""Fetching what was recorded: pages, whole blobs and ranges of them; forgetting what is safe elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_bridge.episode import parse_manifest
from tests.robot_bridge.builders import forward
from tests.robot_bridge.station.wire import Wire, a_wire, problem


@pytest.fixture
def wire(tmp_path: Path):
    with a_wire(tmp_path / "spool") as wire:
        yield wire


@pytest.fixture(scope="module")
def spooled(tmp_path_factory: pytest.TempPathFactory):
    """One station with one finished episode, for looking at."""
    with a_wire(tmp_path_factory.mktemp("spooled") / "spool") as wire:
        wire.finished()
        yield wire


def blob_path(wire: Wire) -> str:
    manifest = parse_manifest(wire.http.get("/v1/episodes/e1").content)
    return f"/v1/episodes/e1/blobs/{manifest.blob_sha256('steps.npz')}"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=8-19", slice(8, 20)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-50", slice(-50, None)),
        ("bytes=0-999999999", slice(0, None)),
        ("bytes=-999999999", slice(0, None)),
    ],
)
def test_a_range_of_a_blob_is_exactly_that(spooled, wanted, part):
    path = blob_path(spooled)
    whole = spooled.http.get(path)
    assert (whole.status_code, whole.headers["accept-ranges"]) == (200, "bytes")
    answer = spooled.http.get(path, headers={"Range": wanted})
    assert answer.status_code == 206
    assert answer.content == whole.content[part]
    first = int(answer.headers["content-range"].split()[1].split("-")[0])
    assert answer.headers["content-range"].endswith(f"/{len(whole.content)}")
    assert whole.content[first : first + len(answer.content)] == answer.content


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=5-4",
        "bytes=999999999-",
        "bytes=-0",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-1,3-4",
        "items=0-1",
        "bytes=" + "9" * 5000 + "-",
        "",
        "bytes",
    ],
)
def test_a_range_that_is_none_is_refused(spooled, wanted):
    body = problem(spooled.http.get(blob_path(spooled), headers={"Range": wanted}))
    assert (body.status, body.code) == (422, "bad_request")


def test_pages_follow_each_other_until_all_was_seen(wire):
    wire.lease()
    for name in ("e1", "e2", "e3"):
        wire.create(episode_id=name)
        wire.post(f"/v1/episodes/{name}/steps", {"t": 0, "actions": forward()})
        wire.post(f"/v1/episodes/{name}/finish", {})
        wire.clock.advance(1.0)
    seen, cursor = [], None
    for _ in range(3):
        after = {} if cursor is None else {"after": cursor}
        page = wire.http.get("/v1/episodes", params={"limit": 1, **after}).json()
        seen += [episode["episode_id"] for episode in page["episodes"]]
        cursor = page["next_cursor"]
    assert seen == ["e1", "e2", "e3"]
    assert problem(wire.http.get("/v1/episodes?after=nonsense")).code == "bad_request"


def test_an_unknown_blob_of_a_known_episode_is_told_apart_from_an_unknown_episode(spooled):
    assert problem(spooled.http.get("/v1/episodes/e1/blobs/00")).code == "unknown_blob"
    assert problem(spooled.http.get("/v1/episodes/e2/blobs/00")).code == "unknown_episode"


def test_an_acknowledgement_with_another_digest_forgets_nothing(wire):
    wire.finished()
    refused = problem(wire.post("/v1/episodes/e1/ack", {"manifest_sha256": "0" * 64}))
    assert refused.code == "idempotency_mismatch"
    assert wire.http.get("/v1/episodes/e1").status_code == 200
