"""Quirks are read from words, and only such as there are."""

from __future__ import annotations

from dataclasses import fields

import pytest

from robot_bridge.autoeval.emulator.errors import BadQuirk, UnknownQuirk
from robot_bridge.autoeval.emulator.quirks import Quirks, with_texts


def test_the_defaults_wait_for_nothing_but_a_policy():
    quirks = Quirks()
    assert quirks.act_timeout_s is None
    waits = (quirks.launch_s, quirks.env_reset_s, quirks.scene_reset_s, quirks.step_s, quirks.upload_delay_s)
    assert sum(waits) == 0.0


def test_lifelike_has_the_real_times_and_still_no_patience_limit():
    quirks = Quirks.lifelike()
    assert (quirks.poll_s, quirks.env_reset_s) == (2.0, 4.0)
    assert quirks.act_timeout_s is None
    assert quirks.effort_limit_mA == 700.0
    assert (quirks.work_s, quirks.rest_s) == (6 * 3600, 20 * 60)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("classifier_noise=0.25", "classifier_noise", 0.25),
        ("act_timeout_s=1.5", "act_timeout_s", 1.5),
        ("act_timeout_s=none", "act_timeout_s", None),
        ("effort_limit_mA=700", "effort_limit_mA", 700.0),
        ("human_answers=false", "human_answers", False),
        ("stale_observation=true", "stale_observation", True),
        ("hub_page=3", "hub_page", 3),
        ("numpy_module=numpy._core", "numpy_module", "numpy._core"),
        ("renderer=raycast", "renderer", "raycast"),
        ("failed_resets=[0, 2]", "failed_resets", frozenset({0, 2})),
        ('lost_uploads=["traj_1.pkl"]', "lost_uploads", frozenset({"traj_1.pkl"})),
        ("motor_failures=[[0, 1, 2]]", "motor_failures", frozenset({(0, 1, 2)})),
    ],
)
def test_a_text_changes_one_quirk(text, name, value):
    before = Quirks()
    after = with_texts(before, [text])
    assert getattr(after, name) == value
    others = [field.name for field in fields(Quirks) if field.name != name]
    assert [getattr(after, other) for other in others] == [getattr(before, other) for other in others]


def test_every_quirk_can_be_written_as_a_text():
    numbers = {"float": "0.5", "int": "2", "str": "numpy._core", "bool": "true", "RendererChoice": "raycast"}
    for field in fields(Quirks):
        kind = str(field.type).removesuffix(" | None")
        with_texts(Quirks(), [f"{field.name}={numbers.get(kind, '[]')}"])


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("clasifier_noise=0.1", UnknownQuirk, "classifier_noise"),
        ("classifier_noise", BadQuirk, "classifier_noise=VALUE"),
        ("classifier_noise=much", BadQuirk, "a float, found 'much'"),
        ("classifier_noise=1.5", BadQuirk, "between 0 and 1, found 1.5"),
        ("motor_failure_probability=-0.1", BadQuirk, "between 0 and 1"),
        ("classifier_noise=nan", BadQuirk, "between 0 and 1"),
        ("step_s=-1", BadQuirk, "at least 0 seconds"),
        ("poll_s=inf", BadQuirk, "at least 0 seconds"),
        ("human_answers=perhaps", BadQuirk, "bool"),
        ("hub_page=0", BadQuirk, "at least 1"),
        ("renderer=oil", BadQuirk, "found 'oil'"),
        ("motor_failures=[[0, 1]]", BadQuirk, "motor_failures"),
        ("failed_resets=0", BadQuirk, "failed_resets"),
        ("poll_s=none", BadQuirk, "poll_s"),
    ],
)
def test_a_text_that_means_nothing_is_refused_and_says_why(text, error, says):
    with pytest.raises(error, match=says):
        with_texts(Quirks(), [text])
