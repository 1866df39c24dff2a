"""The pictures of the dashboard in the documents: every page, wide and on a phone, light and dark.

    python -m benchmarks.dashboard_pictures --out docs/images

It runs a lab of its own (simulated station, daemon, worker) with small models and few updates until
two iterations and a what-if are finished and a third iteration is in work, which takes some minutes; with
`--lab` the lab is kept, and a second call goes on with it. The pictures show what happened there; no number
in them is a result.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from benchmarks.chromium import Look, chromium, log_in, missing, open_page, see_pictures
from daemon.dashboard.page import PAGES
from daemon.dashboard.what_ifs import ASKED_AT
from daemon.lab import servers
from daemon.settings import Settings
from daemon.stores import open_database
from daemon.world_client import WorldClient
from storage import access_tokens
from storage.errors import RowMissing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from playwright.sync_api import StorageState as Session

CELL_SEED: Final = 5
FINISHED: Final = 2  # iterations before the one that is in work
QUALITY: Final = 62  # of the JPEGs: letters stay clean, and all forty of them together below 3 MB
WHO: Final = "ann"
LOOK_EVERY_S: Final = 0.2
LOOKS: Final = tuple(
    Look(width=width, height=height, scheme=scheme)
    for width, height in ((1440, 1000), (390, 844))
    for scheme in ("light", "dark")
)
SPEC: Final[dict[str, Any]] = {
    "seed": 1,
    "steps": 40,
    "tasks": ["open_drawer", "close_drawer"],
    "collect": {"episodes_per_task": 6, "held_out_every": 3},
    "world_model": {"updates": 40, "batch": 4},
    "judge": {"updates": 20},
    "policy": {"updates": 6, "groups": 4, "group_size": 4, "epochs": 1},
}
WHAT_IF: Final[dict[str, Any]] = {"rollouts": 2, "steps": 40}
SCHEDULE: Final = {
    "name": "nightly",
    "trigger": {"kind": "cron", "expression": "0 20 * * mon-fri", "timezone": "Europe/Berlin"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--lab", type=Path, help="keep the lab there; without it, it is thrown away")
    options = parser.parse_args()
    if (reason := missing()) is not None:
        sys.exit(f"no pictures: {reason}")
    with tempfile.TemporaryDirectory() as thrown_away:
        lab = options.lab or Path(thrown_away)
        lab.mkdir(parents=True, exist_ok=True)
        token = fresh_token(lab)
        with servers(lab.resolve(), CELL_SEED) as (_, url):
            in_work(WorldClient(url, token=token))
            with chromium() as browser:
                session = log_in(open_page(browser, url), token)
                taken = take_all(browser, url, session=session, out=options.out)
    print(f"{taken} pictures in {options.out}")


def fresh_token(lab: Path) -> str:
    """A token with all scopes for the daemon whose data lie in the lab; an earlier one of ours is revoked."""
    (lab / "data").mkdir(exist_ok=True)
    database = open_database(Settings(data_dir=lab / "data"))
    database.upgrade()
    now = datetime.now(UTC)
    with database.write() as session:
        with suppress(RowMissing):
            access_tokens.revoke(session, WHO, now=now)
        _, token = access_tokens.create(session, WHO, scopes=["admin"], expires_at=None, now=now)
    database.dispose()
    return token


def in_work(client: WorldClient) -> None:
    """Ask for iterations, one after the other, until enough are finished; for a what-if; and for one more.

    What a lab that was kept has already is not asked for again.
    """
    client.add_schedule(SCHEDULE)
    while (finished := sum(item["state"] == "finished" for item in known(client))) < FINISHED:
        number = unfinished(client, seed=finished)
        client.wait(number)
        print(f"iteration {number} is over")
    if not client.what_ifs()["items"]:
        asked = client.ask_what_if({"episode": client.episodes(limit=1)["items"][0]["id"], **WHAT_IF})
        client.wait_what_if(asked["id"])
        print("a what-if is over")
    number = unfinished(client, seed=finished)
    while not any(run["progress"] > 0 for run in client.iteration(number)["phases"]):
        time.sleep(LOOK_EVERY_S)


def unfinished(client: WorldClient, *, seed: int) -> int:
    """The number of the iteration that is in work; where there is none, of one that is asked for now."""
    in_hand = [item["number"] for item in known(client) if item["state"] in {"requested", "running"}]
    return int(in_hand[0] if in_hand else client.request_iteration({**SPEC, "seed": seed})["number"])


def known(client: WorldClient) -> list[dict[str, Any]]:
    return list(client.iterations()["items"])


def take_all(
    browser: Browser,
    url: str,
    *,
    session: Session,
    out: Path,
    looks: tuple[Look, ...] = LOOKS,
) -> int:
    """Photograph every page of a daemon in every look; gives how many pictures there are now."""
    out.mkdir(parents=True, exist_ok=True)
    for look in looks:
        page = open_page(browser, url, look=look, session=session)
        for name, path in paths(page).items():
            page.goto(path)
            see_pictures(page)
            (out / f"{name}-{look.width}-{look.scheme}.jpg").write_bytes(photograph(page))
        page.context.close()
    return len(list(out.glob("*.jpg")))


def paths(page: Page) -> Mapping[str, str]:
    """Where each page is, by the name of its picture: those of the bar, the newest of what is listed."""
    named = {name.lower(): path for path, name in PAGES}
    newest = dict(_newest(page))
    return {**named, **newest, "whatif": ASKED_AT, "login": "/login"}


def photograph(page: Page) -> bytes:
    """What the window shows, as a JPEG."""
    shown = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    file = io.BytesIO()
    shown.save(file, format="JPEG", quality=QUALITY, optimize=True, progressive=True)
    return file.getvalue()


def _newest(page: Page) -> Iterator[tuple[str, str]]:
    for name, listed, within, shows, at in (
        ("iteration", "/iterations", "tr", "finished", "/iterations/"),  # one in work has little to show
        ("episode", "/episodes", ".card", None, "/episodes/"),
        ("rollouts", ASKED_AT, "li", "succeed in imagination", "/imagination/what-ifs/"),
    ):
        page.goto(listed)
        whole = page.locator(f"main {within}").filter(has_text=shows)
        yield name, str(whole.locator(f'a[href^="{at}"]').first.get_attribute("href"))


if __name__ == "__main__":
    main()
