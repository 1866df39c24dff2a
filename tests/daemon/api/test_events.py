"""Events over REST: pages, and live streams that lose nothing and double nothing over reconnects."""

import json
import socket
import threading
import time

import pytest
import requests

from daemon.api.events import EventStream
from daemon.events import feed as feed_module
from daemon.events.errors import StreamsFull
from daemon.events.feed import MOST_STREAMS, Feed, frame, stream
from daemon.settings import Settings
from storage import events, iterations, phase_runs
from tests.daemon.serving import serving
from tests.waiting import until

URL = "/v1/events"


def note(database, now, *kinds, **facts):
    with database.write() as session:
        for kind in kinds:
            events.note(session, kind, at=now, facts=facts)


@pytest.fixture
def served(tmp_path, sqlite_url):
    with serving(Settings(data_dir=tmp_path, database_url=sqlite_url, worker_count=0)) as served:
        yield served


class Reader:
    """Reads a stream in a thread; `seen` are (id, event name, document)."""

    def __init__(self, url, *, last=None, **params):
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        self.answer = requests.get(url, params=params, headers=headers, stream=True, timeout=30)
        self.seen, self.lines, self.ended = [], [], threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        fields = {}
        try:
            for line in self.answer.iter_lines(chunk_size=1, decode_unicode=True):
                self.lines.append(line)
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                elif "data" in fields:
                    place = int(fields["id"]) if "id" in fields else None
                    self.seen.append((place, fields["event"], json.loads(fields["data"])))
                    fields = {}
                else:
                    fields = {}
        except (requests.RequestException, AttributeError, OSError):
            pass  # the connection was cut, by the test or by the server
        self.ended.set()

    def stored(self):
        return [name for place, name, _ in self.seen if place is not None]

    def close(self):
        """Cut the connection as a network does."""
        if not self.ended.is_set():
            self.answer.raw._fp.fp.raw._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self.answer.close()


def test_what_happened_is_told_newest_first_in_pages(client, database, now):
    note(database, now, "one", "two", "three", free_gb=1)
    page = client.get(URL, params={"limit": 2}).json()
    assert [item["kind"] for item in page["items"]] == ["three", "two"]
    rest = client.get(URL, params={"cursor": page["next_cursor"]}).json()
    assert [item["kind"] for item in rest["items"]] == ["one"]
    assert rest["next_cursor"] is None
    assert rest["items"][0]["facts"] == {"free_gb": 1}


def test_a_request_for_an_iteration_is_an_event_of_it(client):
    client.post("/v1/iterations", json={})
    items = client.get(URL, params={"iteration": 1, "kind": "iteration_requested"}).json()["items"]
    assert [(item["text"], item["iteration"]) for item in items] == [("iteration 1 was asked for", 1)]


def test_events_can_be_asked_for_by_several_kinds(client, database, now):
    note(database, now, "one", "two", "three")
    items = client.get(URL, params={"kind": ["one", "three"]}).json()["items"]
    assert [item["kind"] for item in items] == ["three", "one"]


@pytest.mark.parametrize(
    ("path", "params", "headers", "code"),
    [
        (URL, {"cursor": "x"}, {}, "cursor_invalid"),
        (URL, {"kind": ["k"] * 51}, {}, "request_invalid"),
        (f"{URL}/stream", {"after": "x"}, {}, "cursor_invalid"),
        (f"{URL}/stream", {}, {"Last-Event-ID": "-1"}, "cursor_invalid"),
        (f"{URL}/stream", {}, {"Last-Event-ID": "9" * 19}, "request_invalid"),
    ],
)
def test_what_no_list_made_is_refused(client, path, params, headers, code):
    answer = client.get(path, params=params, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_reader_is_told_of_what_happens_while_it_listens_with_its_position(served, now):
    note(served.services.database, now, "before")
    reader = Reader(served.url + URL + "/stream")
    assert reader.answer.headers["content-type"].startswith("text/event-stream")
    assert reader.answer.headers["cache-control"] == "no-store"
    note(served.services.database, now, "after", reason="a line\nand another")
    until(reader.stored, "the event")
    assert reader.stored() == ["after"]
    place, _, document = reader.seen[0]
    assert document["id"] == place
    assert document["facts"] == {"reason": "a line\nand another"}
    reader.close()


def test_reconnects_lose_nothing_and_double_nothing(served, now):
    database = served.services.database
    total = 60

    def write():
        for turn in range(total):
            note(database, now, f"kind_{turn}")

    writer = threading.Thread(target=write)
    seen, last = [], 0
    writer.start()
    while len(seen) < total:
        reader = Reader(served.url + URL + "/stream", last=last)
        until(lambda reader=reader: len(reader.stored()) >= 1, "an event after the reconnect")
        reader.close()
        new = [(place, name) for place, name, _ in reader.seen if place is not None]
        seen += new
        last = new[-1][0]
    writer.join()
    assert [name for _, name in seen] == [f"kind_{turn}" for turn in range(total)]


def test_a_long_absence_is_made_up_for_in_order(served, now):
    names = [f"kind_{turn}" for turn in range(feed_module.PAGE * 2 + 7)]
    note(served.services.database, now, *names)
    reader = Reader(served.url + URL + "/stream", after=0)
    until(lambda: len(reader.stored()) == len(names), "all of it")
    assert reader.stored() == names
    reader.close()


def test_only_the_wanted_kinds_are_sent(served, now):
    reader = Reader(served.url + URL + "/stream", kind="wanted")
    note(served.services.database, now, "other", "wanted", "other", "wanted")
    until(lambda: len(reader.stored()) == 2, "both")
    assert reader.stored() == ["wanted", "wanted"]
    reader.close()


def test_progress_is_told_and_never_stored(served, now):
    database = served.services.database
    with database.write() as session:
        row, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        phase_runs.queue(session, row, phase="collect", now=now)
    at = served.services.now()
    with database.write() as session:
        claimed = phase_runs.claim(session, "w", ttl_s=3600, now=at)
    reader = Reader(served.url + URL + "/stream")
    with database.write() as session:
        phase_runs.heartbeat(session, claimed, progress=0.5, text="half", now=at)

    def told():
        return [d for place, name, d in reader.seen if name == "progress" and d["progress"] == 0.5]

    (half,) = until(told, "the progress")
    assert (half["iteration"], half["phase"], half["attempt"], half["text"]) == (1, "collect", 1, "half")
    assert half["started_at"] == at.isoformat()
    assert all(place is None for place, name, _ in reader.seen if name == "progress")
    with database.read() as session:
        assert all("progress" not in event.kind for event in events.after(session, 0))
    reader.close()


def test_one_stream_too_many_is_a_problem_and_a_place_is_free_once_a_reader_leaves(served):
    readers = [Reader(served.url + URL + "/stream") for _ in range(MOST_STREAMS)]
    refused = requests.get(served.url + URL + "/stream", timeout=30)
    assert (refused.status_code, refused.json()["code"]) == (503, "streams_full")
    assert requests.get(served.url + "/healthz", timeout=30).status_code == 200, "others are served"
    readers.pop().close()
    until(lambda: served.services.feed.listeners == MOST_STREAMS - 1, "the place")
    readers.append(Reader(served.url + URL + "/stream"))
    for reader in readers:
        reader.close()
    until(lambda: served.services.feed.listeners == 0, "all places")


def test_streams_end_at_once_when_the_daemon_does(served):
    reader = Reader(served.url + URL + "/stream")
    until(lambda: served.services.feed.listeners == 1)
    began = time.monotonic()
    served.end()
    assert reader.ended.wait(5)
    assert time.monotonic() - began < 4.0, "well before the server would cut connections"
    reader.close()


def test_a_reader_that_takes_nothing_is_left_and_its_place_is_free(served, now, caplog):
    served.services.feed.slow_s = 0.3
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.sendall(b"GET /v1/events/stream?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: served.services.feed.listeners == 1)
        for _ in range(40):
            note(served.services.database, now, *["padded"] * 20, words="x" * 10_000)
        until(lambda: served.services.feed.listeners == 0, "its place")
    assert "reason=slow_reader" in caplog.text


def test_silence_is_broken_by_comments(sqlite_database):
    feed = Feed(sqlite_database)
    pieces = stream(sqlite_database, feed, position=0, heartbeat_s=0.0)
    said = [next(pieces) for _ in range(3)]
    assert said == [b"retry: 2000\n\n", b"", b": nothing new\n\n"]


def test_nobody_is_looked_for_while_nobody_listens(sqlite_database):
    feed = Feed(sqlite_database)
    sqlite_database.downgrade("base")
    feed.look()
    feed.enter()
    feed.look()
    feed.leave()
    assert feed.listeners == 0


def test_a_feed_that_is_closed_ends_every_stream(sqlite_database):
    feed = Feed(sqlite_database, most=1)
    feed.enter()
    with pytest.raises(StreamsFull, match="1 event streams are open"):
        feed.enter()
    feed.close()
    assert list(stream(sqlite_database, feed, position=0)) == [b"retry: 2000\n\n"]


def test_a_frame_has_no_line_break_but_its_own():
    assert frame({"a": "x\ny"}, name="n", position=3) == b'id: 3\nevent: n\ndata: {"a": "x\\ny"}\n\n'


def test_a_stream_is_named_for_what_it_is():
    assert EventStream(iter(()), feed=None).media_type == "text/event-stream"


def test_who_begins_to_listen_is_not_told_of_phases_that_ran_for_those_before(sqlite_database, now):
    told = Feed(sqlite_database)
    with sqlite_database.write() as session:
        row, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        phase_runs.queue(session, row, phase="collect", now=now)
        claimed = phase_runs.claim(session, "w", ttl_s=60, now=now)
    told.enter()
    told.look()
    assert told.wait(-1, 0).progress
    told.leave()
    with sqlite_database.write() as session:
        phase_runs.finish(session, claimed, outcome={}, now=now)
    told.enter()
    assert told.wait(-1, 0).progress == {}
