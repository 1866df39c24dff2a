"""Questions that many have at once are asked once, and answers last as long as they say."""

import threading

import pytest

from daemon.shared_questions import SharedQuestions


class Address:
    """Something that can be asked; `gate` holds its answers back."""

    def __init__(self):
        self.asked, self.seconds, self.gate = [], 100.0, threading.Event()
        self.gate.set()
        self.questions = SharedQuestions(
            ["a", "b"], ask=self.answer, lasts_s=float, clock=lambda: self.seconds, name="test"
        )

    def answer(self, address):
        self.gate.wait(10.0)
        self.asked.append(address)
        return "2.0" if address == "a" else "7.0"

    def ask(self, address="a"):
        return self.questions.ask(address).answer.result(timeout=10.0)


@pytest.fixture
def there():
    made = Address()
    yield made
    made.gate.set()
    made.questions.close()


def test_many_who_ask_at_once_share_one_question(there):
    there.gate.clear()
    questions = {id(there.questions.ask("a").answer) for _ in range(20)}
    there.gate.set()
    there.ask()
    assert len(questions) == 1
    assert there.asked == ["a"]


def test_an_answer_lasts_as_long_as_it_says(there):
    there.ask()
    there.seconds += 1.9
    there.ask()
    assert there.asked == ["a"]
    there.seconds += 0.1
    there.ask()
    assert there.asked == ["a", "a"]


def test_addresses_do_not_share_answers(there):
    assert (there.ask("a"), there.ask("b")) == ("2.0", "7.0")
    there.seconds += 5.0
    there.ask("a"), there.ask("b")
    assert there.asked == ["a", "b", "a"]


def test_a_question_without_an_answer_is_not_asked_again_however_long_it_takes(there):
    there.gate.clear()
    first = there.questions.ask("a")
    there.seconds += 1000.0
    assert there.questions.ask("a") is first


def test_after_the_end_nobody_is_asked(there):
    there.questions.close()
    with pytest.raises(RuntimeError):
        there.questions.ask("a")
