"""Asking a policy that may fail or hang, with a deadline, and without ever asking it two things at once.

A call cannot be stopped from outside, so it runs in a thread of its own, and a late answer is not thrown
away: the arm was held still meanwhile, and the answer stands for the next question. That also keeps whole the
chunk that the policy decided. What is asked, and what is sent in place of an answer, is not here.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeVar

from robot_bridge.errors import PolicyError, PolicyFailed, PolicyUnreachable

Answer = TypeVar("Answer")

REASON_MAX: Final = 200  # characters of an error that is not ours


class PolicyThread:
    """Calls one policy, one call after the other. A call that hangs keeps no program from ending."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"policy of {name}", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], Answer]) -> Future[Answer]:
        """Call it as soon as all earlier calls have ended."""
        future: Future[Answer] = Future()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """Let the thread end once the call in it has."""
        self._calls.put(None)

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except Exception as error:  # whatever it is belongs to the one who asked
                future.set_exception(error)


class Question(Generic[Answer]):
    """One thing that is asked of a policy again and again, by one thread at a time."""

    def __init__(self, thread: PolicyThread, call: str) -> None:
        self._thread = thread
        self._name = call
        self._pending: Future[Answer] | None = None

    def ask(self, call: Callable[[], Answer], *, within_s: float) -> Answer:
        """The answer, or that of the call before when it had come too late.

        Raises:
            PolicyError: no answer in time, or the call failed, whatever it raised.
        """
        if self._pending is None or (self._pending.done() and self._pending.exception() is not None):
            self._pending = self._thread.submit(call)
        try:
            error = self._pending.exception(timeout=within_s)
        except TimeoutError as cause:
            raise PolicyUnreachable(
                url=f"of {self._thread.name}", call=self._name, waited_s=within_s, reason="it still decides"
            ) from cause
        answered, self._pending = self._pending, None
        if error is None:
            return answered.result()
        raise self._said(error)

    def drop(self) -> None:
        """Expect no answer any more; a call that has not begun never will."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    def _said(self, error: BaseException) -> PolicyError:
        if isinstance(error, PolicyError):
            return error
        failed = PolicyFailed(url=f"of {self._thread.name}", reason=repr(error)[:REASON_MAX])
        failed.__cause__ = error
        return failed
