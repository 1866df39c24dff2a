"""Ends that were asked for: SIGTERM unwinds a server as Ctrl-C does, so that all it started is taken down."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def interrupted_by(number: signal.Signals) -> Iterator[None]:
    """Treat a signal like Ctrl-C inside the block, and Ctrl-C as an end that was asked for.

    Without it the signal's default would end this process before the block's parts are taken down.
    """
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        log.info("stopped by signal")
    finally:
        signal.signal(number, before)
