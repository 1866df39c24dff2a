"""Lists of episodes by what they are: each condition alone, and together."""

from datetime import timedelta

import pytest

from storage import checkpoints, episodes, iterations, labels, tasks
from storage.episode_filter import LABELS, SHORT_ID, EpisodeFilter
from tests.daemon.conftest import START, build_episode


@pytest.fixture
def recorded(database, blobs, now):
    """Episodes 1 to 4: drawer won, lid lost, drawer without label, drawer lost and relabelled as won."""
    with database.write() as session:
        row, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        for number, (task, success) in enumerate(
            [("drawer", True), ("lid", False), ("drawer", None), ("drawer", False)], start=1
        ):
            built = build_episode(number, success=success, task_id=task)
            of = {"iteration_id": row.id} if number < 3 else {}
            origin = episodes.Provenance(origin="collect", **of)
            at = now + timedelta(seconds=number)
            episodes.commit(session, blobs, built, provenance=origin, now=at)
        verdict = labels.Verdict(success=True, source="human", at=now)
        labels.append(session, episode(4), verdict, now=now)
    return row.id


def episode(number):
    return build_episode(number).manifest.episode_id


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [4, 3, 2, 1]),
        ({"task": "drawer"}, [4, 3, 1]),
        ({"task": "no'where"}, []),
        ({"label": "success"}, [4, 1]),
        ({"label": "failure"}, [2]),
        ({"label": "unlabelled"}, [3]),
        ({"station": "cell-1", "label": "success"}, [4, 1]),
        ({"station": "cell-2"}, []),
        ({"policy": "nobody"}, []),
        ({"valid": True}, [4, 3, 2, 1]),
        ({"valid": False}, []),
        ({"since": START}, [4, 3, 2, 1]),
        ({"since": START + timedelta(seconds=1)}, []),
        ({"until": START}, []),
    ],
)
@pytest.mark.usefixtures("recorded")
def test_only_what_fits_is_found(database, asked, found):
    with database.read() as session:
        rows, _ = episodes.list_episodes(session, which=EpisodeFilter(**asked).conditions())
    assert [row.id for row in rows] == [episode(number) for number in found]


@pytest.fixture
def acted(database, blobs, now, tmp_path):
    """Policies 1 and 2, and a world model with a policy's number; policy 1 acted in 5 and 6, 2 in 7."""
    ids = {}
    with database.write() as session:
        for name, kind in (("one", "policy"), ("two", "policy"), ("world", "world_model")):
            (tmp_path / name).write_text(name)
            new = checkpoints.NewCheckpoint(kind=kind, spec_digest="5" * 64)
            ids[name] = checkpoints.save(session, blobs, new, file=tmp_path / name, now=now).id
        for number, name in ((5, "one"), (6, "one"), (7, "two")):
            origin = episodes.Provenance(origin="collect", checkpoint_id=ids[name])
            at = now + timedelta(seconds=number)
            row, _ = episodes.commit(session, blobs, build_episode(number), provenance=origin, now=at)
            row.valid_for_policy_eval = number != 6
    return ids


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (lambda ids: ids["one"], [6, 5]),
        (lambda ids: ids["one"][:SHORT_ID], [6, 5]),
        (lambda ids: ids["two"], [7]),
        (lambda ids: "1", [6, 5]),
        (lambda ids: "2", [7]),
        (lambda ids: "3", []),
        (lambda ids: ids["one"][: SHORT_ID - 1] + "x", []),
        (lambda ids: "²", []),
        (lambda ids: "%" * SHORT_ID, []),
        (lambda ids: ids["world"], []),
    ],
    ids=["id", "short id", "other id", "number", "other number", "no number", "too short", "no digit",
         "pattern", "world model"],
)  # fmt: skip
@pytest.mark.usefixtures("recorded")
def test_a_policy_is_named_by_its_number_or_by_the_beginning_of_its_id(database, acted, said, found):
    with database.read() as session:
        which = EpisodeFilter(policy=said(acted)).conditions()
        rows, _ = episodes.list_episodes(session, which=which)
    assert [row.id for row in rows] == [episode(number) for number in found]


@pytest.mark.usefixtures("acted")
def test_episodes_that_count_are_told_from_those_that_do_not(database):
    found = {}
    with database.read() as session:
        for valid in (True, False):
            rows, _ = episodes.list_episodes(session, which=EpisodeFilter(valid=valid).conditions())
            found[valid] = [row.id for row in rows]
        both, _ = episodes.list_episodes(session, which=EpisodeFilter(policy="1", valid=True).conditions())
    assert found == {True: [episode(7), episode(5)], False: [episode(6)]}
    assert [row.id for row in both] == [episode(5)]


def test_episodes_of_an_iteration_are_found(database, recorded):
    with database.read() as session:
        which = EpisodeFilter(iteration_id=recorded).conditions()
        assert {row.id for row in episodes.list_episodes(session, which=which)[0]} == {episode(1), episode(2)}


@pytest.mark.usefixtures("recorded")
def test_a_filtered_list_comes_in_pages(database):
    which = EpisodeFilter(task="drawer").conditions()
    with database.read() as session:
        first, cursor = episodes.list_episodes(session, which=which, limit=2)
        rest, end = episodes.list_episodes(session, which=which, limit=2, cursor=cursor)
    assert [row.id for row in (*first, *rest)] == [episode(4), episode(3), episode(1)]
    assert end is None


@pytest.mark.usefixtures("recorded")
def test_every_label_is_one_of_three_and_every_task_has_a_name(database):
    found = []
    with database.read() as session:
        for label in LABELS:
            found += episodes.list_episodes(session, which=EpisodeFilter(label=label).conditions())[0]
        assert len(found) == 4
        assert [row.id for row in tasks.list_tasks(session)] == ["drawer", "lid"]
