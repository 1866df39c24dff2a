"""What a job of the gateway may be, and the sessions that its attempts get."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.autoeval.gateway_errors import GatewayJobInvalid
from robot_bridge.autoeval.gateway_job import attempt_seed
from tests.robot_bridge.autoeval.gateway_builders import CAPABILITY, INSTRUCTION, a_job

SEEDS = st.integers(min_value=0, max_value=2**63 - 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"job_id": ""},
        {"job_id": "../up"},
        {"job_id": ".hidden"},
        {"job_id": "a/b"},
        {"job_id": "a\n"},
        {"job_id": "x" * 81},
        {"capability": "too-short"},
        {"capability": "x" * 129},
        {"capability": "with/a/slash-0123456789abcdef"},
        {"capability": CAPABILITY + "\n"},
        {"task_id": ""},
        {"instruction": ""},
        {"instruction": "x" * 501},
        {"max_steps": 0},
        {"max_steps": 1001},
        {"seed": -1},
        {"seed": 2**63},
        {"rotation": "sideways"},
        {"control_hz": 0.0},
        {"control_hz": float("nan")},
        {"control_hz": float("inf")},
    ],
    ids=lambda changes: ascii(changes)[:40],
)
def test_a_job_that_cannot_be_served_is_refused_with_the_field_named(changes):
    with pytest.raises(GatewayJobInvalid, match=next(iter(changes))):
        a_job(**changes)


@pytest.mark.parametrize("capability", ["A" * 22, "a_b-" * 32, CAPABILITY])
def test_128_bits_are_enough_however_they_are_written(capability):
    assert a_job(capability=capability).capability == capability


def test_a_job_can_be_logged_without_giving_its_capability_away():
    assert CAPABILITY not in repr(a_job())
    assert "job-1" in repr(a_job())


def test_the_refusal_of_a_job_does_not_repeat_its_capability():
    with pytest.raises(GatewayJobInvalid) as refused:
        a_job(capability="secret!")
    assert "secret!" not in str(refused.value)


def test_every_attempt_is_a_session_of_its_own():
    job = a_job(control_hz=2.5)
    first, second = job.session(0), job.session(1)
    assert (first.session, second.session) == ("job-1-0", "job-1-1")
    assert first.seed != second.seed
    for session in (first, second):
        assert (session.task_id, session.instruction, session.control_hz) == ("open_drawer", INSTRUCTION, 2.5)


def test_the_longest_job_id_still_makes_a_session():
    assert a_job(job_id="x" * 80).session(499).session == "x" * 80 + "-499"


@given(SEEDS, st.integers(min_value=0, max_value=10_000))
def test_an_attempts_seed_is_always_one_that_a_policy_takes(seed, index):
    assert 0 <= attempt_seed(seed, index) < 2**63
    assert attempt_seed(seed, index) == attempt_seed(seed, index)


def test_neighbouring_jobs_and_attempts_share_no_seed():
    seeds = [attempt_seed(seed, index) for seed in range(12) for index in range(12)]
    assert len(set(seeds)) == len(seeds)
    assert attempt_seed(1, 11) != attempt_seed(11, 1)


def test_the_seeds_of_recorded_attempts_stay_what_they_were():
    assert attempt_seed(3, 0) == 1167123271354890406
