import errno
import threading
from datetime import timedelta

import pytest

from daemon.curves import curves_path, read_curves
from daemon.errors import ClockSkewed, PhaseStalled
from daemon.heartbeat import WorkerStopped
from daemon.iteration import advance, find_iteration, iteration_record
from daemon.judge_costs import costs_path
from daemon.phase_worker import Worker, run_worker
from daemon.retrying import may_retry
from daemon.settings import Settings
from daemon.spec import parse_spec
from daemon.stores import open_database, utc_now
from storage import events, iterations, phase_runs, steering
from storage.errors import DatabaseOutdated, LeaseLost

EVERY_EVENT = {"kinds": (), "iteration": None, "cursor": None, "limit": 50}


class Lab:
    """A database with one iteration whose collect phase is queued, and a worker for it."""

    def __init__(self, database, blobs, settings, now) -> None:
        self.database, self.blobs, self.settings, self.instant = database, blobs, settings, now
        self.stop = threading.Event()
        self.left: list[str] = []
        with database.write() as session:
            spec = parse_spec({"seed": 3}).document()
            iterations.request_iteration(session, spec=spec, idempotency_key=None, now=now)
        self.advance()

    def advance(self) -> None:
        with self.database.write() as session:
            advance(session, now=self.instant)

    def worker(self, collect, *, name: str = "w", **overrides) -> Worker:
        return Worker(
            settings=overrides.pop("settings", self.settings),
            name=name,
            stop=self.stop,
            phases={"collect": collect},
            database=self.database,
            blobs=self.blobs,
            now=lambda: self.instant,
            leave=lambda: self.left.append("left"),
            retry_pauses_s=(0.0,),
            **overrides,
        )

    def record(self) -> dict:
        with self.database.read() as session:
            return iteration_record(session, find_iteration(session, 1))


@pytest.fixture
def lab(sqlite_database, blobs, tmp_path, now):
    return Lab(sqlite_database, blobs, Settings(data_dir=tmp_path, lease_ttl_s=1.0), now)


class OutOfLuck(Exception):
    code = "out_of_luck"
    retryable = False


class DiskFull(OSError):
    def __init__(self, message):
        super().__init__(errno.ENOSPC, message)


class BusyRobot(Exception):
    code = "busy_robot"
    retryable = True


def raising(error):
    def collect(context):
        raise error

    return collect


def test_a_phase_gets_what_it_needs_and_its_outcome_is_kept(lab):
    seen = {}

    def collect(context):
        seen["context"] = context
        assert context.work_dir.is_dir()
        assert list(context.work_dir.iterdir()) == []
        (context.work_dir / "scratch").write_bytes(b"x")
        context.report(0.5, "half")
        return {"episodes": 4}

    assert lab.worker(collect).work_once() is True
    context = seen["context"]
    assert context.spec == parse_spec({"seed": 3})
    assert (context.iteration_number, context.fence) == (1, 1)
    assert context.database is lab.database
    assert context.now() == lab.instant
    (run,) = lab.record()["phases"]
    assert (run["state"], run["progress"], run["outcome"]) == ("finished", 1.0, {"episodes": 4})
    assert not context.work_dir.exists(), "scratch goes with the attempt"


def test_a_run_says_which_device_it_is_on_while_it_runs(lab):
    def collect(context):
        assert lab.record()["phases"][0]["device"] == "NVIDIA H200"
        return {}

    lab.worker(collect, device=lambda: "NVIDIA H200").work_once()
    assert lab.record()["phases"][0]["state"] == "finished"


def test_a_device_that_cannot_be_named_fails_the_phase_and_not_the_worker(lab):
    def broken():
        raise RuntimeError("CUDA driver initialization failed")

    assert lab.worker(lambda context: {}, device=broken).work_once() is True
    (run,) = lab.record()["phases"]
    assert (run["state"], run["error"]["message"]) == ("failed", "CUDA driver initialization failed")


def test_collecting_is_not_ended_by_a_budget_of_device_hours(lab):
    settings = lab.settings.model_copy(update={"device_hours_per_day": 1e-9})

    def collect(context):
        for share in (0.1, 0.5):
            context.report(share, "an episode")
        return {}

    lab.worker(collect, settings=settings).work_once()
    assert lab.record()["phases"][0]["state"] == "finished"


def test_a_worker_without_work_says_so(lab):
    worker = lab.worker(lambda context: {})
    assert worker.work_once() is True
    assert worker.work_once() is False


def test_what_a_phase_records_becomes_curves_and_last_values(lab):
    def collect(context):
        for update in (1, 2, 3):
            context.record({"update": update, "loss": 1.0 / update})
        context.record({"update": 4, "loss": float("nan"), "rate": 0.5})
        return {}

    lab.worker(collect).work_once()
    (run,) = lab.record()["phases"]
    assert run["metrics"] == {"loss": pytest.approx(1 / 3), "rate": 0.5, "update": 4.0}
    with lab.database.read() as session:
        run_id = phase_runs.of_iteration(session, find_iteration(session, 1).id)[0].id
    curves = read_curves(curves_path(lab.settings.data_dir, run_id))
    assert curves["loss"] == [(1.0, 1.0), (2.0, 0.5), (3.0, pytest.approx(1 / 3))]


@pytest.mark.parametrize("fails", [False, True])
def test_what_the_judge_has_cost_is_in_the_ledger_however_the_phase_ends(lab, fails):
    def collect(context):
        file = costs_path(context.settings.data_dir, context.iteration_id)
        file.parent.mkdir(parents=True)
        file.write_text('{"requests": 7, "usd": 0.25}')
        if fails:
            raise OutOfLuck
        return {}

    lab.worker(collect).work_once()
    record = lab.record()
    assert record["phases"][0]["metrics"] == {"judge_requests": 7.0, "judge_usd": 0.25}
    assert (record["ledger"]["judge_requests"], record["ledger"]["judge_usd"]) == (7, 0.25)


def test_one_phases_numbers_do_not_leak_into_the_next(lab):
    worker = lab.worker(lambda context: context.record({"loss": 1.0}) or {})
    worker.phases = {**worker.phases, "finetune_world_model": lambda context: {}}
    worker.work_once()
    lab.advance()
    worker.work_once()
    assert [run["metrics"] for run in lab.record()["phases"]] == [{"loss": 1.0}, {}]


@pytest.mark.parametrize(
    ("error", "code", "states"),
    [
        (OutOfLuck("no"), "out_of_luck", ["failed"]),
        (BusyRobot("later"), "busy_robot", ["failed", "queued"]),
        (ConnectionRefusedError("gone"), "ConnectionRefusedError", ["failed", "queued"]),
        (ZeroDivisionError("bug"), "ZeroDivisionError", ["failed"]),
    ],
)
def test_a_failure_is_recorded_and_tried_again_where_that_may_help(lab, error, code, states):
    assert lab.worker(raising(error)).work_once() is True
    runs = lab.record()["phases"]
    assert [run["state"] for run in runs] == states
    assert runs[0]["error"] == {"code": code, "message": str(error)}


@pytest.mark.parametrize(("kind", "state"), [(ZeroDivisionError, "failed"), (DiskFull, "abandoned")])
def test_a_stored_error_holds_no_secret_and_neither_does_what_is_told_of_it(lab, tmp_path, kind, state):
    (tmp_path / "key").write_text("open-sesame\n")
    settings = lab.settings.model_copy(update={"judge_key_file": tmp_path / "key"})
    error = kind("asked https://ann:hunter22@judge with open-sesame")
    lab.worker(raising(error), settings=settings).work_once()
    lab.advance()
    record = lab.record()
    assert record["phases"][0]["state"] == state
    assert "https://ann:[redacted]@judge with [redacted]" in record["phases"][0]["error"]["message"]
    with lab.database.read() as session:
        stored = [event.facts for event in events.list_events(session, **EVERY_EVENT)[0]]
    assert "sesame" not in f"{record}{stored}"
    assert "hunter22" not in f"{record}{stored}"


def test_a_phase_that_keeps_failing_ends_its_iteration(lab):
    worker = lab.worker(raising(BusyRobot("later")))
    while worker.work_once():
        pass
    lab.advance()
    assert len(lab.record()["phases"]) == phase_runs.MAX_ATTEMPTS
    assert lab.record()["error"]["code"] == "busy_robot"


def test_a_phase_this_worker_does_not_know_fails_by_name(lab):
    worker = lab.worker(lambda context: {})
    worker.phases = {"update_policy": lambda context: {}}
    worker.work_once()
    assert lab.record()["phases"][0]["error"]["code"] == "phase_unknown"


def test_an_outcome_that_is_no_json_fails_the_phase_and_records_nothing_of_it(lab):
    lab.worker(lambda context: {"loss": float("nan")}).work_once()
    (run,) = lab.record()["phases"]
    assert (run["state"], run["outcome"]) == ("failed", None)
    assert run["error"]["code"] == "not_json"


def test_a_worker_that_lost_its_lease_is_told_at_its_next_report_and_writes_nothing(lab):
    raised = threading.Event()

    def collect(context):
        lab.instant += timedelta(hours=1)  # this worker was silent for too long
        with lab.database.write() as session:
            assert phase_runs.claim(session, "other", ttl_s=1.0, now=lab.instant) is not None
        try:
            while True:
                context.report(0.9, "still here")
                raised.wait(0.005)
        except LeaseLost:
            raised.set()
            raise

    assert lab.worker(collect).work_once() is True
    assert raised.is_set()
    runs = lab.record()["phases"]
    assert [(run["worker"], run["state"]) for run in runs] == [("w", "abandoned"), ("other", "running")]


def test_an_outcome_that_comes_after_the_lease_was_lost_is_not_recorded(lab):
    def collect(context):
        lab.instant += timedelta(hours=1)
        with lab.database.write() as session:
            phase_runs.claim(session, "other", ttl_s=1.0, now=lab.instant)
        return {"episodes": 4}

    lab.worker(collect).work_once()
    assert [run["outcome"] for run in lab.record()["phases"]] == [None, None]


def test_the_heartbeat_carries_what_the_phase_reports(lab):
    def collect(context):
        context.report(0.25, "episode 1 of 4")
        for _ in range(4000):
            if lab.record()["phases"][0]["text"] == "episode 1 of 4":
                return {}
            threading.Event().wait(0.002)
        raise AssertionError("no heartbeat")

    lab.worker(collect).work_once()
    assert lab.record()["phases"][0]["state"] == "finished"


def test_a_stop_gives_the_run_back_and_does_not_count_as_an_attempt(lab):
    def collect(context):
        lab.stop.set()
        context.report(0.5, "half")
        return {}

    for _ in range(phase_runs.MAX_ATTEMPTS + 2):
        lab.stop.clear()
        with pytest.raises(WorkerStopped):
            lab.worker(collect).work_once()
    lab.stop.clear()
    assert lab.worker(lambda context: {}).work_once() is True
    runs = lab.record()["phases"]
    assert [run["state"] for run in runs] == ["abandoned"] * 7 + ["finished"]
    assert runs[0]["error"]["code"] == "released"


def test_a_pause_stops_the_phase_at_a_report_and_the_worker_goes_on_with_it_after_a_resume(lab):
    paused_at = []

    def steer(act):
        with lab.database.write() as session:
            act(session, find_iteration(session, 1).id, now=lab.instant)

    def collect(context):
        if paused_at:
            return {"episodes": 4}
        steer(steering.pause)
        for step in range(4000):
            paused_at.append(step)
            context.report(0.5, "half")
            threading.Event().wait(0.005)
        raise AssertionError("nobody asked for a pause")

    worker = lab.worker(collect)
    for _ in range(phase_runs.MAX_ATTEMPTS + 1):
        paused_at.clear()
        assert worker.work_once() is True, "the worker stays"
        assert worker.work_once() is False
        lab.advance()
        assert lab.record()["state"] == "paused"
        steer(steering.resume)
    assert worker.work_once() is True
    runs = lab.record()["phases"]
    assert [run["state"] for run in runs] == ["abandoned"] * 6 + ["finished"]
    assert runs[0]["error"]["code"] == "released"
    assert "to be paused" in runs[0]["error"]["message"]


def test_a_cancel_stops_the_phase_at_a_report_and_nothing_more_is_written(lab):
    left = threading.Event()

    def collect(context):
        with lab.database.write() as session:
            steering.cancel(session, find_iteration(session, 1).id, now=lab.instant)
        try:
            while True:
                context.report(0.9, "still here")
                left.wait(0.005)
        except LeaseLost:
            left.set()
            raise

    worker = lab.worker(collect)
    assert worker.work_once() is True
    assert left.is_set()
    assert worker.work_once() is False
    assert [run["state"] for run in lab.record()["phases"]] == ["abandoned"]
    assert lab.record()["state"] == "cancelled"


def test_a_phase_that_hangs_gives_its_run_back_and_its_process_ends(lab):
    hung = threading.Event()
    settings = lab.settings.model_copy(update={"stall_after_s": 0.3})

    def collect(context):
        context.report(0.5, "last words")
        assert hung.wait(20), "the heartbeat never noticed"
        return {"too": "late"}

    worker = lab.worker(collect, settings=settings)
    worker.leave = lambda: (lab.left.append("left"), hung.set())
    worker.work_once()
    assert lab.left == ["left"]
    runs = lab.record()["phases"]
    assert [run["state"] for run in runs] == ["failed", "queued"]
    assert runs[0]["error"]["code"] == PhaseStalled.code


def test_a_phase_that_reports_is_not_hanging_however_long_it_takes(lab):
    settings = lab.settings.model_copy(update={"stall_after_s": 0.3})
    done = threading.Event()

    def collect(context):
        for step in range(60):
            context.report(step / 60, "on my way")
            done.wait(0.01)
        return {}

    lab.worker(collect, settings=settings).work_once()
    assert lab.left == []
    assert lab.record()["phases"][0]["state"] == "finished"


def test_two_workers_share_the_work_and_do_no_run_twice(lab):
    first_in, let_go = threading.Event(), threading.Event()

    def collect(context):
        first_in.set()
        assert let_go.wait(20)
        return {}

    busy = threading.Thread(target=lab.worker(collect, name="a").work_once)
    busy.start()
    assert first_in.wait(20)
    assert lab.worker(collect, name="b").work_once() is False
    let_go.set()
    busy.join()
    assert [run["worker"] for run in lab.record()["phases"]] == ["a"]


def test_a_stopped_worker_leaves_its_loop_and_claims_nothing(lab):
    lab.stop.set()
    lab.worker(lambda context: {}).work()
    assert lab.record()["phases"][0]["state"] == "queued"


def test_a_worker_refuses_a_database_without_this_releases_tables(tmp_path):
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(DatabaseOutdated):
        run_worker(settings, name="w", stop=threading.Event(), phases={})


def test_the_loop_opens_the_database_that_the_settings_name(lab, sqlite_url, tmp_path):
    settings = Settings(data_dir=tmp_path, database_url=sqlite_url, poll_s=0.01)

    def collect(context):
        lab.stop.set()
        return {}

    run_worker(settings, name="w", stop=lab.stop, phases={"collect": collect})
    assert lab.record()["phases"][0]["state"] == "finished"
    assert open_database(settings).is_sqlite


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (BusyRobot(), True),
        (OutOfLuck(), False),
        (TimeoutError(), True),
        (ValueError(), False),
        (MemoryError(), False),
    ],
)
def test_only_faults_that_pass_are_tried_again(error, answer):
    assert may_retry(error) is answer


def test_a_phase_that_runs_past_its_deadline_fails_with_its_code_and_is_not_tried_again(lab):
    with lab.database.write() as session:
        (row,) = iterations.unfinished(session)
        row.spec = parse_spec({"deadlines": {"collect_s": 1e-9}}).document()

    def collect(context):
        context.report(0.5, "half")
        raise AssertionError("a report after the deadline ends the phase")

    assert lab.worker(collect).work_once() is True
    lab.advance()
    record = lab.record()
    (run,) = record["phases"]
    assert (run["state"], run["error"]["code"]) == ("failed", "phase_overdue")
    assert (record["state"], record["error"]["code"]) == ("failed", "phase_overdue")


def test_a_worker_whose_clock_is_not_the_databases_ends_before_it_takes_anything(
    postgres_url, blobs, tmp_path
):
    database = open_database(Settings(database_url=postgres_url))
    hour = timedelta(hours=1)
    lab = Lab(database, blobs, Settings(data_dir=tmp_path, lease_ttl_s=1.0), utc_now() + hour)
    with pytest.raises(ClockSkewed, match="ahead of the database's"):
        lab.worker(raising(AssertionError("it was run"))).work()
    assert lab.record()["phases"][0]["state"] == "queued"
    database.dispose()
