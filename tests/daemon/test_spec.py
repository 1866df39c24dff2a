import json

import pytest
from pydantic import ValidationError

from daemon.errors import SpecInvalid, SpecUnknownField
from daemon.spec import (
    CARRIES,
    PHASES,
    TASK_IDS,
    YOUNGER,
    CollectSpec,
    IterationSpec,
    parse_spec,
    phases_of,
)
from storage import phase_runs
from storage.canonical import json_digest


def test_an_empty_document_asks_for_the_default_iteration():
    assert parse_spec({}) == IterationSpec()


def test_the_stored_document_gives_the_same_spec_back():
    spec = parse_spec({"seed": 7, "tasks": ["open_drawer"], "policy": {"updates": 3, "clip_high": 0.5}})
    assert parse_spec(json.loads(json.dumps(spec.document()))) == spec


def test_the_document_writes_every_default_out():
    document = parse_spec({}).document()
    assert set(document) == set(IterationSpec.model_fields) - set(YOUNGER)
    assert set(document["collect"]) == set(CollectSpec.model_fields)
    assert parse_spec(document) == IterationSpec()


def test_every_task_of_the_cell_may_be_asked_for():
    assert parse_spec({"tasks": list(TASK_IDS)}).tasks == TASK_IDS


def test_equal_specs_have_equal_digests_whatever_was_spelled_out():
    spelled_out = {"collect": {"episodes_per_task": CollectSpec().episodes_per_task}}
    assert parse_spec({}).digest() == parse_spec(spelled_out).digest()


def test_a_spec_from_before_phases_could_be_chosen_means_all_three_and_keeps_its_digest():
    stored = parse_spec({"seed": 4}).document()
    assert "phases" not in stored
    assert parse_spec(stored).phases == PHASES == phase_runs.PHASES
    assert phases_of(stored) == PHASES
    assert parse_spec({"seed": 4, "phases": list(PHASES)}).digest() == json_digest(stored, what="it")


def test_a_spec_from_before_episodes_could_stop_means_their_full_length_and_keeps_its_digest():
    stored = parse_spec({"seed": 4}).document()
    assert "stop_on_success" not in stored
    assert parse_spec({"seed": 4, "stop_on_success": False}).digest() == json_digest(stored, what="it")
    stopping = parse_spec({"seed": 4, "stop_on_success": True})
    assert stopping.document() == {**stored, "stop_on_success": True}
    assert parse_spec(stopping.document()) == stopping


def test_a_spec_from_before_trials_were_carried_on_keeps_its_digest():
    stored = parse_spec({"seed": 4}).document()
    assert "carries" not in stored["trial"]
    assert parse_spec(stored).trial.carries == CARRIES == 1
    assert parse_spec({"seed": 4, "trial": {"carries": 1}}).digest() == json_digest(stored, what="it")
    ending = parse_spec({"seed": 4, "trial": {"carries": 0}})
    assert ending.document()["trial"] == {**stored["trial"], "carries": 0}
    assert parse_spec(ending.document()) == ending


@pytest.mark.parametrize("carries", [-1, 11, 1.0, True])
def test_a_trial_goes_on_a_whole_number_of_times_and_not_for_ever(carries):
    with pytest.raises(SpecInvalid, match=r"trial\.carries"):
        parse_spec({"trial": {"carries": carries}})


def test_a_judge_does_not_agree_with_itself_in_an_ensemble() -> None:
    with pytest.raises(SpecInvalid, match=r"judge.ensemble: .*each may be named once"):
        parse_spec({"judge": {"ensemble": ["vlm_http", "vlm_http"]}})


@pytest.mark.parametrize("kind", ["vlm_http", "vlm_local", "ensemble"])
def test_an_arm_is_not_kept_waiting_by_a_judge_that_may_take_long(kind):
    asked = {"stop_on_success": True, "judge": {"kind": kind}}
    with pytest.raises(SpecInvalid, match=f"needs judge.kind success_classifier .* {kind} may take longer"):
        parse_spec(asked)
    imagined = parse_spec({**asked, "phases": ["finetune_world_model", "update_policy"]})
    assert (imagined.stop_on_success, imagined.ends_real_episodes) == (True, False)
    assert parse_spec({"judge": {"kind": kind}}).stop_on_success is False


@pytest.mark.parametrize("via", ["callback", "autoeval"])
def test_real_episodes_stop_only_where_somebody_looks_between_two_chunks(via):
    stopping = parse_spec({"stop_on_success": True})
    stopping.require_way("stepped")
    with pytest.raises(SpecInvalid, match=f"GYMNASTD_COLLECT_VIA is {via}.*Collect via stepped") as refused:
        stopping.require_way(via)
    assert set(refused.value.faults) == {"stop_on_success"}
    parse_spec({}).require_way(via)
    parse_spec({"stop_on_success": True, "phases": ["update_policy"]}).require_way(via)


@pytest.mark.parametrize(
    ("named", "walked"),
    [
        (["collect"], ("collect",)),
        (["update_policy", "collect"], ("collect", "update_policy")),
        (["update_policy", "finetune_world_model", "collect"], PHASES),
    ],
)
def test_chosen_phases_are_stored_and_always_come_in_the_same_order(named, walked):
    spec = parse_spec({"phases": named})
    assert spec.phases == walked
    assert phases_of(json.loads(json.dumps(spec.document()))) == walked
    assert parse_spec(spec.document()) == spec


@pytest.mark.parametrize("named", [[], ["collect", "collect"], ["rest"], "collect", None])
def test_phases_that_cannot_be_walked_are_refused(named):
    with pytest.raises(SpecInvalid, match="phases"):
        parse_spec({"phases": named})


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"phases": ["collect"]},
        {"lineage": "b"},
        {"tasks": ["open_drawer"]},
        {"collect": {"temperature": 0.1}},
        {"world_model": {"fresh_share": 0.25}},
        {"policy": {"epochs": 1}},
        {"stop_on_success": True},
        {"trial": {"carries": 0}},
    ],
)
def test_any_difference_changes_the_digest(change):
    assert parse_spec(change).digest() != parse_spec({}).digest()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"sead": 1}, "sead"),
        ({"collect": {"episodes": 4}}, "collect.episodes"),
        ({"policy": {"group_size": 4, "kl_beta": 0.1}}, "policy.kl_beta"),
        ({"collect": {"episodes": 4}, "seed": -1}, "collect.episodes"),
    ],
)
def test_an_unknown_field_is_refused_by_name(document, field):
    with pytest.raises(SpecUnknownField) as refused:
        parse_spec(document)
    assert refused.value.code == "spec_unknown_field"
    assert field in refused.value.faults
    assert field in str(refused.value)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**31}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": "1"}, "seed"),
        ({"lineage": "a/b"}, "lineage"),
        ({"lineage": None}, "lineage"),
        ({"tasks": ["juggle"]}, "tasks.0"),
        ({"collect": {"episodes_per_task": 0}}, "collect.episodes_per_task"),
        ({"collect": {"held_out_every": 1}}, "collect.held_out_every"),
        ({"collect": {"temperature": -0.1}}, "collect.temperature"),
        ({"world_model": {"updates": -1}}, "world_model.updates"),
        ({"world_model": {"frames": 1}}, "world_model.frames"),
        ({"world_model": {"learning_rate": 0}}, "world_model.learning_rate"),
        ({"world_model": {"learning_rate": float("nan")}}, "world_model.learning_rate"),
        ({"world_model": {"fresh_share": 1.01}}, "world_model.fresh_share"),
        ({"judge": {"updates": -1}}, "judge.updates"),
        ({"policy": {"group_size": 1}}, "policy.group_size"),
        ({"policy": {"temperature": 0}}, "policy.temperature"),
        ({"policy": {"clip_high": float("inf")}}, "policy.clip_high"),
        ({"policy": {"clip_low": 1.0}}, "policy.clip_low"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_the_path_of_its_field(document, field):
    with pytest.raises(SpecInvalid) as refused:
        parse_spec(document)
    assert refused.value.code == "spec_invalid"
    assert list(refused.value.faults) == [field]


@pytest.mark.parametrize("tasks", [[], ["open_drawer", "open_drawer"]])
def test_tasks_are_named_once_or_not_at_all(tasks):
    with pytest.raises(SpecInvalid, match="at least one task, each once"):
        parse_spec({"tasks": tasks})


@pytest.mark.parametrize("document", [None, [], "open the drawer", 3])
def test_what_is_not_an_object_is_no_spec(document):
    with pytest.raises(SpecInvalid):
        parse_spec(document)


def test_a_spec_cannot_be_changed_after_it_was_accepted():
    spec = parse_spec({})
    with pytest.raises(ValidationError, match="frozen"):
        spec.seed = 3


def test_a_spec_of_main_has_the_digest_that_it_had_before_there_were_lineages():
    assert parse_spec({"lineage": "main"}).document() == parse_spec({}).document()
    assert "lineage" not in parse_spec({}).document()
    assert parse_spec({"lineage": "b"}).document()["lineage"] == "b"
