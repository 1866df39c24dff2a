"""What can go wrong with telling people of events.

DaemonError
└── StreamsFull     feed.py: so many listen already that one more is refused
"""

from daemon.errors import DaemonError


class StreamsFull(DaemonError):
    code = "streams_full"
    retryable = True

    def __init__(self, *, most: int) -> None:
        super().__init__(
            f"{most} event streams are open, and no more are served at once. "
            "Close one, or ask /v1/events again and again instead."
        )
