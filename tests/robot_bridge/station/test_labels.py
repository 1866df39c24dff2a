"""Labels: added and never changed, for episodes that are or were here, and the one that counts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from robot_bridge.errors import BadRequest, IdempotencyMismatch
from robot_bridge.events import LabelAnswer, LabelRequest
from robot_bridge.station import problems
from robot_bridge.station.journal import Journal
from robot_bridge.station.labels import LABELS_MAX, LabelDesk, LabelNotKept, effective, label_routes
from robot_bridge.station.spool import Spool
from tests.robot_bridge.builders import NOON, Clock, a_label, an_episode


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path, now=Clock().now)
    yield journal
    journal.close()


@pytest.fixture
def desk(tmp_path: Path, journal: Journal) -> LabelDesk:
    return LabelDesk(tmp_path, now=lambda: NOON, journal=journal)


def verdict(success: bool | None = True, **changes: object) -> LabelRequest:
    fields = {"success": success, "source": "human", "judge": "anna", **changes}
    return LabelRequest.model_validate(fields)


def kept(success: bool | None, source: str, number: int) -> LabelAnswer:
    return LabelAnswer.model_validate(
        {"number": number, "at": NOON, "success": success, "source": source, "judge": "j"}
    )


def test_a_verdict_is_kept_with_all_it_says(desk, tmp_path, journal):
    request = verdict(False, answer="no", confidence=0.75, partial=0.5)
    added = desk.add("e1", request, key="k1")
    assert (added.number, added.at) == (1, NOON)
    assert (added.success, added.source, added.judge) == (False, "human", "anna")
    assert (added.answer, added.confidence, added.partial) == ("no", 0.75, 0.5)
    again = LabelDesk(tmp_path, now=lambda: NOON, journal=journal).of("e1")
    assert (again.labels, again.effective) == ((added,), added)


def test_an_episode_that_nobody_judged_has_no_verdict(desk):
    answer = desk.of("e1")
    assert (answer.episode_id, answer.labels, answer.effective) == ("e1", (), None)


def test_what_others_said_stays(desk):
    for judge in ("anna", "ben", "anna"):
        desk.add("e1", verdict(judge=judge), key=None)
    desk.add("e2", verdict(judge="carl"), key=None)
    assert [(label.number, label.judge) for label in desk.of("e1").labels] == [
        (1, "anna"),
        (2, "ben"),
        (3, "anna"),
    ]


def test_the_same_key_adds_once(desk):
    first = desk.add("e1", verdict(), key="k1")
    assert desk.add("e1", verdict(), key="k1") == first
    assert desk.add("e1", verdict(), key="k2").number == 2
    assert desk.add("e2", verdict(), key="k1").number == 1
    assert len(desk.of("e1").labels) == 2


def test_the_same_key_for_another_verdict_is_refused(desk):
    desk.add("e1", verdict(True), key="k1")
    with pytest.raises(IdempotencyMismatch, match="e1"):
        desk.add("e1", verdict(False), key="k1")
    assert desk.of("e1").effective.success is True


ORDER = ("human", "sim_predicate", "classifier", "vlm")


@pytest.mark.parametrize(("better", "worse"), list(itertools.combinations(ORDER, 2)))
def test_the_better_source_counts_whichever_came_first(better, worse):
    for first, second in ((better, worse), (worse, better)):
        labels = [kept(first == better, first, 1), kept(second == better, second, 2)]
        assert effective(labels).source == better


@pytest.mark.parametrize("source", ORDER)
def test_of_equals_the_newest_counts(source):
    assert effective([kept(True, source, 1), kept(False, source, 2)]).success is False
    assert effective([kept(False, source, 2), kept(True, source, 1)]).success is False


def test_a_verdict_without_an_answer_never_counts():
    assert effective([kept(None, "human", 1)]) is None
    assert effective([kept(True, "vlm", 1), kept(None, "human", 2)]).source == "vlm"
    assert effective([kept(True, "human", 1), kept(None, "human", 2)]).number == 1


def test_the_verdicts_of_the_manifest_take_part(desk):
    own = [a_label(True), a_label(False, source="classifier", judge="paligemma", answer="no")]
    desk.add("e1", verdict(None), key=None, own=own)
    answer = desk.of("e1", own=own)
    assert [(label.number, label.source) for label in answer.labels] == [
        (1, "sim_predicate"),
        (2, "classifier"),
        (3, "human"),
    ]
    assert answer.effective.number == 1
    desk.add("e1", verdict(False), key=None, own=own)
    assert desk.of("e1", own=own).effective.number == 4


def test_every_verdict_is_in_the_journal_once(desk, journal):
    desk.add("e1", verdict(), key="k1")
    desk.add("e1", verdict(), key="k1")
    (event,) = journal.read().events
    assert (event.kind, event.episode_id) == ("label_added", "e1")
    assert event.facts == {"number": 1, "source": "human", "success": True, "judge": "anna"}


def test_an_episode_has_so_many_verdicts_and_no_more(desk, tmp_path):
    desk.add("e1", verdict(), key=None)
    path = tmp_path / "labels" / "e1.jsonl"
    path.write_bytes(path.read_bytes() * LABELS_MAX)
    with pytest.raises(BadRequest, match="as many as one may have"):
        desk.add("e1", verdict(), key=None)


@pytest.mark.parametrize("torn", [b'{"key":null', b"\x00\x00"])
def test_half_a_verdict_of_a_crash_is_none(desk, tmp_path, torn):
    desk.add("e1", verdict(), key=None)
    with (tmp_path / "labels" / "e1.jsonl").open("ab") as file:
        file.write(torn)
    assert len(desk.of("e1").labels) == 1
    assert desk.add("e1", verdict(), key=None).number == 2
    assert [label.number for label in desk.of("e1").labels] == [1, 2]


def test_a_damaged_verdict_is_left_out_and_logged(desk, tmp_path, caplog):
    desk.add("e1", verdict(), key=None)
    path = tmp_path / "labels" / "e1.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    assert len(desk.of("e1").labels) == 1
    assert "label not read episode=e1" in caplog.text


def test_a_full_disk_keeps_no_half_verdict_and_says_so(desk, journal, monkeypatch):
    desk.add("e1", verdict(), key="k1")
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda handle, content, place: os.write(handle, content[:9]) and 9)
        with pytest.raises(LabelNotKept, match=r"e1.*No space left") as refused:
            desk.add("e1", verdict(False), key="k2")
    assert refused.value.retryable
    assert len(desk.of("e1").labels) == 1
    assert desk.add("e1", verdict(False), key="k2").number == 2
    assert len(journal.read().events) == 2


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()


@pytest.fixture
def http(desk: LabelDesk, spool: Spool) -> TestClient:
    app = FastAPI()
    app.include_router(label_routes(desk, spool))
    problems.install(app)
    return TestClient(app)


BODY = {"success": False, "source": "human", "judge": "anna"}
PATH = "/v1/episodes/episode-1/labels"


def test_a_waiting_episode_is_judged_over_http(http, spool):
    spool.put(an_episode())
    added = http.post(PATH, json=BODY, headers={"Idempotency-Key": "k"})
    assert (added.status_code, added.json()["number"]) == (201, 2)
    assert http.post(PATH, json=BODY, headers={"Idempotency-Key": "k"}).json() == added.json()
    answer = http.get(PATH).json()
    assert [label["source"] for label in answer["labels"]] == ["sim_predicate", "human"]
    assert answer["effective"]["success"] is False


def test_verdicts_stay_and_can_be_added_after_the_acknowledgement(http, spool):
    episode = an_episode()
    spool.put(episode)
    before = http.get(PATH).json()
    spool.acknowledge("episode-1", episode.digest)
    assert http.get(PATH).json() == before
    assert http.post(PATH, json=BODY).json()["number"] == 2


def test_an_episode_without_a_verdict_of_its_own_can_be_judged_after_it_has_gone(http, spool):
    episode = an_episode(labels=())
    spool.put(episode)
    spool.acknowledge("episode-1", episode.digest)
    assert http.get(PATH).json()["labels"] == []
    assert http.post(PATH, json=BODY).json()["number"] == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_episode_that_never_was_here_has_no_labels(http, spool, tmp_path, method):
    spool.open("episode-2", {})
    for name in ("episode-1", "episode-2"):
        answer = http.request(method, f"/v1/episodes/{name}/labels", json=BODY if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_episode")
    assert list((tmp_path / "labels").iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        *(
            {**BODY, name: value}
            for name, value in (("source", "rumour"), ("judge", ""), ("success", "maybe"))
        ),
        *({**BODY, name: 1.5} for name in ("confidence", "partial")),
        {**BODY, "mood": "good"},
        {},
    ],
)
def test_what_is_no_verdict_is_refused(http, spool, body):
    spool.put(an_episode())
    answer = http.post(PATH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_request")
    assert len(http.get(PATH).json()["labels"]) == 1


@pytest.mark.parametrize("name", ["..", "%2e%2e", ".hidden", "a b", "x" * 101])
def test_a_name_that_is_no_episodes_never_becomes_a_file(http, tmp_path, name):
    assert http.post(f"/v1/episodes/{name}/labels", json=BODY).status_code in {404, 422}
    assert list((tmp_path / "labels").iterdir()) == []
