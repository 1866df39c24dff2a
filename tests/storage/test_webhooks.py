"""Webhooks: a position that only rises, and the standing of the next delivery."""

from datetime import datetime, timedelta

from storage import events, webhooks
from storage.db import Database
from storage.event_tables import WebhookRow


def standing(database: Database) -> WebhookRow:
    with database.read() as session:
        (row,) = webhooks.all_rows(session)
    return row


def test_a_new_webhook_is_told_of_what_happens_from_now_on(database: Database, now: datetime) -> None:
    with database.write() as session:
        events.note(session, "disk_low", at=now)
    with database.write() as session:
        webhooks.enter(session, "lab")
    with database.write() as session:
        events.note(session, "disk_ok", at=now)
        webhooks.enter(session, "lab")
    row = standing(database)
    with database.read() as session:
        assert [event.kind for event in events.after(session, row.position)] == ["disk_ok"]
    assert (row.delivered, row.given_up, row.tries) == (0, 0, 0)


def test_a_failure_is_remembered_from_its_first_try_and_forgotten_by_a_delivery(
    database: Database, now: datetime
) -> None:
    later = now + timedelta(seconds=30)
    for at in (now, later):
        with database.write() as session:
            webhooks.failed(session, "lab", reason="status 500", next_try_at=at + timedelta(hours=1), now=at)
    row = standing(database)
    assert (row.tries, row.failing_since, row.last_error) == (2, now, "status 500")
    assert row.next_try_at == later + timedelta(hours=1)
    with database.write() as session:
        webhooks.delivered(session, "lab", position=7)
    row = standing(database)
    assert (row.position, row.tries, row.delivered) == (7, 0, 1)
    assert (row.failing_since, row.next_try_at, row.last_error) == (None, None, None)


def test_what_is_given_up_is_counted_and_left_behind(database: Database) -> None:
    with database.write() as session:
        webhooks.give_up(session, "lab", position=3, reason="status 404")
        webhooks.skip(session, "lab", position=5)
    row = standing(database)
    assert (row.position, row.given_up, row.delivered) == (5, 1, 0)


def test_a_position_never_goes_back(database: Database) -> None:
    with database.write() as session:
        webhooks.delivered(session, "lab", position=9)
        webhooks.skip(session, "lab", position=4)
    assert standing(database).position == 9
