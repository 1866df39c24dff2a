"""The judge behind an endpoint on its bad days: no failure is a verdict, and the budget holds."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from daemon.judges import vlm_http
from daemon.judges.chat import Answers, ChatEndpoint
from daemon.judges.errors import (
    JudgeBudgetSpent,
    JudgeGarbled,
    JudgeQuestionRefused,
    JudgeRefused,
    JudgeUnreachable,
)
from daemon.judges.ledger import Ledger, Prices
from daemon.judges.vlm_http import MOST_ASKS, Listeners, VlmConfig, VlmHttpJudge, jpeg_of
from daemon.learning.errors import BadTensor
from daemon.learning.reward.judge import JudgeExhausted
from daemon.learning.reward.vlm import Rubric
from tests.daemon.judges.emulator import Endpoint, running

INSTRUCTION = "open the drawer"
KEY = "sk-a-very-secret-key"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with running(Endpoint()) as found:
        yield found


class Bench:
    """A judge, its ledger, and what was said and slept meanwhile."""

    def __init__(self, endpoint: Endpoint, folder: Path, **changes: Any) -> None:
        self.said: list[str | None] = []
        self.slept: list[float] = []
        self.counted: list[tuple[int, ...]] = []
        answer_s = changes.pop("answer_s", 5.0)
        max_requests, max_usd = changes.pop("max_requests", 1000), changes.pop("max_usd", None)
        prices = changes.pop("prices", Prices(prompt=2.0, completion=10.0, prompt_tokens=2000))
        self.file = folder / "costs.json"
        self.ledger = Ledger(self.file, prices=prices, max_requests=max_requests, max_usd=max_usd)
        config = VlmConfig(**{"model": "eyes-1", "frames": 7, "votes": 3, "at_once": 2, **changes})
        self.judge = VlmHttpJudge(
            ChatEndpoint(endpoint.url, key=KEY, answer_s=answer_s),
            self.ledger,
            config=config,
            cache=folder / "answers",
            listeners=Listeners(waiting=self.said.append, answered=lambda *many: self.counted.append(many)),
            sleep=self.slept.append,
        )

    def most(self, votes: int) -> float:
        """Dollars that one request for so many votes can cost."""
        return (2000 * 2.0 + 300 * votes * 10.0) / 1e6

    def ask(self, count: int = 1, *, shade: int = 0) -> tuple[list[bool], list[bool]]:
        """Known and success of so many rollouts, all different."""
        frames = torch.zeros(count, 7, 3, 64, 64, dtype=torch.uint8)
        for row in range(count):
            frames[row] = shade + row
        verdicts = self.judge.judge(frames, [INSTRUCTION] * count)
        return verdicts.known.tolist(), verdicts.success.tolist()


def test_votes_of_an_endpoint_are_a_verdict(endpoint: Endpoint, tmp_path: Path) -> None:
    assert Bench(endpoint, tmp_path).ask() == ([True], [True])
    endpoint.answer = "Score: 0"
    assert Bench(endpoint, tmp_path / "b", votes=5).ask() == ([True], [False])


def test_every_third_frame_goes_with_the_question_as_a_jpeg_large_enough_to_see(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    Bench(endpoint, tmp_path, rubrics={INSTRUCTION: Rubric(done="it gapes")}).ask(shade=200)
    (body,) = endpoint.bodies
    assert (body["model"], body["n"], body["temperature"]) == ("eyes-1", 3, 1.0)
    text, *pictures = body["messages"][0]["content"]
    assert "it gapes" in text["text"]
    assert len(pictures) == 3
    head, _, data = pictures[-1]["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.size == (256, 256)
    assert picture.getpixel((5, 5)) == pytest.approx((200, 200, 200), abs=3)


def test_the_key_goes_in_the_header_and_nowhere_else(
    endpoint: Endpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.days = ["garbage", "refused"]
    bench = Bench(endpoint, tmp_path)
    with pytest.raises(JudgeRefused) as refused:
        bench.ask()
    assert endpoint.keys[0] == f"Bearer {KEY}"
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert all(KEY not in text for text in [str(refused.value), caplog.text, *map(str, bench.said), *written])


@pytest.mark.parametrize("day", ["busy", "broken", "hangs_up", "later", "at_once", "late", "gateway"])
def test_an_endpoint_that_is_away_is_waited_for_and_the_wait_is_told(
    endpoint: Endpoint, tmp_path: Path, day: str
) -> None:
    endpoint.days = [day] * 5
    bench = Bench(endpoint, tmp_path)
    assert bench.ask() == ([True], [True]), "no rollout is lost to an outage"
    assert len(bench.said) == 6
    assert bench.said[-1] is None, "it is back"
    assert bench.said[0].startswith("waiting for the judge since 0 s: ")
    assert len(endpoint.bodies) == 6
    if day == "later":
        assert all(3.0 <= pause <= 4.0 for pause in bench.slept), "it said when to come back"
    else:
        assert all(early < late for early, late in zip(bench.slept[:3], bench.slept[1:4], strict=True))


@pytest.mark.parametrize("day", ["hangs", "drip"])
def test_an_answer_that_takes_too_long_is_given_up_and_asked_for_again(
    endpoint: Endpoint, tmp_path: Path, day: str
) -> None:
    endpoint.days = [day]
    bench = Bench(endpoint, tmp_path, answer_s=0.4)
    assert bench.ask() == ([True], [True])
    assert len(endpoint.bodies) == 2
    assert bench.ledger.spent.requests == 2, "the first may have cost all the same"
    assert endpoint.dripped < endpoint.whole, "nobody waited for its end"


@pytest.mark.parametrize("day", ["garbage", "truncated", "array", "huge"])
def test_garbage_is_asked_again_a_few_times_and_is_then_unknown(
    endpoint: Endpoint, tmp_path: Path, day: str
) -> None:
    endpoint.days = [day]
    assert Bench(endpoint, tmp_path).ask() == ([True], [True])
    endpoint.days = [day] * MOST_ASKS
    assert Bench(endpoint, tmp_path / "b").ask(shade=9) == ([False], [False])


@pytest.mark.parametrize("day", ["ugly", "nulls"])
def test_answers_without_a_score_are_no_votes(endpoint: Endpoint, tmp_path: Path, day: str) -> None:
    endpoint.days = [day]
    bench = Bench(endpoint, tmp_path)
    known, _ = bench.ask()
    assert known == [False]
    assert bench.ledger.spent.usd == pytest.approx(bench.most(3)), "it does not say what it cost"
    assert bench.ask() == ([True], [True]), "what could not be read is not remembered"


def test_an_endpoint_that_gives_one_choice_at_a_time_is_asked_for_the_others(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.days = ["one", "one", "one"]
    assert Bench(endpoint, tmp_path).ask() == ([True], [True])
    assert [body["n"] for body in endpoint.bodies] == [3, 2, 1]


def test_what_is_refused_is_not_asked_again(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.days = ["refused"]
    bench = Bench(endpoint, tmp_path)
    with pytest.raises(JudgeRefused, match=r"status 401.*no such key"):
        bench.ask()
    assert len(endpoint.bodies) == 1
    assert bench.ledger.spent.requests == 0


def test_one_question_that_is_refused_is_unknown_and_the_others_are_judged(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.days = ["ok", "filtered"]
    bench = Bench(endpoint, tmp_path, at_once=1)
    known, _ = bench.ask(3)
    assert sorted(known) == [False, True, True]
    endpoint.days = ["filtered"]
    assert bench.ask(1, shade=100)[0] == [False], "it has answered before"
    assert bench.ledger.spent.requests == 2


def test_an_endpoint_that_refuses_every_question_ends_the_phase(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.days = ["filtered"] * 3
    with pytest.raises(JudgeQuestionRefused, match=r"status 400.*content_filter"):
        Bench(endpoint, tmp_path).ask(3)


def test_what_a_gateway_gave_up_waiting_for_may_be_charged(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.days = ["gateway"] * 3
    bench = Bench(endpoint, tmp_path, max_requests=3)
    with pytest.raises(JudgeBudgetSpent):
        bench.ask()
    assert endpoint.worked == bench.ledger.spent.requests == 3


def test_a_model_that_cannot_see_gives_no_verdict_and_is_not_asked_again(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer = "The drawer is a grey blur.\nScore: ?"
    bench = Bench(endpoint, tmp_path)
    assert bench.ask()[0] == [False]
    assert bench.ask()[0] == [False]
    assert len(endpoint.bodies) == 1


def test_an_endpoint_that_fell_silent_is_asked_again_about_one_rollout_at_a_time(tmp_path: Path) -> None:
    silent = FallsSilent(tries=12)
    ledger = Ledger(tmp_path / "costs.json", prices=Prices(), max_requests=99, max_usd=None)
    config = VlmConfig(model="eyes-1", frames=1, votes=1, at_once=4)
    judge = VlmHttpJudge(silent, ledger, config=config, cache=tmp_path, sleep=lambda pause: None)
    frames = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1, 1).expand(4, 1, 3, 8, 8)
    assert judge.judge(frames, [INSTRUCTION] * 4).known.all()
    assert silent.first_at_once == 4
    assert silent.later_at_once == 1
    assert ledger.spent.requests == 12 + 4, "what fell silent may be charged"


class FallsSilent(ChatEndpoint):
    """Answers nothing to so many tries, the first four of which come together; then it answers."""

    def __init__(self, *, tries: int) -> None:
        super().__init__("http://127.0.0.1:1/v1", key=None, answer_s=1.0)
        self._tries, self._asked, self._inside = tries, 0, 0
        self._lock, self._first = threading.Lock(), threading.Barrier(4)
        self.first_at_once = self.later_at_once = 0

    def ask(self, body: dict[str, Any]) -> Answers:
        with self._lock:
            self._asked, self._inside = self._asked + 1, self._inside + 1
            turn, inside = self._asked, self._inside
        if turn <= 4:
            self.first_at_once = max(self.first_at_once, inside)
            self._first.wait(10)
        elif turn <= self._tries:
            self.later_at_once = max(self.later_at_once, inside)
            time.sleep(0.01)
        with self._lock:
            self._inside -= 1
        if turn <= self._tries:
            raise JudgeUnreachable(url=self.url, reason="silence", may_cost=True)
        return Answers(texts=("Score: 1",), tokens=None)


def test_an_outage_that_lasts_ends_the_phase_with_its_reason(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vlm_http, "OUTAGE_S", 20.0)
    endpoint.days = ["broken"] * 100
    bench = Bench(endpoint, tmp_path)
    with pytest.raises(JudgeUnreachable, match="status 500") as away:
        bench.ask()
    assert away.value.retryable
    assert sum(bench.slept) >= 20.0
    assert bench.ledger.spent.requests == 0, "what was never worked on costs nothing"


def test_a_wait_ends_when_whoever_is_told_of_it_has_lost_the_phase(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    class Lost(Exception):
        pass

    def told(text: str | None) -> None:
        raise Lost

    endpoint.days = ["broken"] * 10
    bench = Bench(endpoint, tmp_path)
    bench.judge._listeners = Listeners(waiting=told)
    with pytest.raises(Lost):
        bench.ask()


def test_every_verdict_is_told_so_that_a_slow_endpoint_does_not_look_like_a_dead_phase(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    bench = Bench(endpoint, tmp_path)
    bench.ask(3)
    assert bench.counted == [(1, 3), (2, 3), (3, 3)]


def test_what_was_answered_before_is_not_asked_again(endpoint: Endpoint, tmp_path: Path) -> None:
    bench = Bench(endpoint, tmp_path)
    bench.ask(3)
    assert bench.ask(3) == ([True] * 3, [True] * 3)
    assert len(endpoint.bodies) == 3
    assert (bench.ledger.spent.requests, bench.ledger.spent.cached) == (3, 3)
    Bench(endpoint, tmp_path, model="eyes-2").ask(1)
    assert len(endpoint.bodies) == 4, "another model may see it otherwise"
    Bench(endpoint, tmp_path, max_tokens=900).ask(1)
    assert len(endpoint.bodies) == 5, "and so may one that may think for longer"


def test_who_hangs_up_on_a_question_may_charge_for_it(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.days = ["hangs_up"]
    bench = Bench(endpoint, tmp_path)
    bench.ask()
    assert bench.ledger.spent.requests == 2
    assert bench.ledger.spent.usd == pytest.approx(bench.most(3) + 0.0035)


def test_votes_that_disagree_are_remembered(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.days = ["split"]
    bench = Bench(endpoint, tmp_path, votes=2)
    assert bench.ask()[0] == [False]
    assert bench.ask()[0] == [False]
    assert len(endpoint.bodies) == 1


def test_an_unreadable_memory_is_asked_anew(endpoint: Endpoint, tmp_path: Path) -> None:
    bench = Bench(endpoint, tmp_path)
    bench.ask()
    (remembered,) = (tmp_path / "answers").glob("*.json")
    remembered.write_text('{"texts": [')
    assert bench.ask() == ([True], [True])
    assert len(endpoint.bodies) == 2
    assert json.loads(remembered.read_text())["texts"]


def test_the_budget_of_requests_is_never_exceeded_by_any_number_of_threads(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    bench = Bench(endpoint, tmp_path, max_requests=5, at_once=16)
    endpoint.days = ["busy", "broken", "garbage", "ok", "hangs_up"]
    with pytest.raises(JudgeBudgetSpent, match="5 of 5 requests"):
        bench.ask(20)
    assert endpoint.worked <= 5
    assert bench.ledger.spent.requests == 5


def test_the_budget_of_money_holds_and_is_kept_over_a_crash(endpoint: Endpoint, tmp_path: Path) -> None:
    """A request costs 2,000 to 3,500 millionths of a dollar, and may cost 13,000."""
    bench = Bench(endpoint, tmp_path, max_usd=0.02)
    with pytest.raises(JudgeBudgetSpent, match="dollars") as spent:
        bench.ask(10)
    assert isinstance(spent.value, JudgeExhausted), "learning knows it as a judge that ends"
    assert bench.ledger.spent.usd <= 0.02
    assert bench.ledger.spent.usd == pytest.approx(endpoint.worked * 0.0035)
    again = Bench(endpoint, tmp_path, max_usd=0.02)
    assert again.ledger.spent.usd == bench.ledger.spent.usd
    with pytest.raises(JudgeBudgetSpent):
        again.ask(5, shade=100)


def test_costs_are_counted_in_tokens_and_dollars(endpoint: Endpoint, tmp_path: Path) -> None:
    bench = Bench(endpoint, tmp_path)
    bench.ask(2)
    spent = bench.ledger.spent
    assert (spent.requests, spent.prompt_tokens, spent.completion_tokens) == (2, 2000, 300)
    assert spent.usd == pytest.approx(2 * (1000 * 2.0 + 150 * 10.0) / 1e6)
    assert json.loads(bench.file.read_text())["requests"] == 2


@pytest.mark.parametrize(
    ("frames", "instructions"),
    [(torch.zeros(1, 7, 3, 8, 8), ["a"]), (torch.zeros(2, 7, 3, 8, 8, dtype=torch.uint8), ["a"])],
)
def test_frames_that_are_none_are_refused(
    endpoint: Endpoint, tmp_path: Path, frames: torch.Tensor, instructions: list[str]
) -> None:
    with pytest.raises(BadTensor, match="one instruction each"):
        Bench(endpoint, tmp_path).judge.judge(frames, instructions)
    assert endpoint.bodies == []


def test_large_pictures_are_sent_as_they_are() -> None:
    picture = Image.open(io.BytesIO(jpeg_of(torch.zeros(3, 300, 400, dtype=torch.uint8))))
    assert picture.size == (400, 300)


def test_an_endpoint_that_is_not_there_is_named_without_the_key() -> None:
    chat = ChatEndpoint("http://127.0.0.1:9/v1", key=KEY)
    with pytest.raises(JudgeUnreachable, match=r"127\.0\.0\.1:9/v1 does not answer: ConnectionError") as away:
        chat.ask({"n": 1})
    assert not away.value.may_cost
    assert KEY not in str(away.value)


def test_an_endpoint_of_another_kind_is_told_as_such(endpoint: Endpoint) -> None:
    endpoint.days = ["garbage"]
    with pytest.raises(JudgeGarbled, match="<html>welcome"):
        ChatEndpoint(endpoint.url).ask({"n": 1})
    assert endpoint.keys == [None]
