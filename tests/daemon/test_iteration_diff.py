"""What differs between two iterations, from their manifests and what they measured."""

from datetime import timedelta

import pytest

from daemon.iteration import find_iteration
from daemon.iteration_diff import MOST_LISTED, changes, iteration_diff
from daemon.iteration_manifest import iteration_manifest
from daemon.spec import parse_spec
from storage import episodes, iterations, labels, manifests, phase_runs

RATE = {"successes": 1, "episodes": 2}


def inputs(**changed):
    return {
        "phase": "finetune_world_model",
        "seed": 0,
        "spec_digest": "s",
        "code": {"version": "1", "sha256": "a", "commit": None},
        "environment": {"packages": {"torch": "2.9"}, "threads": 2},
        "checkpoints": {"world_model": {"id": "w", "number": 1, "sha256": "x"}},
        "episodes": [],
        **changed,
    }


def entry(name, success=True, **changed):
    return {
        "id": name,
        "sha256": "d",
        "use": "fresh",
        "held_out": False,
        "labels": [],
        "success": success,
        **changed,
    }


@pytest.fixture
def iterate(database, now):
    """One more iteration; its phases end with the given inputs and outcomes."""

    def one(spec=None, **phases):
        with database.write() as session:
            document = parse_spec(spec or {}).document()
            row, _ = iterations.request_iteration(session, spec=document, idempotency_key=None, now=now)
            for phase, (read, outcome) in phases.items():
                run = phase_runs.queue(session, row, phase=phase, now=now)
                manifests.save(session, run.id, read, now=now)
                run.state, run.outcome = ("finished", outcome) if outcome is not None else ("running", None)
        return row.number

    return one


def diff(database, before=1, after=2):
    with database.read() as session:
        return iteration_diff(session, find_iteration(session, before), find_iteration(session, after))


def test_iterations_without_a_phase_differ_in_their_spec_alone(database, iterate):
    iterate()
    iterate({"seed": 3, "world_model": {"updates": 5}})
    found = diff(database)
    assert (found["from"], found["to"]) == (1, 2)
    assert found["spec"] == [
        {"field": "seed", "from": 0, "to": 3},
        {"field": "world_model.updates", "from": parse_spec({}).world_model.updates, "to": 5},
    ]
    assert found["circumstances"] == found["data"] == {}
    assert found["checkpoints"] == found["measured"] == []


def test_equal_iterations_differ_in_nothing(database, iterate):
    done = (inputs(episodes=[entry("e1")]), {"made": {}})
    for _ in range(2):
        iterate(finetune_world_model=done)
    found = diff(database)
    assert found["spec"] == found["checkpoints"] == []
    assert found["circumstances"] == {}
    nothing = {"count": 0, "ids": []}
    assert found["data"] == {
        "finetune_world_model": {"added": nothing, "removed": nothing, "relabelled": nothing, "kept": 1}
    }


def test_code_packages_and_machine_are_told_by_phase(database, iterate):
    iterate(finetune_world_model=(inputs(), {}), update_policy=(inputs(), {}))
    other = inputs(
        code={"version": "1", "sha256": "b", "commit": None},
        environment={"packages": {"torch": "2.10", "peft": "1"}, "threads": 2},
    )
    iterate(finetune_world_model=(other, {}), update_policy=(inputs(), {}))
    assert diff(database)["circumstances"] == {
        "finetune_world_model": [
            {"field": "code.sha256", "from": "a", "to": "b"},
            {"field": "environment.packages.peft", "from": None, "to": "1"},
            {"field": "environment.packages.torch", "from": "2.9", "to": "2.10"},
        ]
    }


def test_episodes_are_told_by_number_and_name_and_a_changed_label_is_seen(database, iterate):
    before = [entry("e1"), entry("e2", success=False), entry("e3", success=None)]
    after = [entry("e1", labels=[4]), entry("e2", success=True), *(entry(f"n{i}") for i in range(300))]
    iterate(finetune_world_model=(inputs(episodes=before), {}))
    iterate(finetune_world_model=(inputs(episodes=after), {}))
    found = diff(database)["data"]["finetune_world_model"]
    assert found["added"]["count"] == 300
    assert found["added"]["ids"] == [f"n{i}" for i in range(MOST_LISTED)]
    assert found["removed"] == {"count": 1, "ids": ["e3"]}
    assert found["relabelled"] == {"count": 1, "ids": ["e2"]}
    assert found["kept"] == 2


def test_a_checkpoint_that_only_one_side_read_is_null_on_the_other(database, iterate):
    iterate(finetune_world_model=(inputs(), None))
    read = {"world_model": {"id": "v", "number": 2, "sha256": "y"}, "judge": {"id": "j", "number": 1}}
    iterate(finetune_world_model=(inputs(checkpoints=read), None))
    assert diff(database)["checkpoints"] == [
        {
            "phase": "finetune_world_model",
            "what": "read",
            "kind": "judge",
            "from": None,
            "to": read["judge"],
        },
        {
            "phase": "finetune_world_model",
            "what": "read",
            "kind": "world_model",
            "from": {"id": "w", "number": 1, "sha256": "x"},
            "to": read["world_model"],
        },
    ]


OUTCOME = {
    "held_out_error": {"before": 0.4, "after": 0.3},
    "gate": {"accepted": True},
    "trust": {"horizon": 12, "overall": {"agreement": 0.8, "optimism": 0.1}},
    "judge_audit": {"open_drawer": {"agreement": 0.9}},
    "trial": {"decision": "promoted", "probability_better": 0.99, "carried": {"from": 1}},
    "imagined_success": {"open_drawer": {"first": 0.1, "last": 0.5}},
    "tasks_left_out": {"close_drawer": "not trusted"},
}


def test_what_was_measured_stands_side_by_side(database, iterate):
    iterate(finetune_world_model=(inputs(), {}))
    iterate(finetune_world_model=(inputs(), OUTCOME))
    assert {each["what"]: (each["from"], each["to"]) for each in diff(database)["measured"]} == {
        "held-out error": (None, 0.3),
        "world model accepted": (None, True),
        "trusted steps": (None, 12),
        "imagined ends, agreement": (None, 0.8),
        "imagined ends, optimism": (None, 0.1),
        "judge agrees with labels, open_drawer": (None, 0.9),
        "imagined success, open_drawer": (None, 0.5),
        "left out, close_drawer": (None, "not trusted"),
        "trial": (None, "promoted"),
        "candidate better with probability": (None, 0.99),
        "trial carried on from iteration": (None, 1),
    }


def test_real_success_comes_with_its_interval_and_a_relabelled_episode_changes_it(
    database, iterate, blobs, an_episode, now
):
    for number, phases in ((1, {"finetune_world_model": (inputs(), OUTCOME)}), (2, {})):
        iterate(**phases)
        with database.write() as session:
            row = find_iteration(session, number)
            provenance = episodes.Provenance(origin="collect", iteration_id=row.id)
            episodes.commit(session, blobs, an_episode(number), provenance=provenance, now=now)
            if number == 2:
                verdict = labels.Verdict(success=False, source="human", at=now + timedelta(seconds=1))
                labels.append(session, an_episode(2).manifest.episode_id, verdict, now=now)
    found = {each["what"]: each for each in diff(database)["measured"]}
    assert list(found)[:3] == ["real success", "real success, open_drawer", "held-out error"]
    rates = [found["real success"][side] for side in ("from", "to")]
    assert [(rate["successes"], rate["episodes"]) for rate in rates] == [(1, 1), (0, 1)]
    assert rates[0]["wilson_low"] < 1 == rates[0]["wilson_high"]


@pytest.mark.parametrize(
    ("spec", "outcome", "name"),
    [
        ({"stop_on_success": True}, {}, ", ended on success"),
        ({"stop_on_success": True}, {"full_length": {"open_drawer": "the judge errs"}}, ""),
        ({}, {}, ""),
    ],
)
def test_success_of_episodes_that_a_judge_could_end_does_not_stand_beside_that_of_full_length(
    database, iterate, blobs, an_episode, now, spec, outcome, name
):
    for number, own in ((1, {}), (2, spec)):
        iterate(own, collect=(inputs(phase="collect"), outcome))
        with database.write() as session:
            row = find_iteration(session, number)
            provenance = episodes.Provenance(origin="collect", iteration_id=row.id)
            episodes.commit(session, blobs, an_episode(number), provenance=provenance, now=now)
    found = {
        each["what"]: (each["from"] is not None, each["to"] is not None)
        for each in diff(database)["measured"]
    }
    assert found[f"real success{name}"] == found[f"real success, open_drawer{name}"] == (not name, True)


def test_changes_see_what_is_nested_and_take_lists_as_one_value():
    assert changes({"a": {"b": [1, 2]}, "c": 1}, {"a": {"b": [1, 3]}, "c": 1}) == [
        {"field": "a.b", "from": [1, 2], "to": [1, 3]}
    ]
    assert changes({"a": {}}, {"a": {"b": 1}}) == [{"field": "a.b", "from": None, "to": 1}]


def test_an_iteration_s_manifest_tells_episodes_of_a_finished_collect_phase_alone(
    database, iterate, blobs, an_episode, now
):
    iterate(collect=(inputs(phase="collect"), None))
    with database.write() as session:
        row = find_iteration(session, 1)
        provenance = episodes.Provenance(origin="collect", iteration_id=row.id, held_out=True)
        episodes.commit(session, blobs, an_episode(), provenance=provenance, now=now)
        assert iteration_manifest(session, row)["phases"]["collect"]["outputs"] is None
        run = phase_runs.latest(session, row.id, phase="collect")
        run.state, run.outcome = "finished", {}
        session.flush()
        found = iteration_manifest(session, row)["phases"]["collect"]
    episode = an_episode()
    assert found["outputs"] == {
        "made": {},
        "rejected": {},
        "episodes": [{"id": episode.manifest.episode_id, "sha256": episode.digest, "held_out": True}],
    }
    assert (found["state"], found["attempt"]) == ("finished", 1)
