"""What a webhook is: a name, an address, the events it wants. Part of the settings, never of the API."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from daemon.events.words import FOR_PEOPLE, SENTENCES

EVERYTHING = "*"


class Webhook(BaseModel):
    """One place that is told. Its address may be a secret: it is in no log, no event and no answer.

    Attributes:
        events: kinds, or `*` for all.
        secret_file: holds the key of the signature; without it nothing is signed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    url: Annotated[str, Field(repr=False)]
    events: tuple[str, ...] = FOR_PEOPLE
    secret_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _address_is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            raise ValueError("expected an address like https://hooks.example.org/T1, without a password")
        return url

    @field_validator("events")
    @classmethod
    def _kinds_exist(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [kind for kind in kinds if kind not in SENTENCES and kind != EVERYTHING]
        if unknown or not kinds:
            known = ", ".join(SENTENCES)
            raise ValueError(f"expected * or some of {known}, found {', '.join(unknown) or 'none'}")
        return kinds

    def wants(self, kind: str) -> bool:
        """Whether this webhook is told of such an event."""
        return EVERYTHING in self.events or kind in self.events
