"""A daemon with something on every page: hostile names, a full list of episodes, films of a cell.

It is served without workers, and nothing in it moves.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient

from daemon.app import create_app
from daemon.dashboard.episodes import SHOWN
from daemon.dashboard.page import PAGES
from daemon.dashboard.what_ifs import ASKED_AT
from daemon.film import film_of
from daemon.iteration import advance
from daemon.settings import Settings
from robot_bridge.drivers.cell import cell_variant
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.episode import Episode, EpisodeHeader, assemble
from robot_bridge.frames import FrameBlob
from storage import access_tokens, episodes, iterations, phase_runs, what_ifs
from storage.db import Database
from storage.phase_runs import ClaimedRun
from tests.daemon.conftest import build_episode
from tests.daemon.dashboard.laboratory import HOSTILE, fill
from tests.daemon.serving import serving

STEPS = 40  # of an episode at a station, and of a rollout
ROLLOUTS = 4


@dataclass(frozen=True, slots=True)
class FullDaemon:
    """Where it is served, who may do everything, and all its pages, two of which have films."""

    url: str
    token: str
    paths: tuple[str, ...]
    episode: str
    what_if: str


@contextmanager
def full_daemon(folder: Path) -> Iterator[FullDaemon]:
    """Fill a data directory, then serve it on loopback; with a token that may do everything."""
    settings = Settings(data_dir=folder, worker_count=0)
    with TestClient(create_app(settings)) as client:
        services = client.app.state.services
        episode = f"/episodes/{fill_everything(client, services, folder)}"
        what_if = f"/imagination/what-ifs/{imagine(client, services)}"
        with services.database.write() as session:
            now = datetime.now(UTC)
            _, token = access_tokens.create(session, "ann", scopes=["admin"], expires_at=None, now=now)
    others = ("/iterations/2", "/iterations/99", episode, ASKED_AT, what_if, "/login")
    paths = (*(path for path, _ in PAGES), *others)
    with serving(settings) as served:
        yield FullDaemon(served.url, token, paths, episode, what_if)


def fill_everything(client, services, folder: Path) -> str:
    """Two iterations, a third that is paused, and a page of episodes; gives the id of the newest."""
    database = services.database

    def finish(**outcome) -> ClaimedRun:
        claimed = claim(database)
        with database.write() as session:
            phase_runs.finish(session, claimed, outcome=outcome, now=datetime.now(UTC))
        return claimed

    fill(client, finish, database, services.blobs, folder)
    assert client.post("/v1/iterations", json={"seed": 3}).status_code == 201
    assert client.post("/v1/iterations/3/pause").status_code == 200
    film = camera_film()
    with database.write() as session:
        rows, _ = iterations.list_iterations(session)
        for number in range(100, 100 + SHOWN):
            built = with_film(build_episode(number, success=number % 2 == 0, steps=STEPS), film)
            origin = episodes.Provenance(origin="collect", iteration_id=rows[-1].id)
            at = datetime.now(UTC) + timedelta(milliseconds=number)
            episodes.commit(session, services.blobs, built, provenance=origin, now=at)
    return built.manifest.episode_id


def imagine(client, services) -> str:
    """A what-if that is finished, with films of a cell; gives its id."""
    film = camera_film()
    wish = {"image": base64.b64encode(film.jpeg(0)).decode(), "instruction": HOSTILE, "rollouts": ROLLOUTS}
    answer = client.post("/v1/worlds/what-if", json=wish)
    assert answer.status_code == 202, answer.text
    blobs, now = services.blobs, datetime.now(UTC)
    along = [step / STEPS for step in range(STEPS + 1)]
    rollout = {"success": True, "probability": 0.9, "along": along, "strip": blobs.put(film.jpeg(0))}
    rollout["film"] = blobs.put(film_of(film.decode_all(), frames_per_s=5.0))
    result = {
        "read": {"policy": {"id": "p", "number": 3}},
        "steps": STEPS,
        "trusted_steps": STEPS // 2,
        "rate": {"successes": 3, "judged": 3, "declined": 1, "wilson_low": 0.4, "wilson_high": 1.0},
        "rollouts": [*[rollout] * (ROLLOUTS - 1), {**rollout, "success": None, "probability": None}],
    }
    with services.database.write() as session:
        claimed = what_ifs.claim(session, "w", ttl_s=60, now=now)
        assert claimed is not None
        what_ifs.finish(session, claimed, result=result, now=now)
    return claimed.what_if_id


def claim(database: Database) -> ClaimedRun:
    """Claim the next phase, as a worker does."""
    while True:
        at = datetime.now(UTC)  # the daemon's own clockwork runs beside, on the wall clock
        with database.write() as session:
            advance(session, now=at)
            if (claimed := phase_runs.claim(session, "w", ttl_s=3600, now=at)) is not None:
                return claimed


def camera_film() -> FrameBlob:
    """As many pictures as an episode has, of the size that stations send, taken in a simulated cell."""
    with closing(MujocoWidowX(cell=cell_variant(5))) as cell:
        picture = cell.reset("open_drawer", seed=0).image
    return FrameBlob.of_images(np.repeat(picture[None], STEPS + 1, axis=0))


def with_film(episode: Episode, film: FrameBlob) -> Episode:
    """The same episode with other pictures."""
    header = {name: getattr(episode.manifest, name) for name in EpisodeHeader.model_fields}
    return assemble(EpisodeHeader(**header), steps=episode.steps, frames=film)
