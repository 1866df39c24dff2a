"""What updates amounted to: success by instruction, and what became of groups."""

import pytest

from daemon.learning.policy_report import Groups, UpdateOutcome, report_of

OPEN, CLOSE = "open the drawer", "close the drawer"


def groups(**changes: int) -> Groups:
    counts = {"imagined": 4, "informative": 3, "learned": 2, "carried": 1, "expired": 0, "wasted_rollouts": 8}
    return Groups(**{**counts, **changes})


def an_outcome(judged: dict[str, int], succeeded: dict[str, int], **changes: object) -> UpdateOutcome:
    parts = {"known_share": 1.0, "groups": groups(), "optimizer_steps": 2, "learned": {"loss": 0.5}}
    return UpdateOutcome(judged=judged, succeeded=succeeded, **{**parts, **changes})  # type: ignore[arg-type]


def test_an_update_tells_success_of_all_and_of_each_instruction() -> None:
    metrics = an_outcome({OPEN: 10, CLOSE: 30}, {OPEN: 5, CLOSE: 30}).metrics()
    assert metrics["imagined_success"] == 35 / 40
    assert metrics[f"imagined_success/{OPEN}"] == 0.5
    assert metrics[f"imagined_success/{CLOSE}"] == 1.0
    assert metrics["loss"] == 0.5


def test_an_instruction_that_nobody_judged_is_not_told() -> None:
    metrics = an_outcome({OPEN: 0}, {OPEN: 0}).metrics()
    assert "imagined_success" not in metrics
    assert f"imagined_success/{OPEN}" not in metrics


def test_what_became_of_groups_is_counted() -> None:
    metrics = an_outcome({OPEN: 8}, {OPEN: 4}, groups=groups(expired=2)).metrics()
    assert metrics["informative_share"] == 0.75
    assert metrics["groups_learned"] == 2
    assert metrics["groups_carried"] == 1
    assert metrics["groups_dropped"] == (4 - 3) + 2
    assert metrics["wasted_rollouts"] == 8


def test_an_update_that_imagined_nothing_counts_for_no_share() -> None:
    idle = an_outcome({}, {}, groups=groups(imagined=0, informative=0))
    assert idle.informative_share is None
    assert "informative_share" not in idle.metrics()
    busy = an_outcome({}, {}, groups=groups(imagined=4, informative=2))
    assert report_of([busy, idle]).informative_share == 0.5
    assert report_of([idle]).informative_share == 0.0


def test_first_is_before_any_learning_and_last_the_mean_of_the_last_quarter() -> None:
    history = [an_outcome({OPEN: 10}, {OPEN: won}) for won in (1, 2, 3, 4, 5, 6, 7, 9)]
    success = report_of(history).imagined_success[OPEN]
    assert (success.first, success.last, success.rollouts) == (0.1, 0.8, 80)


def test_an_instruction_that_came_late_has_no_first() -> None:
    history = [an_outcome({OPEN: 10}, {OPEN: 1}), an_outcome({OPEN: 10, CLOSE: 10}, {OPEN: 2, CLOSE: 10})]
    found = report_of(history).imagined_success
    assert (found[CLOSE].first, found[CLOSE].last) == (None, 1.0)
    assert found[CLOSE].rollouts == 10


def test_shares_are_means_over_updates_and_steps_and_waste_are_sums() -> None:
    history = [
        an_outcome({OPEN: 8}, {OPEN: 4}, known_share=1.0, optimizer_steps=3),
        an_outcome({OPEN: 4}, {OPEN: 4}, known_share=0.5, optimizer_steps=0, groups=groups(informative=1)),
    ]
    report = report_of(history)
    assert (report.updates, report.optimizer_steps, report.wasted_rollouts) == (2, 3, 16)
    assert report.known_share == pytest.approx(0.75)
    assert report.informative_share == pytest.approx(0.5)


def test_nothing_made_is_a_report_of_nothing() -> None:
    report = report_of([])
    assert (report.updates, report.imagined_success, report.known_share) == (0, {}, 0.0)


def test_sentences_of_one_task_are_told_as_that_task() -> None:
    pull = "pull the drawer out"
    history = [
        an_outcome({OPEN: 10, pull: 30, CLOSE: 5}, {OPEN: 5, pull: 3, CLOSE: 5}),
        an_outcome({OPEN: 10, pull: 0, CLOSE: 5}, {OPEN: 9, pull: 0, CLOSE: 4}),
    ]
    found = report_of(history, tasks={OPEN: "open_drawer", pull: "open_drawer"}).imagined_success
    assert list(found) == ["open_drawer", CLOSE], "one without a task is told by itself"
    drawer = found["open_drawer"]
    assert (drawer.first, drawer.last, drawer.rollouts) == (8 / 40, 0.9, 50)
