"""What the database says to Prometheus: counts by state, the last success rates, queues, stations, webhooks.

Every number is one query over an index, so it costs milliseconds with a hundred thousand episodes; and the
numbers are kept for some seconds, however many ask.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from daemon.exposition import Family, Labels, Sample, gauge
from daemon.iteration import success_rate
from daemon.success import success_of
from storage import events, iterations, lineages, station_health, webhooks
from storage.db import Database
from storage.event_tables import WebhookRow
from storage.phase_runs import ATTEMPTS_EXHAUSTED, LEASE_EXPIRED
from storage.station_health import StationHealth
from storage.tables import EpisodeRow, IterationRow, PhaseRunRow

KEPT_S = 5.0
NEWEST = 20  # iterations in which the last judged episodes are looked for


class Measurements:
    """The numbers, at most `KEPT_S` old. One caller measures, others meanwhile wait for it."""

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], datetime],
        hooks: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._now, self._clock = database, now, clock
        self._hooks = hooks
        self._lock = threading.Lock()
        self._kept: tuple[float, list[Family]] | None = None

    def families(self) -> list[Family]:
        with self._lock:
            if self._kept is None or self._clock() - self._kept[0] >= KEPT_S:
                with self._database.read() as session:
                    self._kept = self._clock(), measure(session, now=self._now(), hooks=self._hooks)
            return self._kept[1]


def measure(session: Session, *, now: datetime, hooks: Collection[str]) -> list[Family]:
    """Everything that the database knows and Prometheus wants."""
    return [
        *_iterations(session),
        *_phases(session, now=now),
        _episodes(session),
        *_success(session),
        *_stations(station_health.of_stations(session)),
        *_telling(session, hooks),
    ]


def _iterations(session: Session) -> list[Family]:
    by_state = _by_state(session, IterationRow.state)
    return [_counts("gymnastd_iterations", "Iterations by state.", by_state)]


def _phases(session: Session, *, now: datetime) -> list[Family]:
    expired = PhaseRunRow.error_code.in_((LEASE_EXPIRED, ATTEMPTS_EXHAUSTED))
    expiries = session.scalars(sa.select(sa.func.count()).select_from(PhaseRunRow).where(expired)).one()
    queued = sa.select(PhaseRunRow.queued_at).where(PhaseRunRow.state == "queued")
    oldest = session.scalars(queued.order_by(PhaseRunRow.queued_at).limit(1)).first()
    return [
        _counts("gymnastd_phase_runs", "Attempts at phases by state.", _by_state(session, PhaseRunRow.state)),
        gauge(
            "gymnastd_queue_age_seconds",
            "How long the oldest phase run has waited for a worker.",
            max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
        ),
        Family(
            name="gymnastd_lease_expiries_total",
            kind="counter",
            meaning="Phase runs whose worker went silent.",
            samples=(Sample(value=expiries),),
        ),
    ]


def _episodes(session: Session) -> Family:
    columns = (EpisodeRow.task_id, EpisodeRow.valid_for_policy_eval, EpisodeRow.valid_for_world_model)
    query = sa.select(*columns, sa.func.count()).group_by(*columns).order_by(*columns)
    return Family(
        name="gymnastd_episodes",
        kind="gauge",
        meaning="Episodes in the store by task, and by what they are valid for.",
        samples=tuple(
            Sample(
                value=count,
                labels={"task": task, "policy_eval": _said(policy), "world_model": _said(world_model)},
            )
            for task, policy, world_model, count in session.execute(query)
        ),
    )


def _success(session: Session) -> list[Family]:
    """The real success of the newest iteration of each lineage with a judged episode."""
    newest, _ = iterations.list_numbers(session, limit=NEWEST)
    ids = [iteration_id for iteration_id, _ in newest]
    told, of = success_of(session, ids), lineages.of_iterations(session, ids)
    judged = {of[id_]: (number, told[id_]) for id_, number in reversed(newest) if told[id_]}
    by_task = {
        (name, task): success_rate(*count)
        for name, (_, counts) in sorted(judged.items())
        for task, count in counts.items()
    }
    rates = [
        _by_task(name, meaning, {group: float(rate[key]) for group, rate in by_task.items()})
        for name, meaning, key in (
            ("gymnastd_success_rate_low", "Wilson 95 % interval of it, low.", "wilson_low"),
            ("gymnastd_success_rate_high", "Wilson 95 % interval of it, high.", "wilson_high"),
            ("gymnastd_success_episodes", "Judged episodes behind it.", "episodes"),
        )
    ]
    shares = {group: rate["successes"] / rate["episodes"] for group, rate in by_task.items()}
    families = [_by_task("gymnastd_success_rate", "Last real success rate.", shares), *rates]
    if not judged:
        return families
    numbers = Family(
        name="gymnastd_success_iteration",
        kind="gauge",
        meaning="The iteration that the rates are of.",
        samples=tuple(
            Sample(value=number, labels={"lineage": name}) for name, (number, _) in sorted(judged.items())
        ),
    )
    return [*families, numbers]


def _stations(stations: Sequence[StationHealth]) -> list[Family]:
    """The newest episodes of each station; what was not measured has no sample."""
    told = {
        "contact_timestamp_seconds": "When a station was last heard of.",
        "episodes": "Newest collected episodes that the other numbers of a station are of.",
        "invalid_share": "Share of them that say nothing about the policy.",
        "cut_share": "Share of their steps that the safety pipeline cut, by stage; any is all together.",
        "inference_ms": "How long a policy took to answer, in milliseconds, by quantile.",
        "step_ms": "From one observation to the next, in milliseconds, by quantile.",
    }
    samples: dict[str, list[Sample]] = {name: [] for name in told}
    for one in stations:
        for name, found in _station(one).items():
            samples[name] += found
    return [
        Family(name=f"gymnastd_station_{name}", kind="gauge", meaning=meaning, samples=tuple(samples[name]))
        for name, meaning in told.items()
    ]


def _station(one: StationHealth) -> dict[str, list[Sample]]:
    """Samples of one station, by the name of their family."""

    def sample(value: float, **labels: str) -> Sample:
        return Sample(value=value, labels={"station": one.station_id, **labels})

    cuts = {"any": one.cut_steps, **one.cuts}
    found = {
        "contact_timestamp_seconds": [sample(one.last_contact_at.timestamp())],
        "episodes": [sample(one.episodes)],
        "invalid_share": [sample(one.invalid / one.episodes)] if one.episodes else [],
        "cut_share": [sample(n / one.steps, stage=stage) for stage, n in cuts.items()] if one.steps else [],
    }
    for name, latency in (("inference_ms", one.inference), ("step_ms", one.step)):
        if latency is not None:
            half, most = sample(latency.p50_ms, quantile="0.5"), sample(latency.p99_ms, quantile="0.99")
            found[name] = [half, most]
    return found


def _telling(session: Session, hooks: Collection[str]) -> list[Family]:
    newest = events.newest_position(session)
    rows = [row for row in webhooks.all_rows(session) if row.name in hooks]  # others are told of nothing more

    def by_hook(value: Callable[[WebhookRow], float]) -> tuple[Sample, ...]:
        return tuple(Sample(value=value(row), labels={"webhook": row.name}) for row in rows)

    return [
        gauge("gymnastd_events_newest", "Position of the newest event.", newest),
        Family(
            name="gymnastd_webhook_behind",
            kind="gauge",
            meaning="Events that a webhook was not told of yet, wanted or not.",
            samples=by_hook(lambda row: max(0, newest - row.position)),
        ),
        Family(
            name="gymnastd_webhook_given_up_total",
            kind="counter",
            meaning="Events that a webhook will never be told of.",
            samples=by_hook(lambda row: row.given_up),
        ),
    ]


def _by_task(name: str, meaning: str, values: Mapping[tuple[str, str], float]) -> Family:
    samples = tuple(
        Sample(value=value, labels={"lineage": lineage, "task": task})
        for (lineage, task), value in values.items()
    )
    return Family(name=name, kind="gauge", meaning=meaning, samples=samples)


def _by_state(session: Session, state: InstrumentedAttribute[str]) -> list[tuple[Labels, int]]:
    query = sa.select(state, sa.func.count()).group_by(state).order_by(state)
    return [({"state": name}, count) for name, count in session.execute(query)]


def _counts(name: str, meaning: str, counts: list[tuple[Labels, int]]) -> Family:
    samples = tuple(Sample(value=count, labels=labels) for labels, count in counts)
    return Family(name=name, kind="gauge", meaning=meaning, samples=samples)


def _said(flag: bool) -> str:
    return "true" if flag else "false"
