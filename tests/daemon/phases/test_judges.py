"""Which judge an iteration asks: what its spec says, with the endpoint of the settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from daemon.errors import SettingInvalid
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.reward.ensemble import EnsembleJudge
from daemon.phases import collect, finetune_world_model, update_policy
from daemon.phases.context import PhaseContext
from daemon.phases.judges import judge_for
from daemon.phases.telling import ToldJudge
from tests.daemon.judges.emulator import Endpoint, running
from tests.daemon.learning.policy.tiny_vlms import llava
from tests.daemon.phases.conftest import SMALL, Lab, a_coin
from tests.robot_bridge.toy_driver import TASKS


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with running(Endpoint()) as found:
        yield found


def asking(lab: Lab, kind: str, url: str | None, **vlm: Any) -> PhaseContext:
    """A phase of an iteration whose spec wants this judge."""
    lab.request({**SMALL, "judge": {"updates": 2, "kind": kind, "vlm": {"votes": 2, **vlm}}})
    return at(lab.context("update_policy"), url)


def _grey(frames: int) -> torch.Tensor:
    return torch.full((1, frames, 3, 64, 64), 90, dtype=torch.uint8)


def at(context: PhaseContext, url: str | None) -> PhaseContext:
    return replace(context, settings=context.settings.model_copy(update={"judge_url": url}))


@pytest.mark.parametrize(
    ("kind", "judge"),
    [("success_classifier", ClassifierJudge), ("vlm_http", ToldJudge), ("ensemble", EnsembleJudge)],
)
def test_the_spec_says_who_judges(lab: Lab, endpoint: Endpoint, kind: str, judge: type) -> None:
    context = asking(lab, kind, endpoint.url)
    found = judge_for(context, a_coin(tuple(TASKS.values())), say=str)
    assert isinstance(found, judge)
    assert found.frames == (3 if kind == "success_classifier" else SMALL["steps"] + 1)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [("vlm_http", "judge_url"), ("ensemble", "judge_url"), ("vlm_local", "judge_model_dir")],
)
def test_a_model_that_the_settings_do_not_name_is_refused(lab: Lab, kind: str, setting: str) -> None:
    with pytest.raises(SettingInvalid, match=setting):
        judge_for(asking(lab, kind, None), a_coin(("a",)), say=str)


def test_a_model_in_a_folder_judges_with_the_rubrics_of_the_spec(lab: Lab, tmp_path: Path) -> None:
    llava(tmp_path)
    context = asking(lab, "vlm_local", None, done={"open the drawer": "it gapes"})
    settings = context.settings.model_copy(update={"judge_model_dir": tmp_path})
    said: list[str] = []
    judge = judge_for(replace(context, settings=settings), a_coin(("a",)), say=said.append)
    assert judge.judge(_grey(judge.frames), ["open the drawer"]).probability.shape == (1,)
    assert said == ["1 of 1 rollouts are judged"]


def test_rubrics_and_the_key_of_the_settings_reach_the_endpoint(lab: Lab, endpoint: Endpoint) -> None:
    context = asking(lab, "vlm_http", endpoint.url, done={"open the drawer": "it gapes"}, model="eyes-9")
    key = lab.folder / "key"
    key.write_text("sk-1\n")
    context = replace(context, settings=context.settings.model_copy(update={"judge_key_file": key}))
    judge = judge_for(context, a_coin(("a",)), say=str)
    judge.judge(_grey(judge.frames), ["open the drawer"])
    (body,) = endpoint.bodies
    assert body["model"] == "eyes-9"
    assert "it gapes" in body["messages"][0]["content"][0]["text"]
    assert endpoint.keys == ["Bearer sk-1"]


def test_the_wait_for_an_endpoint_is_the_phase_s_progress(lab: Lab, endpoint: Endpoint) -> None:
    endpoint.days = ["busy"]
    said: list[str] = []
    judge = judge_for(asking(lab, "vlm_http", endpoint.url), a_coin(("a",)), say=said.append)
    judge.judge(_grey(judge.frames), ["open the drawer"])
    assert [text.split(" since")[0] for text in said] == [
        "waiting for the judge",
        "1 of 1 rollouts are judged",
    ]


def test_an_iteration_judged_by_a_model_runs_whole_and_tells_its_costs(lab: Lab, endpoint: Endpoint) -> None:
    vlm = {"votes": 2, "max_requests": 500}
    lab.request({**SMALL, "judge": {"updates": 2, "kind": "vlm_http", "vlm": vlm}})
    lab.do("collect", collect.run)
    for phase, run in (
        ("finetune_world_model", finetune_world_model.run),
        ("update_policy", update_policy.run),
    ):
        context = at(lab.context(phase), endpoint.url)
        outcome = run(context)
        lab.end(context, outcome)
    assert outcome["imagined_success"]["open_drawer"]["last"] == 1.0, "it says yes to everything"
    (costs,) = (lab.folder / "judge" / "costs").iterdir()
    spent = json.loads(costs.read_text())
    assert spent["requests"] == len(endpoint.bodies) > 0


def test_a_spent_budget_ends_the_updates_and_not_the_iteration(lab: Lab, endpoint: Endpoint) -> None:
    vlm = {"votes": 2, "max_requests": 0}
    lab.request({**SMALL, "judge": {"updates": 2, "kind": "vlm_http", "vlm": vlm}})
    lab.do("collect", collect.run)
    outcome = update_policy.run(at(lab.context("update_policy"), endpoint.url))
    assert (outcome["updates"], outcome["made"]) == (0, {})
    assert endpoint.bodies == []
