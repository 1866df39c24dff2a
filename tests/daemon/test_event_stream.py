"""The client's side of the stream: pieces out of lines, and coming back without loss."""

import pytest
import requests

from daemon.client import DaemonClient
from daemon.errors import DaemonRefused, DaemonUnreachable
from daemon.event_stream import TRIES, Told, follow_events, read_events
from daemon.settings import Settings
from storage import events
from tests.daemon.serving import serving


def test_pieces_are_read_from_lines_comments_and_torn_ends_left_out():
    lines = b"""retry: 2000

id: 3
event: disk_low
data: {"id": 3}

: nothing new

event: progress
data: {"progress": 0.5}

id: 4
event: disk_ok
data: {"i""".splitlines()
    assert list(read_events(lines)) == [
        Told(position=3, kind="disk_low", document={"id": 3}),
        Told(position=None, kind="progress", document={"progress": 0.5}),
    ]


class Flaky(DaemonClient):
    """A client whose every answer breaks off after some pieces."""

    def __init__(self, turns):
        super().__init__()
        self.turns, self.asked = list(turns), []

    def open_events(self, **filters):
        self.asked.append(filters["after"])
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return Broken(turn)


class Broken(requests.Response):
    def __init__(self, positions):
        super().__init__()
        self.positions = positions

    def iter_lines(self, **_):
        for position in self.positions:
            yield from (f"id: {position}".encode(), b"event: k", b"data: {}", b"")
        raise requests.exceptions.ChunkedEncodingError

    def close(self):
        """Nothing was opened."""


def refused(status):
    return DaemonRefused(url="u", status=status, problem={"code": "streams_full", "detail": "full"})


def taken(client, count, **options):
    pauses = []
    stream = follow_events(client, pause=pauses.append, **options)
    return [next(stream).position for _ in range(count)], pauses


def test_a_broken_stream_is_gone_on_with_behind_its_last_event():
    client = Flaky([[5, 6], [], DaemonUnreachable(url="u", reason="gone"), refused(503), [7, 8]])
    positions, pauses = taken(client, 4, after=4)
    assert positions == [5, 6, 7, 8]
    assert client.asked == [4, 6, 6, 6, 6]
    assert len(pauses) == 4


def test_a_refusal_is_not_asked_again():
    with pytest.raises(DaemonRefused):
        taken(Flaky([refused(422)]), 1)


def test_a_daemon_that_is_gone_is_given_up_after_a_while():
    client = Flaky([DaemonUnreachable(url="u", reason="gone")] * TRIES)
    with pytest.raises(DaemonUnreachable):
        taken(client, 1)
    assert len(client.asked) == TRIES


def test_nobody_at_the_address_is_unreachable_and_not_a_trace():
    with pytest.raises(DaemonUnreachable):
        DaemonClient("http://127.0.0.1:9").open_events()


def test_a_real_daemon_is_followed(tmp_path, sqlite_url, now):
    with serving(Settings(data_dir=tmp_path, database_url=sqlite_url, worker_count=0)) as served:
        with served.services.database.write() as session:
            for kind in ("disk_low", "other", "disk_ok"):
                events.note(session, kind, at=now)
        stream = follow_events(DaemonClient(served.url), after=0, kinds=["disk_low", "disk_ok"])
        assert [next(stream).kind for _ in range(2)] == ["disk_low", "disk_ok"]
        stream.close()
        with pytest.raises(DaemonRefused):
            next(follow_events(DaemonClient(served.url), after="nowhere"))
