"""What can go wrong with what-ifs and with pictures that people send.

WorldError (DaemonError)
├── PictureUnusable      not a PNG or JPEG of a size that is looked at
├── WhatIfsFull          so many wait already
├── WhatIfOverdue        one that took too long; the worker
├── WhatIfFailed         the REST client's word for one that ended badly
└── WhatIfWaits          the REST client's word for one that it waited for long enough
"""

from daemon.errors import DaemonError


class WorldError(DaemonError):
    code = "world_error"


class PictureUnusable(WorldError):
    code = "picture_unusable"

    def __init__(self, *, expected: str, found: str) -> None:
        super().__init__(f"the picture cannot be used: expected {expected}, found {found}. Nothing was kept.")


class WhatIfsFull(WorldError):
    code = "what_ifs_full"
    retryable = True

    def __init__(self, *, most: int) -> None:
        super().__init__(f"{most} what-ifs wait already. Ask again when some of them are done.")


class WhatIfOverdue(WorldError):
    """It is not tried again: the next attempt would be as slow."""

    code = "what_if_overdue"

    def __init__(self, *, limit_s: float) -> None:
        super().__init__(
            f"the what-if was not done after {limit_s:.0f} s. Ask for fewer rollouts, or for fewer steps."
        )


class WhatIfFailed(WorldError):
    code = "what_if_failed"

    def __init__(self, *, what_if_id: str, error_code: str, message: str) -> None:
        super().__init__(f"what-if {what_if_id} failed with {error_code}: {message}")


class WhatIfWaits(WorldError):
    code = "what_if_waits"
    retryable = True

    def __init__(self, *, what_if_id: str, state: str, waited_s: float) -> None:
        super().__init__(
            f"what-if {what_if_id} is still {state} after {waited_s:.0f} s of waiting; it goes on. See with "
            "`gymnastd doctor` and `gymnastd status` whether a worker runs and what it does."
        )
