"""Sessions of browsers: a name that nobody guesses, an end, and a word for forms that no other site knows."""

import pytest

from daemon.api.sessions import MOST_SESSIONS, NOBODY, SESSION_S, Sessions, cookie_name, session_name


@pytest.fixture
def seconds():
    return [1000.0]


@pytest.fixture
def sessions(seconds):
    return Sessions(clock=lambda: seconds[0])


def test_a_session_stands_for_its_token_until_it_is_closed(sessions):
    name = sessions.open("t1")
    other = sessions.open("t2")
    assert (sessions.token_of(name), sessions.token_of(other)) == ("t1", "t2")
    sessions.close(name)
    sessions.close(name)
    assert (sessions.token_of(name), sessions.token_of(other)) == (None, "t2")


def test_a_session_ends_after_its_time(sessions, seconds):
    name = sessions.open("t1")
    seconds[0] += SESSION_S - 1
    assert sessions.token_of(name) == "t1"
    seconds[0] += 1
    assert sessions.token_of(name) is None


@pytest.mark.parametrize("name", ["", "x", "t1", "\udcff"])
def test_a_name_that_nobody_was_given_is_nobodys(sessions, name):
    sessions.open("t1")
    assert sessions.token_of(name) is None


def test_of_too_many_sessions_the_oldest_end(sessions):
    names = [sessions.open("t1") for _ in range(MOST_SESSIONS + 2)]
    assert [sessions.token_of(name) for name in (names[0], names[1], names[2])] == [None, None, "t1"]


def test_every_session_has_a_word_of_its_own_and_no_process_knows_anothers(sessions):
    one, other = sessions.open("t1"), sessions.open("t1")
    words = {sessions.word(one), sessions.word(other), sessions.word(), Sessions().word(one)}
    assert len(words) == 4
    assert sessions.knows_word(sessions.word(one), one)
    assert not sessions.knows_word(sessions.word(one), other)
    assert not sessions.knows_word("", one)
    assert not sessions.knows_word("é\udcff", one)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], NOBODY),
        ([(b"cookie", b"gymnastd_8400=abc")], "abc"),
        ([(b"cookie", b"a=b; gymnastd_8400=abc; c=d")], "abc"),
        ([(b"cookie", b"gymnastd_8401=abc")], NOBODY),  # another daemon on this machine
        ([(b"cookie", b"\xff=;;;[")], NOBODY),
        ([(b"accept", b"gymnastd_8400=abc")], NOBODY),
    ],
)
def test_the_session_is_named_by_the_cookie_of_this_port(headers, found):
    assert cookie_name(8400) == "gymnastd_8400"
    assert session_name(headers, 8400) == found
