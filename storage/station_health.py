"""How well stations do: steps that their safety pipeline cut, latencies, invalid episodes; of the newest.

Each episode is measured once, when it is committed. A latency is kept as a histogram, since histograms of
many episodes add up and percentiles do not: "k": n says that n steps took at most 10^(k / 100) ms, and more
than that of k - 1; the lowest bucket, "0", is everything up to a millisecond.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from robot_bridge.episode import Episode
from robot_bridge.safety import FALLBACK, HELD, STAGES
from storage import stations
from storage.health_tables import EpisodeHealthRow
from storage.tables import EpisodeRow, StationRow

NEWEST: Final = 200  # episodes of a station that are looked at: a night or two
BUCKETS_PER_DECADE: Final = 100  # a percentile is told at most 3 % too long
OWN_SAFETY: Final = ("stepped", "callback")  # modes in which our station's pipeline saw every step
BESIDE: Final = {"held": HELD, "fallback": FALLBACK}  # told with the stages, but nothing was cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Percentiles in milliseconds: half, and 99 of 100, of the `steps` took at most so long."""

    steps: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StationHealth:
    """The newest collected episodes of one station.

    Attributes:
        last_contact_at: when it last described itself or gave an episode.
        episodes: how many were looked at, `NEWEST` at most; `invalid` of them say nothing about the policy.
        measured: those of them whose recording was measured; no others are in what follows.
        steps: of measured episodes whose robot tells what was cut; `cut_steps` of them were.
        cuts: steps by the stage that cut them; a step may be in several. Also those before which the arm was
            `held`, and those of a `fallback` action because the policy did not answer.
        inference: how long a policy took to answer, over the steps at which one was asked.
        step: from one observation to the next.
    """

    station_id: str
    last_contact_at: datetime
    episodes: int
    invalid: int
    measured: int
    steps: int
    cut_steps: int
    cuts: Mapping[str, int]
    inference: Latency | None
    step: Latency | None


def keep(session: Session, episode: Episode) -> None:
    """Measure an episode that is being committed, and keep what was found."""
    cut_steps, cuts = _cut(episode)
    session.add(
        EpisodeHealthRow(
            episode_id=episode.manifest.episode_id,
            cut_steps=cut_steps,
            cuts=cuts,
            inference_ms=histogram(episode.steps.infer_ms[episode.steps.infer_ms > 0]),
            step_ms=histogram(_periods_ms(episode)),
        )
    )


def of_stations(session: Session) -> list[StationHealth]:
    """Every station, by name."""
    return [of_station(session, row) for row in stations.list_stations(session)]


def of_station(session: Session, station: StationRow) -> StationHealth:
    """One station."""
    query = (
        sa.select(EpisodeRow.steps, EpisodeRow.valid_for_policy_eval, EpisodeHealthRow)
        .outerjoin(EpisodeHealthRow, EpisodeHealthRow.episode_id == EpisodeRow.id)
        .where(EpisodeRow.station_id == station.id, EpisodeRow.origin == "collect")
        .order_by(EpisodeRow.committed_at.desc(), EpisodeRow.id.desc())
    )
    rows = session.execute(query.limit(NEWEST)).all()
    measured = [(steps, health) for steps, _, health in rows if health is not None]
    telling = [(steps, health) for steps, health in measured if health.cut_steps is not None]
    cuts: Counter[str] = Counter()
    for _, health in telling:
        cuts.update(health.cuts)
    return StationHealth(
        station_id=station.id,
        last_contact_at=station.last_seen_at,
        episodes=len(rows),
        invalid=sum(not valid for _, valid, _ in rows),
        measured=len(measured),
        steps=sum(steps for steps, _ in telling),
        cut_steps=sum(health.cut_steps or 0 for _, health in telling),
        cuts=dict(cuts.most_common()),
        inference=latency(health.inference_ms for _, health in measured),
        step=latency(health.step_ms for _, health in measured),
    )


def histogram(milliseconds: NDArray[np.floating]) -> dict[str, int]:
    """How many of these times [n] are in each bucket; empty ones are left out."""
    shortest = np.maximum(milliseconds.astype(np.float64), 1.0)
    buckets = np.ceil(np.round(BUCKETS_PER_DECADE * np.log10(shortest), 6)).astype(int)
    found, counts = np.unique(buckets, return_counts=True)
    return {str(bucket): int(count) for bucket, count in zip(found, counts, strict=True)}


def latency(histograms: Iterable[Mapping[str, int]]) -> Latency | None:
    """The percentiles of all histograms together; None of no step."""
    together: Counter[int] = Counter()
    for one in histograms:
        together.update({int(bucket): count for bucket, count in one.items()})
    steps = together.total()
    if not steps:
        return None
    return Latency(steps=steps, p50_ms=_percentile(together, 0.5), p99_ms=_percentile(together, 0.99))


def _percentile(counts: Counter[int], share: float) -> float:
    wanted, seen = math.ceil(share * counts.total()), 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            break
    return round(float(10.0 ** (bucket / BUCKETS_PER_DECADE)), 1)


def _cut(episode: Episode) -> tuple[int | None, dict[str, int] | None]:
    if episode.manifest.mode not in OWN_SAFETY:
        return None, None
    flags = episode.steps.flags
    told = {name: int((flags & bit != 0).sum()) for name, bit in {**STAGES, **BESIDE}.items()}
    every_stage = sum(STAGES.values())
    return int((flags & every_stage != 0).sum()), {name: count for name, count in told.items() if count}


def _periods_ms(episode: Episode) -> NDArray[np.float64]:
    """From each observation to the next [T]; none where the times follow from the rate alone."""
    if episode.manifest.metadata.get("times") == "nominal":
        return np.zeros(0)
    return 1000.0 * np.diff(episode.steps.t_obs)
