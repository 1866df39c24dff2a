"""Metric summaries: last values, finite ones only."""

import math
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from storage import iterations, metrics, phase_runs
from storage.db import Database
from storage.errors import MetricNotFinite


@pytest.fixture
def phase_run_id(database: Database, now: datetime) -> str:
    with database.write() as session:
        iteration, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        return phase_runs.queue(session, iteration, phase="collect", now=now).id


def test_the_last_value_of_each_metric_is_kept(database: Database, phase_run_id: str, now: datetime) -> None:
    with database.write() as session:
        metrics.record(session, phase_run_id, {"loss": 0.5, "clip_fraction": 0.25}, now=now)
        metrics.record(session, phase_run_id, {"loss": 0.125}, now=now + timedelta(seconds=1))
    with database.read() as session:
        assert metrics.read(session, phase_run_id) == {"clip_fraction": 0.25, "loss": 0.125}


def test_a_run_without_metrics_reads_as_empty(database: Database, phase_run_id: str) -> None:
    with database.read() as session:
        assert metrics.read(session, phase_run_id) == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_refused_and_none_of_its_fellows_is_kept(
    database: Database, phase_run_id: str, now: datetime, value: float
) -> None:
    with database.write() as session:
        with pytest.raises(MetricNotFinite, match=f"metric 'loss' of phase run {phase_run_id} is"):
            metrics.record(session, phase_run_id, {"fine": 1.0, "loss": value}, now=now)
        assert metrics.read(session, phase_run_id) == {}


def test_float64_comes_back_bit_for_bit(database: Database, phase_run_id: str, now: datetime) -> None:
    values = {"third": 1 / 3, "tiny": 5e-324, "huge": 1.7976931348623157e308, "negative": -0.1}
    with database.write() as session:
        metrics.record(session, phase_run_id, values, now=now)
    with database.read() as session:
        assert metrics.read(session, phase_run_id) == values


def test_metrics_of_a_run_that_does_not_exist_are_refused_by_the_database(
    database: Database, now: datetime
) -> None:
    with pytest.raises(sa.exc.IntegrityError), database.write() as session:
        metrics.record(session, "no-such-run", {"loss": 1.0}, now=now)
