"""Asking a policy that hangs or fails: never two things at once, never longer than the deadline."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from robot_bridge.autoeval.gateway_decisions import PolicyThread, Question
from robot_bridge.errors import PolicyFailed, PolicyUnreachable, UnknownSession
from tests.robot_bridge.autoeval.gateway_builders import PATIENCE_S

SOON_S = 0.05


@pytest.fixture
def thread() -> Iterator[PolicyThread]:
    thread = PolicyThread("job job-1")
    yield thread
    thread.close()


class Hanging:
    """A call that waits until it is let go, and then answers or raises what it holds."""

    def __init__(self, answer: str | Exception = "late") -> None:
        self.go_on = threading.Event()
        self.calls = 0
        self._answer = answer

    def __call__(self) -> str:
        self.calls += 1
        assert self.go_on.wait(PATIENCE_S)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def test_an_answer_in_time_is_given(thread):
    question = Question[int](thread, "an action")
    assert [question.ask(lambda n=n: n, within_s=PATIENCE_S) for n in range(3)] == [0, 1, 2]


def test_calls_run_in_one_thread_that_is_not_the_callers(thread):
    question = Question[int](thread, "an action")
    idents = {question.ask(threading.get_ident, within_s=PATIENCE_S) for _ in range(3)}
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_a_call_that_hangs_is_given_up_at_the_deadline(thread):
    hanging = Hanging()
    with pytest.raises(PolicyUnreachable, match=r"of job job-1 did not answer an action within 0\.05 s"):
        Question[str](thread, "an action").ask(hanging, within_s=SOON_S)
    hanging.go_on.set()


def test_a_late_answer_stands_for_the_next_question_and_nothing_is_asked_twice(thread):
    question = Question[str](thread, "an action")
    hanging = Hanging()
    for _ in range(2):
        with pytest.raises(PolicyUnreachable):
            question.ask(hanging, within_s=SOON_S)
    hanging.go_on.set()
    assert question.ask(lambda: "new", within_s=PATIENCE_S) == "late"
    assert hanging.calls == 1
    assert question.ask(lambda: "new", within_s=PATIENCE_S) == "new"


def test_a_failure_that_came_late_is_forgotten_and_the_policy_asked_anew(thread):
    question = Question[str](thread, "an action")
    hanging = Hanging(PolicyFailed(url="u", reason="r"))
    with pytest.raises(PolicyUnreachable):
        question.ask(hanging, within_s=SOON_S)
    hanging.go_on.set()
    thread.submit(lambda: None).result(PATIENCE_S)  # the failed call has ended by now
    assert question.ask(lambda: "new", within_s=PATIENCE_S) == "new"


@pytest.mark.parametrize("error", [PolicyFailed(url="u", reason="r"), UnknownSession(session="s")], ids=repr)
def test_what_a_policy_may_raise_is_passed_on(thread, error):
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        Question[None](thread, "an action").ask(fail, within_s=PATIENCE_S)
    assert raised.value is error


@pytest.mark.parametrize("error", [RuntimeError("CUDA"), TimeoutError("socket"), ValueError("x" * 10_000)])
def test_whatever_else_it_raises_is_a_policy_that_failed(thread, error):
    def fail() -> None:
        raise error

    question = Question[None](thread, "an action")
    with pytest.raises(PolicyFailed, match=type(error).__name__) as raised:
        question.ask(fail, within_s=PATIENCE_S)
    assert raised.value.__cause__ is error
    assert len(str(raised.value)) < 400


def test_a_failure_does_not_end_the_thread(thread):
    question = Question[object](thread, "an action")
    with pytest.raises(PolicyFailed):
        question.ask(lambda: {}["nothing"], within_s=PATIENCE_S)
    assert question.ask(lambda: "next", within_s=PATIENCE_S) == "next"


def test_a_dropped_question_that_waits_is_never_asked(thread):
    hanging, asked = Hanging(), []
    running = thread.submit(hanging)
    question = Question[None](thread, "a reset")
    with pytest.raises(PolicyUnreachable):
        question.ask(lambda: asked.append(1), within_s=SOON_S)
    question.drop()
    hanging.go_on.set()
    assert running.result(PATIENCE_S) == "late"
    assert thread.submit(lambda: "behind it").result(PATIENCE_S) == "behind it"
    assert asked == []


def test_the_answer_to_a_dropped_question_is_nobodys(thread):
    question = Question[str](thread, "an action")
    hanging = Hanging()
    with pytest.raises(PolicyUnreachable):
        question.ask(hanging, within_s=SOON_S)
    question.drop()
    hanging.go_on.set()
    assert question.ask(lambda: "new", within_s=PATIENCE_S) == "new"


def test_a_closed_thread_ends_after_the_calls_before():
    thread = PolicyThread("job job-1")
    ident = thread.submit(threading.current_thread)
    thread.close()
    running = ident.result(PATIENCE_S)
    running.join(PATIENCE_S)
    assert not running.is_alive()
    assert running.daemon  # a policy that hangs for ever keeps no program from ending
