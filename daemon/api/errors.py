"""What the doors of the REST API refuse. No sentence here holds a token.

DaemonError
└── Refused                 `callers.py`, `doors.py`, `security.py`
    ├── Unauthorized        no token, or one that is not known here
    ├── Forbidden           a token without the scope
    ├── WebPageRefused      a page in a browser, while nobody is asked for a token
    ├── FormRefused         a form that no page of ours made
    ├── RateLimited         too many calls
    └── MakerUnknown        a token is to be made by nobody knows whom
    LastToken               `tokens.py`
    StationsNotStopped      `estop.py`
    PolicyUnfit, NotChampion, NoChampionBefore, LineageBusy      `promotion.py`
"""

from collections.abc import Iterable, Mapping, Sequence

from daemon.errors import DaemonError


class Refused(DaemonError):
    code = "refused"


class Unauthorized(Refused):
    code = "unauthorized"

    def __init__(self, *, found: str) -> None:
        super().__init__(
            f"this API needs a bearer token, found {found}. Send `Authorization: Bearer …`; "
            "`gymnastd token create` makes one on the daemon's machine."
        )


class Forbidden(Refused):
    code = "forbidden"

    def __init__(self, *, needed: str, name: str, scopes: Iterable[str]) -> None:
        found = ", ".join(sorted(scopes))
        super().__init__(
            f"this call needs the scope {needed}, token {name} has {found}. Use one that has it."
        )


class WebPageRefused(Refused):
    code = "web_page_refused"

    def __init__(self, *, origin: str) -> None:
        super().__init__(
            f"this call came from the web page {origin[:200]!r}, and no page may call while nobody is asked "
            "for a token. Make one with `gymnastd token create` and send it."
        )


class FormRefused(Refused):
    code = "form_refused"

    def __init__(self, *, why: str) -> None:
        super().__init__(
            f"this form was refused: {why}. Nothing was done. Load the page again and repeat it."
        )


class RateLimited(Refused):
    code = "rate_limited"
    retryable = True

    def __init__(self, *, after_s: int, what: str) -> None:
        super().__init__(f"too many {what}. Try again in {after_s} s.")
        self.after_s = after_s


class MakerUnknown(Refused):
    code = "maker_unknown"

    def __init__(self) -> None:
        super().__init__(
            "nobody is asked for a token here yet, so nobody knows who would make this one. "
            "Make the first with `gymnastd token create` on the daemon's machine."
        )


class LastToken(DaemonError):
    code = "last_token"

    def __init__(self, *, name: str) -> None:
        super().__init__(
            f"access token {name} is the last in force: revoking it would open the API, or close it to all. "
            "It stays. Make another first, or use `gymnastd token revoke` on the daemon's machine."
        )


class StationsNotStopped(DaemonError):
    code = "stations_not_stopped"
    retryable = True

    def __init__(self, *, failed: Mapping[str, str], stopped: Sequence[str]) -> None:
        told = "; ".join(f"{address}: {reason}" for address, reason in failed.items())
        others = f" Stopped: {', '.join(stopped)}." if stopped else ""
        super().__init__(f"NOT STOPPED: {told}. Press the red button at the robot now.{others}")


class PolicyUnfit(DaemonError):
    code = "policy_unfit"

    def __init__(self, *, checkpoint_id: str, lineage: str, why: str) -> None:
        super().__init__(
            f"checkpoint {checkpoint_id} cannot be the champion of lineage {lineage}: {why}. "
            "Nothing was changed. `gymnastd policies` lists what there is."
        )


class NotChampion(DaemonError):
    code = "not_champion"

    def __init__(self, *, checkpoint_id: str, lineage: str, champion: str | None) -> None:
        found = "it has none yet" if champion is None else f"policy {champion} is"
        super().__init__(
            f"policy {checkpoint_id} is not the champion of lineage {lineage}: {found}. Nothing was changed. "
            "Look again with `gymnastd policies`, and decide again."
        )


class NoChampionBefore(DaemonError):
    code = "no_champion_before"

    def __init__(self, *, checkpoint_id: str, lineage: str) -> None:
        super().__init__(
            f"policy {checkpoint_id} is the first champion of lineage {lineage}, so there is none to go back "
            "to. Make another one champion with `gymnastd promote`."
        )


class LineageBusy(DaemonError):
    """What an iteration has begun with stays until its end."""

    code = "lineage_busy"
    retryable = True

    def __init__(self, *, lineage: str, number: int, state: str) -> None:
        super().__init__(
            f"iteration {number} of lineage {lineage} is {state}, and what comes of it could undo another "
            f"decision about the champion. Wait until it is over, or `gymnastd cancel {number}`."
        )
