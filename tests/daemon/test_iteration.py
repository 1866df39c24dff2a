from datetime import timedelta

import pytest

from daemon.errors import PageNotFound
from daemon.iteration import (
    advance,
    film_strips,
    find_iteration,
    iteration_numbers,
    iteration_record,
    iteration_summary,
    overall_success,
    success_by_task,
    success_rate,
)
from daemon.spec import parse_spec
from storage import checkpoints, episodes, iterations, metrics, phase_runs, steering, trials

TTL_S = 10.0


def asked(database, now, *, key=None, **spec):
    with database.write() as session:
        document = parse_spec(spec).document()
        return iterations.request_iteration(session, spec=document, idempotency_key=key, now=now)[0]


def advanced(database, now):
    with database.write() as session:
        return advance(session, now=now)


def claimed(database, now, worker="w"):
    with database.write() as session:
        return phase_runs.claim(session, worker, ttl_s=TTL_S, now=now)


def finished(database, now, **outcome):
    """Claim whatever is queued and finish it; gives the phase's name."""
    run = claimed(database, now)
    with database.write() as session:
        phase_runs.finish(session, run, outcome=outcome, now=now)
    return run.phase


def failed(database, now, *, retry):
    run = claimed(database, now)
    with database.write() as session:
        phase_runs.fail(session, run, error_code="bad_luck", message="it rained", retry=retry, now=now)


def recorded(database, number):
    with database.read() as session:
        return iteration_record(session, find_iteration(session, number))


def test_a_request_walks_through_the_three_phases_to_its_end(database, now):
    asked(database, now)
    assert recorded(database, 1)["state"] == "requested"
    walked = []
    for _ in phase_runs.PHASES:
        assert "phase queued" in advanced(database, now)
        assert recorded(database, 1)["state"] == "running"
        walked.append(finished(database, now))
    assert advanced(database, now) == "iteration finished iteration=1"
    assert walked == ["collect", "finetune_world_model", "update_policy"]
    assert recorded(database, 1)["state"] == "finished"
    assert recorded(database, 1)["finished_at"] == now


def test_advancing_again_changes_nothing_while_a_phase_waits_or_runs(database, now):
    asked(database, now)
    advanced(database, now)
    assert advanced(database, now) is None
    claimed(database, now)
    assert advanced(database, now) is None
    assert [run["attempt"] for run in recorded(database, 1)["phases"]] == [1]


def test_there_is_nothing_to_do_without_a_request(database, now):
    assert advanced(database, now) is None


def test_the_second_iteration_waits_for_the_first(database, now):
    asked(database, now, seed=1)
    asked(database, now, seed=2)
    for _ in phase_runs.PHASES:
        advanced(database, now)
        assert recorded(database, 2)["state"] == "requested"
        finished(database, now)
    advanced(database, now)
    assert advanced(database, now) == "phase queued iteration=2 phase=collect"
    assert recorded(database, 2)["state"] == "running"


def test_two_lineages_are_in_work_at_once_and_take_turns_at_one_worker(database, now):
    asked(database, now, lineage="a", phases=["collect", "update_policy"])
    asked(database, now, lineage="b", phases=["collect", "update_policy"])
    done = []
    for second in range(4):
        at = now + timedelta(seconds=second)
        while advanced(database, at) is not None:
            pass
        run = claimed(database, at)
        with database.write() as session:
            phase_runs.finish(session, run, outcome={}, now=at)
        done.append((run.spec["lineage"], run.phase))
    assert done == [("a", "collect"), ("b", "collect"), ("a", "update_policy"), ("b", "update_policy")]


def test_two_workers_have_a_lineage_each_and_within_one_the_second_iteration_waits(database, now):
    for name in ("a", "a", "b"):
        asked(database, now, lineage=name)
    phrases = []
    while (done := advanced(database, now)) is not None:
        phrases.append(done)
    assert phrases == [f"phase queued iteration={number} phase=collect" for number in (1, 3)]
    held = [claimed(database, now, worker) for worker in ("one", "two", "three")]
    assert [run and run.iteration_number for run in held] == [1, 3, None]
    assert [recorded(database, number)["state"] for number in (1, 2, 3)] == [
        "running",
        "requested",
        "running",
    ]


def test_a_paused_or_failed_iteration_holds_up_its_own_lineage_alone(database, now):
    first, *_ = [asked(database, now, lineage=name, phases=["collect"]) for name in ("a", "b", "a", "b")]
    with database.write() as session:
        steering.pause(session, first.id, now=now)
    for _ in range(2):
        while advanced(database, now) is not None:
            pass
        finished(database, now)
    advanced(database, now)
    assert [recorded(database, n)["state"] for n in (1, 2, 3, 4)] == [
        "paused", "finished", "requested", "finished",
    ]  # fmt: skip
    with database.write() as session:
        steering.resume(session, first.id, now=now)
    advanced(database, now)
    failed(database, now, retry=False)
    assert advanced(database, now) == "iteration failed iteration=1 phase=collect code=bad_luck"
    assert advanced(database, now) == "phase queued iteration=3 phase=collect"


def test_a_phase_that_failed_for_good_ends_its_iteration_with_the_reason(database, now):
    asked(database, now)
    advanced(database, now)
    failed(database, now, retry=False)
    assert advanced(database, now) == "iteration failed iteration=1 phase=collect code=bad_luck"
    record = recorded(database, 1)
    assert record["state"] == "failed"
    assert record["error"] == {"code": "bad_luck", "message": "collect, attempt 1: it rained"}


def test_a_failed_iteration_does_not_block_the_next(database, now):
    asked(database, now, seed=1)
    asked(database, now, seed=2)
    advanced(database, now)
    failed(database, now, retry=False)
    advanced(database, now)
    assert advanced(database, now) == "phase queued iteration=2 phase=collect"


def test_a_failure_that_is_tried_again_does_not_end_the_iteration(database, now):
    asked(database, now)
    advanced(database, now)
    failed(database, now, retry=True)
    assert advanced(database, now) is None
    assert finished(database, now) == "collect"
    assert advanced(database, now) == "phase queued iteration=1 phase=finetune_world_model"
    assert [run["state"] for run in recorded(database, 1)["phases"]] == ["failed", "finished", "queued"]


def test_a_run_whose_worker_went_silent_is_queued_again_without_any_worker_asking(database, now):
    asked(database, now)
    advanced(database, now)
    claimed(database, now)
    later = now + timedelta(seconds=TTL_S + 1)
    advanced(database, later)
    states = [(run["attempt"], run["state"]) for run in recorded(database, 1)["phases"]]
    assert states == [(1, "abandoned"), (2, "queued")]
    assert recorded(database, 1)["phases"][0]["error"]["code"] == "lease_expired"


def test_silence_time_after_time_fails_the_iteration_instead_of_going_on_for_ever(database, now):
    asked(database, now)
    advanced(database, now)
    for attempt in range(phase_runs.MAX_ATTEMPTS):
        assert claimed(database, now + timedelta(hours=attempt)) is not None
    advanced(database, now + timedelta(hours=9))
    record = recorded(database, 1)
    assert record["state"] == "failed"
    assert record["error"]["code"] == "attempts_exhausted"


def test_a_cancelled_iteration_is_left_alone(database, now):
    row = asked(database, now)
    with database.write() as session:
        iterations.cancel(session, row.id, now=now)
    assert advanced(database, now) is None
    assert recorded(database, 1)["state"] == "cancelled"


def test_a_resumed_iteration_does_not_repeat_a_finished_phase(database, now):
    asked(database, now)
    advanced(database, now)
    finished(database, now)
    advanced(database, now)
    claimed(database, now)  # and this worker is killed
    later = now + timedelta(seconds=TTL_S + 1)
    assert claimed(database, later, worker="other").phase == "finetune_world_model"
    attempts = [(run["phase"], run["attempt"]) for run in recorded(database, 1)["phases"]]
    assert attempts == [("collect", 1), ("finetune_world_model", 1), ("finetune_world_model", 2)]


def steered(database, now, act, **arguments):
    with database.write() as session:
        act(session, find_iteration(session, arguments.pop("number", 1)).id, now=now, **arguments)


def test_a_paused_iteration_is_left_alone_and_the_next_one_waits_behind_it(database, now):
    asked(database, now, seed=1)
    asked(database, now, seed=2)
    advanced(database, now)
    steered(database, now, steering.pause)
    assert advanced(database, now) is None
    assert [recorded(database, number)["state"] for number in (1, 2)] == ["paused", "requested"]
    steered(database, now, steering.resume)
    assert finished(database, now) == "collect"
    assert advanced(database, now) == "phase queued iteration=1 phase=finetune_world_model"


def test_an_iteration_is_paused_once_its_worker_has_given_the_phase_back(database, now):
    asked(database, now)
    advanced(database, now)
    run = claimed(database, now)
    steered(database, now, steering.pause)
    assert advanced(database, now) is None
    assert [recorded(database, 1)[name] for name in ("state", "wish")] == ["running", "pause"]
    with database.write() as session:
        phase_runs.release(session, run, now=now)
    assert advanced(database, now) == "iteration paused iteration=1 phase=collect"
    assert [recorded(database, 1)[name] for name in ("state", "wish")] == ["paused", None]


def test_an_iteration_whose_worker_dies_before_it_can_pause_is_paused_all_the_same(database, now):
    asked(database, now)
    advanced(database, now)
    claimed(database, now)
    steered(database, now, steering.pause)
    later = now + timedelta(seconds=TTL_S + 1)
    assert advanced(database, later) == "iteration paused iteration=1 phase=collect"
    steered(database, later, steering.resume)
    assert claimed(database, later).attempt == 2


def test_a_phase_that_ends_before_it_could_pause_is_not_followed_by_the_next(database, now):
    asked(database, now)
    advanced(database, now)
    run = claimed(database, now)
    steered(database, now, steering.pause)
    with database.write() as session:
        phase_runs.finish(session, run, outcome={}, now=now)
    assert advanced(database, now) == "iteration paused iteration=1 phase=finetune_world_model"
    assert [run["phase"] for run in recorded(database, 1)["phases"]] == ["collect"]


@pytest.mark.parametrize("end", ["finished", "failed"])
def test_an_iteration_that_ends_before_it_could_pause_is_over(database, now, end):
    asked(database, now, phases=["update_policy"])
    advanced(database, now)
    run = claimed(database, now)
    steered(database, now, steering.pause)
    with database.write() as session:
        if end == "finished":
            phase_runs.finish(session, run, outcome={}, now=now)
        else:
            phase_runs.fail(session, run, error_code="rain", message="it rains", retry=False, now=now)
    assert f"iteration {end}" in advanced(database, now)
    assert [recorded(database, 1)[name] for name in ("state", "wish")] == [end, None]


def test_a_failed_iteration_that_is_tried_again_waits_for_the_one_that_runs_then_repeats_nothing(
    database, now
):
    asked(database, now, seed=1)
    advanced(database, now)
    finished(database, now)
    advanced(database, now)
    failed(database, now, retry=False)
    advanced(database, now)
    asked(database, now, seed=2)
    advanced(database, now)
    steered(database, now, steering.retry)
    assert advanced(database, now) is None, "iteration 2 has begun"
    for _ in phase_runs.PHASES:
        finished(database, now)
        advanced(database, now)
    assert recorded(database, 2)["state"] == "finished"
    assert advanced(database, now) == "phase queued iteration=1 phase=finetune_world_model"
    assert recorded(database, 1)["error"] is None
    runs = [(run["phase"], run["state"], run["forgiven"]) for run in recorded(database, 1)["phases"]]
    assert runs == [
        ("collect", "finished", False),
        ("finetune_world_model", "failed", True),
        ("finetune_world_model", "queued", False),
    ]


def test_a_skipped_phase_is_followed_by_the_next(database, now):
    asked(database, now)
    advanced(database, now)
    steered(database, now, steering.skip, phase="collect")
    steered(database, now, steering.skip, phase="update_policy")
    assert advanced(database, now) == "phase queued iteration=1 phase=finetune_world_model"
    finished(database, now)
    assert advanced(database, now) == "iteration finished iteration=1"
    assert [run["state"] for run in recorded(database, 1)["phases"]] == ["skipped", "finished", "skipped"]


def test_a_failed_iteration_goes_on_after_the_phase_that_is_skipped(database, now):
    asked(database, now)
    advanced(database, now)
    failed(database, now, retry=False)
    advanced(database, now)
    steered(database, now, steering.skip, phase="collect")
    assert advanced(database, now) == "phase queued iteration=1 phase=finetune_world_model"


def test_an_iteration_without_any_phase_left_is_finished(database, now):
    asked(database, now)
    for phase in phase_runs.PHASES:
        steered(database, now, steering.skip, phase=phase)
    assert advanced(database, now) == "iteration finished iteration=1"


@pytest.mark.parametrize(
    "phases", [["collect"], ["finetune_world_model"], ["update_policy"], ["collect", "update_policy"]]
)
def test_only_the_phases_that_were_asked_for_are_walked(database, now, phases):
    asked(database, now, phases=phases)
    walked = []
    while "finished" not in advanced(database, now):
        walked.append(finished(database, now))
    assert walked == phases
    assert recorded(database, 1)["state"] == "finished"


def test_real_success_is_counted_from_labelled_episodes_with_its_interval(database, blobs, now, an_episode):
    row = asked(database, now)
    provenance = episodes.Provenance(origin="collect", iteration_id=row.id)
    outcomes = [("open_drawer", True), ("open_drawer", False), ("close_drawer", True), ("close_drawer", None)]
    with database.write() as session:
        for number, (task, success) in enumerate(outcomes):
            episode = an_episode(number, task_id=task, success=success)
            episodes.commit(session, blobs, episode, provenance=provenance, now=now)
    record = recorded(database, 1)
    assert record["success"]["open_drawer"] == success_rate(1, 2)
    assert record["success"]["close_drawer"] == success_rate(1, 1), "no label is no failure"
    assert record["overall"] == success_rate(2, 3)
    assert record["success"]["open_drawer"]["wilson_low"] == pytest.approx(0.0945, abs=1e-4)


@pytest.fixture
def a_trial(database, blobs, now, an_episode, tmp_path):
    """An iteration in which two policies acted: the old one won 1 of 2, the new one 2 of 2."""
    row, made = asked(database, now), []
    with database.write() as session:
        for name in ("old", "new"):
            file = tmp_path / name
            file.write_bytes(name.encode())
            new = checkpoints.NewCheckpoint(kind="policy", spec_digest="5" * 64)
            made.append(checkpoints.save(session, blobs, new, file=file, now=now).id)
        for number, (policy, success) in enumerate([(0, True), (0, False), (1, True), (1, True)]):
            origin = episodes.Provenance(origin="collect", iteration_id=row.id, checkpoint_id=made[policy])
            episode = an_episode(number, task_id="open_drawer", success=success)
            episodes.commit(session, blobs, episode, provenance=origin, now=now)
    return row.id, made


@pytest.mark.parametrize(
    ("decision", "told"),
    [(None, (1, 2)), ("promoted", (2, 2)), ("rejected", (1, 2)), ("undecided", (1, 2))],
)
def test_success_is_that_of_the_policy_that_goes_on(database, now, a_trial, decision, told):
    """Before anything is decided that is the champion, which is the older one."""
    iteration_id, (old, new) = a_trial
    if decision:
        trial = trials.NewTrial(
            iteration_id=iteration_id, champion_id=old, candidate_id=new, decision=decision, evidence={}
        )
        with database.write() as session:
            trials.save(session, trial, now=now)
    with database.read() as session:
        assert success_by_task(session, iteration_id) == {"open_drawer": success_rate(*told)}


def test_episodes_of_another_iteration_do_not_count(database, blobs, now, an_episode):
    first, second = asked(database, now, seed=1), asked(database, now, seed=2)
    with database.write() as session:
        for number, row in enumerate((first, second)):
            provenance = episodes.Provenance(origin="collect", iteration_id=row.id)
            episode = an_episode(number, success=row is first)
            episodes.commit(session, blobs, episode, provenance=provenance, now=now)
        assert success_by_task(session, first.id) == {"open_drawer": success_rate(1, 1)}
        assert success_by_task(session, second.id) == {"open_drawer": success_rate(0, 1)}


def test_an_iteration_without_episodes_claims_nothing(database, now):
    asked(database, now)
    record = recorded(database, 1)
    assert record["success"] == {}
    assert record["overall"] == {"successes": 0, "episodes": 0, "wilson_low": 0.0, "wilson_high": 1.0}
    assert record["world_model"] == {"held_out_error": None, "gate": None, "trust": None}
    assert record["imagined_success"] == {}
    assert record["checkpoints"] == {"read": {}, "made": {}, "rejected": {}}
    assert record["phases"] == []


def test_all_tasks_together_are_added_up_not_averaged():
    by_task = {"a": success_rate(1, 1), "b": success_rate(0, 9)}
    assert overall_success(by_task) == success_rate(1, 10)


def test_the_record_tells_what_the_phases_measured_and_made(database, now):
    asked(database, now)
    outcomes = [
        {"read": {"policy": "p1"}},
        {
            "held_out_error": {"before": 0.2, "after": 0.1},
            "read": {"world_model": "w1"},
            "made": {"world_model": "w2", "judge": "j2"},
            "gate": {"accepted": True, "reasons": []},
            "trust": {"horizon": 31},
            "film_strips": {"open_drawer": {"real": "a" * 64, "imagined": "b" * 64}},
        },
        {
            "imagined_success": {"open_drawer": {"first": 0.25, "last": 0.5}},
            "read": {"policy": "p1", "world_model": "w2"},
            "made": {"policy": "p2"},
        },
    ]
    for outcome in outcomes:
        advanced(database, now)
        finished(database, now, **outcome)
    record = recorded(database, 1)
    assert record["world_model"] == {
        "held_out_error": {"before": 0.2, "after": 0.1},
        "gate": {"accepted": True, "reasons": []},
        "trust": {"horizon": 31},
    }
    assert record["imagined_success"] == {"open_drawer": {"first": 0.25, "last": 0.5}}
    assert record["checkpoints"]["made"] == {"world_model": "w2", "judge": "j2", "policy": "p2"}
    assert record["checkpoints"]["read"] == {"policy": "p1", "world_model": "w1"}, "w2 was made here"
    with database.read() as session:
        strips = film_strips(session, find_iteration(session, 1))
    assert strips == {"open_drawer": {"real": "a" * 64, "imagined": "b" * 64}}


def test_an_attempt_that_failed_tells_its_reason_and_its_last_numbers(database, now):
    asked(database, now)
    advanced(database, now)
    run = claimed(database, now, worker="worker-7")
    with database.write() as session:
        phase_runs.heartbeat(session, run, progress=0.5, text="episode 4 of 8", now=now)
        metrics.record(session, run.phase_run_id, {"loss": 0.25}, now=now)
    (phase,) = recorded(database, 1)["phases"]
    assert (phase["progress"], phase["text"], phase["worker"]) == (0.5, "episode 4 of 8", "worker-7")
    assert phase["metrics"] == {"loss": 0.25}
    assert phase["error"] is None


def test_an_unknown_number_is_not_found(sqlite_database):
    with sqlite_database.read() as session, pytest.raises(PageNotFound) as refused:
        find_iteration(session, 12)
    assert refused.value.code == "page_not_found"
    assert "iteration 12" in str(refused.value)


def test_the_summary_is_the_part_of_the_record_that_needs_one_row(sqlite_database, now):
    row = asked(sqlite_database, now, seed=5)
    record = recorded(sqlite_database, 1)
    summary = iteration_summary(row)
    assert summary == {name: record[name] for name in summary}
    assert summary["spec"]["seed"] == 5
    assert summary["spec_digest"] == parse_spec({"seed": 5}).digest(), "storage and spec agree on the digest"


def test_numbers_are_found_by_id(sqlite_database, now):
    first, second = asked(sqlite_database, now, seed=1), asked(sqlite_database, now, seed=2)
    with sqlite_database.read() as session:
        assert iteration_numbers(session, {second.id, "unknown"}) == {second.id: 2}
        assert iteration_numbers(session, set()) == {}
    assert first.number == 1
