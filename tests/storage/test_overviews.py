"""What is shown of many iterations at once: each one's own, in order, and nobody else's."""

import pytest

from storage import checkpoints, iterations, overviews, phase_runs, trials, trust_reports


@pytest.fixture
def three(database, now):
    """Three iterations; the first two have finished a phase each, the third nothing."""
    with database.write() as session:
        rows = [
            iterations.request_iteration(session, spec={"seed": n}, idempotency_key=None, now=now)[0]
            for n in range(3)
        ]
        for row, outcomes in zip(rows, ([{"a": 1, "b": 1}, {"b": 2}], [{"c": 3}]), strict=False):
            for phase, outcome in zip(phase_runs.PHASES, outcomes, strict=False):
                phase_runs.queue(session, row, phase=phase, now=now)
                claimed = phase_runs.claim(session, "w", ttl_s=60, now=now)
                phase_runs.finish(session, claimed, outcome=outcome, now=now)
    return [row.id for row in rows]


def test_outcomes_are_put_together_by_iteration(database, three):
    with database.read() as session:
        assert overviews.outcomes_of(session, three) == {
            three[0]: {"a": 1, "b": 2},
            three[1]: {"c": 3},
            three[2]: {},
        }
        assert overviews.outcomes_of(session, []) == {}


def test_an_attempt_that_did_not_finish_left_nothing(database, three, now):
    with database.write() as session:
        row = iterations.get(session, three[2])
        phase_runs.queue(session, row, phase="collect", now=now)
        assert phase_runs.claim(session, "w", ttl_s=60, now=now) is not None
    with database.read() as session:
        assert overviews.outcomes_of(session, [three[2]]) == {three[2]: {}}


@pytest.fixture
def policy(database, blobs, now, tmp_path):
    (tmp_path / "policy").write_text("p")
    with database.write() as session:
        new = checkpoints.NewCheckpoint(kind="policy", spec_digest="5" * 64)
        return checkpoints.save(session, blobs, new, file=tmp_path / "policy", now=now).id


def test_decisions_and_trust_are_those_of_the_iterations_that_are_asked_for(database, three, policy, now):
    with database.write() as session:
        for iteration_id in (three[1], three[0], None):
            trials.save(
                session,
                trials.NewTrial(
                    iteration_id=iteration_id,
                    champion_id=policy,
                    candidate_id=policy,
                    decision="adopted",
                    evidence={},
                ),
                now=now,
            )
            trust_reports.save(
                session,
                trust_reports.NewTrustReport(
                    checkpoint_id=policy,
                    iteration_id=iteration_id,
                    verdict="measured",
                    episodes=1,
                    horizon=5,
                    agreement=None,
                    optimism=None,
                    sensitivity=None,
                    report={},
                ),
                now=now,
            )
    with database.read() as session:
        assert [row.iteration_id for row in overviews.trials_of(session, three)] == [three[1], three[0]]
        assert {row.iteration_id for row in overviews.trust_of(session, three[:1])} == {three[0]}
        assert overviews.trials_of(session, []) == overviews.trust_of(session, []) == []
