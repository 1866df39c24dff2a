"""Sentences: every kind of event that the state machines can make has one, and none can break a list."""

import string

import pytest

from daemon.events.words import FOR_PEOPLE, SENTENCES, event_record, sentence
from storage import events, states, trials
from storage.event_tables import EventRow


def kinds_of(noun: str, moves) -> set[str]:
    return {f"{noun}_{events.STARTED.get(state, state)}" for state in moves}


def test_every_state_and_every_decision_has_a_sentence():
    wanted = kinds_of("phase", states.PHASE_RUN_MOVES) | kinds_of("iteration", states.ITERATION_MOVES)
    wanted |= kinds_of("autoeval_job", states.AUTOEVAL_JOB_MOVES)
    wanted |= {f"trial_{decision}" for decision in (*trials.CHANGES, trials.REJECTED, trials.UNDECIDED)}
    assert wanted <= set(SENTENCES)


def test_what_people_are_told_of_unasked_exists():
    assert set(FOR_PEOPLE) <= set(SENTENCES)


@pytest.mark.parametrize("kind", SENTENCES)
def test_a_sentence_is_made_of_its_facts(kind):
    names = {name.partition(":")[0] for _, name, _, _ in string.Formatter().parse(SENTENCES[kind]) if name}
    said = sentence(kind, None, facts=dict.fromkeys(names, 7))
    assert "unknown" not in said
    assert "{" not in said


def test_an_iteration_is_named_and_a_reason_is_told():
    facts = {"phase": "collect", "attempt": 2, "error": {"code": "arm_gone", "message": "no arm"}}
    assert sentence("phase_failed", 3, facts=facts) == (
        "iteration 3: collect, attempt 2, has failed: no arm [arm_gone]"
    )
    assert sentence("iteration_finished", 3, facts={}) == "iteration 3 is finished"


@pytest.mark.parametrize("facts", [{}, {"phase": None}, {"free_gb": "much"}])
@pytest.mark.parametrize("kind", [*SENTENCES, "kind_of_a_later_release"])
def test_facts_of_another_release_break_no_sentence(kind, facts):
    assert sentence(kind, 1, facts=facts)


def test_a_record_is_plain_json_with_its_position(now):
    row = EventRow(id=4, at=now, kind="judge_back", iteration=None, facts={"a": 1})
    assert event_record(row) == {
        "id": 4,
        "at": "2026-01-01T12:00:00+00:00",
        "kind": "judge_back",
        "iteration": None,
        "text": "the judge answers again",
        "facts": {"a": 1},
    }
