"""Whether a worker tries again what failed."""

from sqlalchemy.exc import OperationalError


def may_retry(error: Exception) -> bool:
    """Whether trying again may help: the error says so itself; faults of a machine pass, bugs do not."""
    stated = getattr(error, "retryable", None)
    return bool(stated) if stated is not None else isinstance(error, OSError | OperationalError)
