"""Tells webhooks of events: in order, at least once, until they have it or too much time has passed.

An event is sent first and entered as delivered after it, so a daemon that is killed in between sends it again
and never leaves it out; receivers tell doubles by the event's id. A webhook that fails holds up its own
events and nobody else's. A body is what Slack's incoming webhooks take, with the event beside the text.
"""

import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

import requests
from sqlalchemy.exc import OperationalError

from daemon.events.hooks import Webhook
from daemon.events.words import event_record
from robot_bridge.deadline import bounded_session
from storage import events, webhooks
from storage.db import Database
from storage.event_tables import EventRow, WebhookRow

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
TIMEOUT_S = 5.0  # for a whole delivery, however slowly the answer trickles in
CONNECT_S = 3.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0  # between two tries; each pause is twice the one before
LONGEST_RETRY_AFTER_S = 3600.0  # what a webhook may ask for at most
GIVE_UP_AFTER_S = 6 * 3600.0  # of failing: then the event is left out and the next one is tried
PAGE = 50  # events looked at once
SIGNATURE = "X-Gymnastd-Signature"  # sha256=HMAC of the body
BODY_REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a delivery ended. `final`: the same body would be refused again."""

    arrived: bool
    reason: str = ""
    after_s: float | None = None
    final: bool = False


class Webhooks:
    """All webhooks of the settings. `deliver` is called about once a second, by one thread at a time."""

    def __init__(
        self,
        hooks: Sequence[Webhook],
        database: Database,
        *,
        now: Callable[[], datetime],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._hooks, self._database, self._now = hooks, database, now
        self._timeout_s = timeout_s
        self._stopping = threading.Event()
        self._session, self._until = bounded_session()
        self._session.trust_env = False  # no proxy and no password file has a say in where secrets go

    def stop(self) -> None:
        """Begin no further delivery."""
        self._stopping.set()

    def enter(self) -> None:
        """Note every webhook, so that a new one is told of what happens from now on."""
        with self._database.write() as session:
            for hook in self._hooks:
                webhooks.enter(session, hook.name)

    def deliver(self) -> None:
        """Send what is due; a busy database is tried again at the next call."""
        for hook in self._hooks:
            try:
                while not self._stopping.is_set() and self._deliver_next(hook):
                    pass
            except OperationalError as failed:
                log.warning("webhook held up name=%s reason=%s", hook.name, failed.orig)

    def _deliver_next(self, hook: Webhook) -> bool:
        """Send the next event that the hook wants. Says whether to go on at once."""
        row, page = self._standing(hook)
        if not page or (row.next_try_at is not None and row.next_try_at > self._now()):
            return False
        wanted = next((event for event in page if hook.wants(event.kind)), None)
        if wanted is None:
            with self._database.write() as session:
                webhooks.skip(session, hook.name, position=page[-1].id)
            return True
        return self._enter_answer(hook, row, event=wanted, answer=self._send(hook, wanted))

    def _standing(self, hook: Webhook) -> tuple[WebhookRow, list[EventRow]]:
        with self._database.read() as session:
            row = session.get_one(WebhookRow, hook.name)
            return row, events.after(session, row.position, limit=PAGE)

    def _enter_answer(self, hook: Webhook, row: WebhookRow, *, event: EventRow, answer: Answer) -> bool:
        now = self._now()
        since = row.failing_since or now
        with self._database.write() as session:
            if answer.arrived:
                webhooks.delivered(session, hook.name, position=event.id)
                return True
            if answer.final or (now - since).total_seconds() >= GIVE_UP_AFTER_S:
                webhooks.give_up(session, hook.name, position=event.id, reason=answer.reason)
                log.error(
                    "webhook event given up name=%s event=%d reason=%s", hook.name, event.id, answer.reason
                )
                return True
            pause_s = answer.after_s or min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(row.tries, 16))
            at = now + timedelta(seconds=pause_s)
            webhooks.failed(session, hook.name, reason=answer.reason, next_try_at=at, now=now)
        log.warning(
            "webhook failed name=%s event=%d tries=%d next_in_s=%.0f reason=%s",
            hook.name, event.id, row.tries + 1, pause_s, answer.reason,
        )  # fmt: skip
        return False

    def _send(self, hook: Webhook, event: EventRow) -> Answer:
        try:
            body, headers = signed_body(hook, event)
            self._until.deadline = time.monotonic() + self._timeout_s
            with self._session.post(
                hook.url,
                data=body,
                headers=headers,
                timeout=(CONNECT_S, self._timeout_s),
                allow_redirects=False,
                stream=True,  # what it says is of no interest
            ) as answer:
                return judged(answer)
        except (requests.RequestException, OSError) as failed:
            return Answer(arrived=False, reason=type(failed).__name__)  # its words would hold the address


def signed_body(hook: Webhook, event: EventRow) -> tuple[bytes, dict[str, str]]:
    """The body of a delivery and its headers.

    Raises:
        OSError: the file with the secret cannot be read.
    """
    record = event_record(event)
    body = json.dumps({"text": f"gymnastd: {record['text']}", "event": record}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "gymnastd"}
    if hook.secret_file is not None:
        secret = hook.secret_file.read_bytes().strip()
        headers[SIGNATURE] = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    return body, headers


def judged(answer: requests.Response) -> Answer:
    """What an answer means: 2xx has it, a redirect is none, 429 and 503 may say when to come back."""
    status = answer.status_code
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Answer(arrived=True)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Answer(arrived=False, reason=f"status {status}: redirects are not followed")
    asked = answer.headers.get("Retry-After", "")
    after_s = min(LONGEST_RETRY_AFTER_S, float(asked)) if asked.isascii() and asked.isdecimal() else None
    return Answer(arrived=False, reason=f"status {status}", after_s=after_s, final=status in BODY_REFUSED)
