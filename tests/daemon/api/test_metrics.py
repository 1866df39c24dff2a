"""Metrics over HTTP: valid, complete, cheap, and of no more series than there are routes."""

import re
import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from daemon.api.request_counts import BOUNDS_S, RequestCounts
from daemon.measurements import KEPT_S, Measurements, measure
from robot_bridge.safety import CLIPPED_BOX, CLIPPED_SPEED
from storage import episodes, events, iterations, phase_runs, stations, webhooks
from storage.tables import EpisodeRow

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABELS = r'(?:\{[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"(?:,[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*")*\})?'
SAMPLE = re.compile(rf"({NAME})({LABELS}) (-?[0-9.e+-]+|NaN|[+-]Inf)")
PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@pytest.fixture
def database(sqlite_database):
    return sqlite_database


def parsed(text):
    """Every sample by name and labels; fails where a line is none of the format's."""
    found, types, last = {}, {}, None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in types, "a family stands together"
            types[name], last = kind, name
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            base = re.sub("_(bucket|sum|count)$", "", name) if types.get(last) == "histogram" else name
            assert base == last, f"{line} stands under {last}"
            key = (name, frozenset(PAIR.findall(labels)))
            assert key not in found, line
            found[key] = float(value)
    return found, types


def metrics(client):
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parsed(answer.text)


def value(found, name, **labels):
    return found[name, frozenset(labels.items())]


def test_a_fresh_daemon_tells_valid_numbers(client):
    found, types = metrics(client)
    assert value(found, "gymnastd_workers_alive") == 0
    assert value(found, "gymnastd_disk_free_bytes") > 0
    assert value(found, "gymnastd_queue_age_seconds") == 0
    assert value(found, "gymnastd_lease_expiries_total") == 0
    (build,) = [dict(labels) for name, labels in found if name == "gymnastd_build_info"]
    assert set(build) == {"version", "python"}
    assert types["gymnastd_lease_expiries_total"] == "counter"


def test_requests_are_counted_by_template_and_status(client):
    for number in (1, 2, 3):
        client.get(f"/v1/iterations/{number}")
    client.get("/nowhere")
    client.get("/nowhere/else")
    client.post("/v1/iterations", json={})
    client.post("/v1/iterations", json={"tasks": ["x" * 300_000]})
    found, _ = metrics(client)

    def requests(route, status, method="GET"):
        return value(found, "gymnastd_http_requests_total", method=method, route=route, status=status)

    assert requests("/v1/iterations/{number}", "404") == 3
    assert requests("other", "404") == 2
    assert requests("/v1/iterations", "201", "POST") == 1
    assert requests("other", "413", "POST") == 1, "refused before it had a route"


def test_methods_that_nobody_knows_are_one_series(client):
    for method in ("BREW", "WHEN"):
        client.request(method, "/v1/iterations")
    found, _ = metrics(client)
    methods = {dict(labels)["method"] for name, labels in found if name == "gymnastd_http_requests_total"}
    assert methods == {"other"}


def test_a_histogram_adds_up(client):
    client.get("/healthz")
    found, types = metrics(client)
    labels = {"method": "GET", "route": "/healthz"}
    name = "gymnastd_http_request_seconds"
    buckets = [value(found, f"{name}_bucket", **labels, le=str(bound)) for bound in (*BOUNDS_S, "+Inf")]
    assert types[name] == "histogram"
    assert buckets == sorted(buckets)
    assert buckets[-1] == value(found, f"{name}_count", **labels) == 1
    assert value(found, f"{name}_sum", **labels) > 0


def test_an_answer_that_takes_as_long_as_a_bound_is_within_it():
    counts = RequestCounts()
    for took_s in (BOUNDS_S[0], BOUNDS_S[0] * 1.01, BOUNDS_S[-1] + 1):
        counts.add(("GET", "/"), "200", took_s=took_s)
    buckets = [s.value for s in counts.families()[1].samples if s.suffix == "_bucket"]
    assert buckets == [1] + [2] * (len(BOUNDS_S) - 1) + [3]


def numbers(database, now):
    with database.read() as session:
        families = measure(session, now=now, hooks=["lab"])
    return {(f.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def test_iterations_runs_and_the_queue_are_told_by_state(database, now):
    with database.write() as session:
        rows = [
            iterations.request_iteration(session, spec={"n": n}, idempotency_key=None, now=now)[0]
            for n in range(2)
        ]
        phase_runs.queue(session, rows[0], phase="collect", now=now)
    with database.write() as session:
        iterations.cancel(session, rows[1].id, now=now)
    found = numbers(database, now + timedelta(seconds=40))
    assert value(found, "gymnastd_iterations", state="requested") == 1
    assert value(found, "gymnastd_iterations", state="cancelled") == 1
    assert value(found, "gymnastd_phase_runs", state="queued") == 1
    assert value(found, "gymnastd_queue_age_seconds") == 40


def test_a_worker_that_went_silent_is_counted(database, now):
    with database.write() as session:
        row, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        phase_runs.queue(session, row, phase="collect", now=now)
    with database.write() as session:
        phase_runs.claim(session, "w", ttl_s=1, now=now)
    with database.write() as session:
        phase_runs.abandon_expired(session, now=now + timedelta(seconds=5))
    assert value(numbers(database, now), "gymnastd_lease_expiries_total") == 1


def test_episodes_and_the_last_success_are_told_by_task(database, blobs, now, an_episode):
    with database.write() as session:
        for turn in range(2):
            row, _ = iterations.request_iteration(session, spec={"n": turn}, idempotency_key=None, now=now)
            if turn == 0:  # the newer one has no episode yet
                for number, success in enumerate((True, True, False, None), 1):
                    provenance = episodes.Provenance(origin="collect", iteration_id=row.id)
                    episodes.commit(
                        session, blobs, an_episode(number, success=success), provenance=provenance, now=now
                    )
    found = numbers(database, now)
    task = {"lineage": "main", "task": "open_drawer"}
    valid = {"policy_eval": "true", "world_model": "true"}
    assert value(found, "gymnastd_episodes", task="open_drawer", **valid) == 4
    assert value(found, "gymnastd_success_rate", **task) == pytest.approx(2 / 3)
    assert value(found, "gymnastd_success_episodes", **task) == 3
    assert value(found, "gymnastd_success_iteration", lineage="main") == 1
    low, high = (value(found, f"gymnastd_success_rate_{end}", **task) for end in ("low", "high"))
    assert 0 < low < 2 / 3 < high < 1


def test_stations_tell_what_was_cut_how_long_it_took_and_when_they_were_heard_of(
    database, blobs, now, an_episode
):
    with database.write() as session:
        stations.ensure(session, "silent", now=now)
        for number, cut in enumerate(([CLIPPED_BOX | CLIPPED_SPEED, CLIPPED_SPEED], []), 1):
            built, origin = an_episode(number, steps=4, cut=cut), episodes.Provenance(origin="collect")
            row, _ = episodes.commit(session, blobs, built, provenance=origin, now=now)
        row.valid_for_policy_eval = False
    found = numbers(database, now)
    cell = {"station": "cell-1"}
    shares = {stage: value(found, "gymnastd_station_cut_share", stage=stage, **cell) for stage in (
        "any", "speed", "box",
    )}  # fmt: skip
    assert shares == {"any": 0.25, "speed": 0.25, "box": 0.125}
    assert value(found, "gymnastd_station_episodes", **cell) == 2
    assert value(found, "gymnastd_station_invalid_share", **cell) == 0.5
    assert value(found, "gymnastd_station_contact_timestamp_seconds", **cell) == now.timestamp()
    for quantile in ("0.5", "0.99"):
        told = value(found, "gymnastd_station_inference_ms", quantile=quantile, **cell)
        assert told == pytest.approx(12.5, rel=0.025)
        told = value(found, "gymnastd_station_step_ms", quantile=quantile, **cell)
        assert told == pytest.approx(200.0, rel=0.025)
    of_silent = {name for name, labels in found if ("station", "silent") in labels}
    assert of_silent == {"gymnastd_station_contact_timestamp_seconds", "gymnastd_station_episodes"}


def test_webhooks_say_how_far_behind_they_are(database, now):
    with database.write() as session:
        webhooks.give_up(session, "lab", position=0, reason="status 500")
        for _ in range(3):
            events.note(session, "disk_low", at=now)
    found = numbers(database, now)
    assert value(found, "gymnastd_webhook_behind", webhook="lab") == 3
    assert value(found, "gymnastd_webhook_given_up_total", webhook="lab") == 1


def test_numbers_are_kept_for_some_seconds_however_many_ask(database, now):
    at = [100.0]
    kept = Measurements(database, now=lambda: now, clock=lambda: at[0])
    first = kept.families()
    with database.write() as session:
        iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
    at[0] += KEPT_S - 0.1
    assert kept.families() is first
    at[0] += 0.1
    assert kept.families() != first


@pytest.mark.slow
def test_a_hundred_thousand_episodes_are_counted_in_a_moment(database, blobs, now, an_episode):
    with database.write() as session:
        episodes.commit(session, blobs, an_episode(1), provenance=episodes.Provenance(origin="base"), now=now)
        row = session.scalars(sa.select(EpisodeRow)).one()
        values = {column.name: getattr(row, column.name) for column in EpisodeRow.__table__.columns}
        copies = [{**values, "id": f"copy-{n}", "manifest_sha256": f"copy-{n}"} for n in range(99_999)]
        session.execute(sa.insert(EpisodeRow), copies)
    began = time.monotonic()
    found = numbers(database, now)
    took_s = time.monotonic() - began
    assert (
        value(found, "gymnastd_episodes", task="open_drawer", policy_eval="true", world_model="true") == 1e5
    )
    assert took_s < 1.0, "far less on an idle machine: one pass over an index"
    with database.read() as session:
        plan = session.execute(
            sa.text(
                "EXPLAIN QUERY PLAN SELECT task_id, valid_for_policy_eval, valid_for_world_model, count(*) "
                "FROM episodes GROUP BY 1, 2, 3"
            )
        ).all()
    assert "COVERING INDEX" in str(plan)


def test_a_webhook_that_the_settings_do_not_name_any_more_falls_not_behind(database, now):
    with database.write() as session:
        webhooks.enter(session, "gone")
        webhooks.enter(session, "lab")
    with database.read() as session:
        found = {family.name: family for family in measure(session, now=now, hooks=["lab"])}
    assert [sample.labels for sample in found["gymnastd_webhook_behind"].samples] == [{"webhook": "lab"}]
