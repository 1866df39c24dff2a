"""Webhooks: in order, at least once, patient, and deaf to where an answer would send them."""

import hashlib
import hmac
from datetime import datetime, timedelta

import pytest

from daemon.events.hooks import Webhook
from daemon.events.webhooks import (
    FIRST_PAUSE_S,
    GIVE_UP_AFTER_S,
    LONGEST_PAUSE_S,
    LONGEST_RETRY_AFTER_S,
    SIGNATURE,
    Webhooks,
)
from storage import events, webhooks
from tests.daemon.events import emulator


class Clock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock(now):
    return Clock(now)


@pytest.fixture
def receiver():
    with emulator.receiving() as receiver:
        yield receiver


@pytest.fixture
def open_hooks(sqlite_database, clock):
    """Webhooks over the test's database; what happens from now on is for them."""

    def opened(*hooks: Webhook, **more) -> Webhooks:
        made = Webhooks(hooks, sqlite_database, now=clock, **more)
        made.enter()
        return made

    return opened


@pytest.fixture
def happen(sqlite_database, now):
    def note(*kinds: str, **facts) -> None:
        with sqlite_database.write() as session:
            for kind in kinds:
                events.note(session, kind, at=now, facts=facts)

    return note


@pytest.fixture
def standing(sqlite_database):
    def of(name: str = "lab"):
        with sqlite_database.read() as session:
            return next(row for row in webhooks.all_rows(session) if row.name == name)

    return of


def lab(receiver, **changes) -> Webhook:
    return Webhook(**({"name": "lab", "url": receiver.url, "events": ("*",)} | changes))


def test_a_delivery_is_what_slack_takes_with_the_event_beside_the_text(receiver, open_hooks, happen):
    hooks = open_hooks(lab(receiver))
    happen("judge_away", reason="status 503")
    hooks.deliver()
    (body,) = receiver.bodies
    assert body["text"] == "gymnastd: the judge does not answer: status 503"
    assert (body["event"]["kind"], body["event"]["facts"]) == ("judge_away", {"reason": "status 503"})
    assert isinstance(body["event"]["id"], int)
    headers, _ = receiver.got[0]
    assert headers["Content-Type"] == "application/json"
    assert SIGNATURE not in headers


def test_events_come_in_order_and_once(receiver, open_hooks, happen, standing):
    hooks = open_hooks(lab(receiver))
    happen(*(f"kind_{turn}" for turn in range(120)))
    for _ in range(2):
        hooks.deliver()
    assert receiver.kinds == [f"kind_{turn}" for turn in range(120)]
    assert standing().delivered == 120


def test_only_what_is_wanted_is_sent_and_the_rest_is_left_behind(receiver, open_hooks, happen, standing):
    hooks = open_hooks(lab(receiver, events=("disk_low",)))
    happen(*["phase_queued"] * 70, "disk_low", "phase_queued")
    hooks.deliver()
    assert receiver.kinds == ["disk_low"]
    assert (standing().position, standing().delivered) == (72, 1)


def test_without_a_choice_people_are_told_of_what_matters_to_them(receiver, open_hooks, happen):
    hooks = open_hooks(Webhook(name="lab", url=receiver.url))
    happen("phase_queued", "iteration_finished", "phase_started", "station_needs_human")
    hooks.deliver()
    assert receiver.kinds == ["iteration_finished", "station_needs_human"]


def test_a_failure_holds_up_the_events_behind_it_and_nothing_is_lost(
    receiver, open_hooks, happen, clock, standing
):
    receiver.answers = [(500, {}), (503, {})]
    hooks = open_hooks(lab(receiver))
    happen("first", "second")
    hooks.deliver()
    assert receiver.kinds == ["first"]
    assert (standing().tries, standing().last_error) == (1, "status 500")
    hooks.deliver()
    assert receiver.kinds == ["first"], "not before its pause is over"
    clock.pass_by(FIRST_PAUSE_S)
    hooks.deliver()
    clock.pass_by(FIRST_PAUSE_S)
    hooks.deliver()
    assert receiver.kinds == ["first", "first"], "the second pause is longer"
    clock.pass_by(FIRST_PAUSE_S)
    hooks.deliver()
    assert receiver.kinds == ["first", "first", "first", "second"]
    assert (standing().delivered, standing().tries, standing().last_error) == (2, 0, None)


def test_pauses_grow_and_stay_bounded(receiver, open_hooks, happen, clock, standing):
    receiver.answers = [(500, {})] * 40
    hooks = open_hooks(lab(receiver))
    happen("first")
    pauses = []
    for _ in range(40):
        hooks.deliver()
        pauses.append((standing().next_try_at - clock.at).total_seconds())
        clock.pass_by(pauses[-1])
    assert pauses[:4] == [2.0, 4.0, 8.0, 16.0]
    assert max(pauses) == LONGEST_PAUSE_S == pauses[-1]


@pytest.mark.parametrize(("asked", "pause_s"), [("120", 120.0), ("999999", LONGEST_RETRY_AFTER_S)])
def test_one_that_is_busy_says_when_to_come_back(
    receiver, open_hooks, happen, clock, standing, asked, pause_s
):
    receiver.answers = [(429, {"Retry-After": asked})]
    hooks = open_hooks(lab(receiver))
    happen("first")
    hooks.deliver()
    assert (standing().next_try_at - clock.at).total_seconds() == pause_s
    clock.pass_by(pause_s)
    hooks.deliver()
    assert standing().delivered == 1


@pytest.mark.parametrize("asked", ["soon", "-5", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_time_that_is_none_is_ignored(receiver, open_hooks, happen, clock, standing, asked):
    receiver.answers = [(503, {"Retry-After": asked})]
    hooks = open_hooks(lab(receiver))
    happen("first")
    hooks.deliver()
    assert (standing().next_try_at - clock.at).total_seconds() == FIRST_PAUSE_S


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(receiver, open_hooks, happen, standing, status):
    receiver.answers = [(status, {"Location": receiver.url + "/elsewhere"})]
    hooks = open_hooks(lab(receiver))
    happen("first")
    hooks.deliver()
    assert receiver.kinds == ["first"]
    assert "redirects are not followed" in standing().last_error


def test_one_that_hangs_is_left_and_the_others_are_told(receiver, open_hooks, happen, standing):
    with emulator.receiving() as stuck:
        stuck.answers = [(0, {})]
        hooks = open_hooks(lab(stuck, name="stuck"), lab(receiver), timeout_s=0.2)
        happen("first")
        hooks.deliver()
        assert standing("stuck").tries == 1
        assert receiver.kinds == ["first"]


def test_one_that_nobody_serves_is_tried_again(receiver, open_hooks, happen, standing, clock):
    closed = receiver.url.rsplit(":", 1)[0] + ":9/T1/secret"
    hooks = open_hooks(lab(receiver, url=closed))
    happen("first")
    hooks.deliver()
    assert standing().tries == 1
    assert "secret" not in standing().last_error


def test_after_the_stated_time_an_event_is_given_up_and_the_next_one_is_tried(
    receiver, open_hooks, happen, clock, standing, caplog
):
    receiver.answers = [(500, {}), (500, {})]
    hooks = open_hooks(lab(receiver))
    happen("first", "second")
    hooks.deliver()
    clock.pass_by(GIVE_UP_AFTER_S)
    hooks.deliver()
    assert receiver.kinds == ["first", "first", "second"]
    assert (standing().given_up, standing().delivered) == (1, 1)
    assert "webhook event given up name=lab" in caplog.text


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_body_that_is_refused_is_not_sent_again(receiver, open_hooks, happen, standing, status):
    receiver.answers = [(status, {})]
    hooks = open_hooks(lab(receiver))
    happen("first", "second")
    hooks.deliver()
    assert receiver.kinds == ["first", "second"]
    assert standing().given_up == 1


@pytest.mark.parametrize("status", [401, 404, 410])
def test_what_somebody_may_have_set_up_wrongly_is_tried_again(receiver, open_hooks, happen, standing, status):
    receiver.answers = [(status, {})]
    hooks = open_hooks(lab(receiver))
    happen("first")
    hooks.deliver()
    assert (standing().given_up, standing().tries) == (0, 1)


def test_a_daemon_that_is_killed_before_it_enters_a_delivery_sends_it_again_and_loses_nothing(
    receiver, open_hooks, happen, clock, sqlite_database, standing
):
    open_hooks(lab(receiver))
    happen("first", "second")

    class Killed(BaseException):
        pass

    class Clockless(Webhooks):
        def _enter_answer(self, *_, **__) -> bool:
            raise Killed

    with pytest.raises(Killed):
        Clockless([lab(receiver)], sqlite_database, now=clock).deliver()
    open_hooks(lab(receiver)).deliver()
    assert receiver.kinds == ["first", "first", "second"]
    assert len({body["event"]["id"] for body in receiver.bodies}) == 2, "doubles have the same id"
    assert standing().delivered == 2


def test_a_restart_goes_on_where_it_was(receiver, open_hooks, happen):
    open_hooks(lab(receiver)).deliver()
    happen("while_nobody_was_there")
    open_hooks(lab(receiver)).deliver()
    assert receiver.kinds == ["while_nobody_was_there"]


def test_the_signature_is_made_with_the_secret_of_the_file(receiver, open_hooks, happen, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    hooks = open_hooks(lab(receiver, secret_file=secret))
    happen("first")
    hooks.deliver()
    ((headers, body),) = receiver.got
    assert headers[SIGNATURE] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()


def test_without_its_secret_nothing_is_sent_unsigned(receiver, open_hooks, happen, tmp_path, standing):
    hooks = open_hooks(lab(receiver, secret_file=tmp_path / "gone"))
    happen("first")
    hooks.deliver()
    assert receiver.got == []
    assert standing().last_error == "FileNotFoundError"


def test_a_webhook_that_is_stopped_begins_nothing(receiver, open_hooks, happen):
    hooks = open_hooks(lab(receiver))
    happen("first")
    hooks.stop()
    hooks.deliver()
    assert receiver.got == []


def test_a_busy_database_is_tried_again(receiver, open_hooks, happen, sqlite_database, caplog):
    hooks = open_hooks(lab(receiver))
    sqlite_database.downgrade("0009")
    hooks.deliver()
    assert "webhook held up name=lab" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "with space"},
        {"name": ""},
        {"url": "ftp://example.org/x"},
        {"url": "file:///etc/passwd"},
        {"url": "https://user:password@example.org/"},
        {"events": ("iteration_finishd",)},
        {"events": ()},
        {"colour": "red"},
    ],
)
def test_a_webhook_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="Webhook"):
        Webhook(**({"name": "lab", "url": "https://example.org/T1"} | changes))


def test_the_address_is_not_shown():
    assert "T1" not in repr(Webhook(name="lab", url="https://example.org/T1"))
