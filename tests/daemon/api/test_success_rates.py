import csv
import io

import pytest
import sqlalchemy as sa

from daemon.comparison import episodes_still_needed, rate_difference
from daemon.statistics import jeffreys_interval, simultaneous_z, stratified_rate, wilson_interval
from storage import checkpoints, episodes, iterations

URL = "/v1/success-rates"


def collected(database, blobs, now, iteration, built):
    with database.write() as session:
        rows, _ = iterations.list_iterations(session)
        row = next(row for row in rows if row.number == iteration)
        provenance = episodes.Provenance(origin="collect", iteration_id=row.id)
        episodes.commit(session, blobs, built, provenance=provenance, now=now)


def test_each_task_of_each_iteration_has_a_rate_and_an_interval(client, database, blobs, now, an_episode):
    for seed in (1, 2):
        client.post("/v1/iterations", json={"seed": seed})
    for number, (iteration, task, success) in enumerate(
        [
            (1, "open_drawer", True),
            (1, "open_drawer", False),
            (1, "close_drawer", True),
            (2, "open_drawer", True),
        ]
    ):
        built = an_episode(number, task_id=task, success=success)
        collected(database, blobs, now, iteration, built)
    items = client.get(URL).json()["items"]
    told = {(item["iteration"], item["task"]): (item["successes"], item["episodes"]) for item in items}
    assert told == {
        (1, "open_drawer"): (1, 2),
        (1, "close_drawer"): (1, 1),
        (1, None): (2, 3),
        (2, "open_drawer"): (1, 1),
        (2, None): (1, 1),
    }
    both = next(item for item in items if item["iteration"] == 1 and item["task"] == "open_drawer")
    assert both["wilson_low"] == pytest.approx(0.0945, abs=1e-4)
    assert both["wilson_high"] == pytest.approx(0.9055, abs=1e-4)


def test_an_iteration_that_collected_nothing_has_no_rate(client):
    client.post("/v1/iterations", json={})
    assert client.get(URL).json() == {"items": [], "next_cursor": None}


def test_rates_come_in_pages_of_iterations(client, database, blobs, now, an_episode):
    for seed in range(3):
        client.post("/v1/iterations", json={"seed": seed})
        collected(database, blobs, now, seed + 1, an_episode(seed))
    first = client.get(URL, params={"limit": 2}).json()
    assert [item["iteration"] for item in first["items"]] == [3, 3, 2, 2]
    second = client.get(URL, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["iteration"] for item in second["items"]] == [1, 1]
    assert second["next_cursor"] is None


@pytest.fixture
def collected_twice(client, database, blobs, now, an_episode):
    """Iteration 1: drawer 1 of 2, one unlabelled; lid 1 of 1. Iteration 2: drawer 0 of 1."""
    for seed in (1, 2):
        client.post("/v1/iterations", json={"seed": seed})
    outcomes = [
        (1, "open_drawer", True),
        (1, "open_drawer", False),
        (1, "open_drawer", None),
        (1, "lid", True),
        (2, "open_drawer", False),
    ]
    for number, (iteration, task, success) in enumerate(outcomes):
        collected(database, blobs, now, iteration, an_episode(number, task_id=task, success=success))


def asked(client, **params):
    answer = client.get(URL, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.usefixtures("collected_twice")
def test_rates_are_kept_apart_by_whatever_is_asked_for(client):
    by_task = asked(client, by="task")["items"]
    assert [(one["task"], one["successes"], one["episodes"], one["unlabelled"]) for one in by_task] == [
        ("lid", 1, 1, 0),
        ("open_drawer", 1, 3, 1),
    ]
    both = asked(client, by="station, iteration")["items"]
    assert [(one["iteration"], one["station"], one["task"]) for one in both] == [
        (2, "cell-1", None),
        (1, "cell-1", None),
    ]
    (everything,) = asked(client, by="")["items"]
    assert (everything["successes"], everything["episodes"], everything["tasks"]) == (2, 4, 2)


@pytest.mark.usefixtures("collected_twice")
def test_every_rate_has_both_intervals_and_the_mean_over_its_tasks(client):
    newer, older = asked(client, by="iteration")["items"]
    assert (older["rate"], older["mean"]) == pytest.approx((2 / 3, 0.75))  # tasks: 1 of 2 and 1 of 1
    assert older["wilson_low"] == pytest.approx(wilson_interval(2, 3).low)
    assert older["jeffreys_high"] == pytest.approx(jeffreys_interval(2, 3).high)
    assert older["mean_low"] == pytest.approx(stratified_rate([(1, 2), (1, 1)]).low)
    assert (newer["rate"], newer["mean"], newer["tasks"]) == (0.0, 0.0, 1)


@pytest.mark.usefixtures("collected_twice")
def test_intervals_that_hold_at_once_are_wider(client):
    single = asked(client, by="iteration,task")["items"]
    together = asked(client, by="iteration,task", simultaneous=True)["items"]
    z = simultaneous_z(3)
    assert [one["wilson_low"] for one in together] == pytest.approx(
        [wilson_interval(one["successes"], one["episodes"], z=z).low for one in single]
    )
    assert all(
        wide["jeffreys_high"] >= own["jeffreys_high"] for wide, own in zip(together, single, strict=True)
    )


@pytest.mark.usefixtures("collected_twice")
@pytest.mark.parametrize("way", [{"params": {"format": "csv"}}, {"headers": {"Accept": "text/csv, */*"}}])
def test_rates_come_as_csv_too(client, way):
    answer = client.get(URL, params={"by": "task", **way.get("params", {})}, headers=way.get("headers"))
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["task"], row["episodes"], row["invalid"], row["policy"]) for row in rows] == [
        ("lid", "1", "0", ""),
        ("open_drawer", "3", "0", ""),
    ]
    assert float(rows[1]["rate"]) == pytest.approx(1 / 3)


@pytest.mark.usefixtures("collected_twice")
def test_a_format_that_is_named_wins_over_what_is_accepted(client):
    answer = client.get(URL, params={"by": "task", "format": "json"}, headers={"Accept": "text/csv"})
    assert [one["task"] for one in answer.json()["items"]] == ["lid", "open_drawer"]


@pytest.mark.usefixtures("collected_twice")
def test_a_page_of_csv_names_the_next_one_in_a_header(client):
    first = client.get(URL, params={"by": "task", "format": "csv", "limit": 1})
    second = client.get(
        URL, params={"by": "task", "format": "csv", "limit": 1, "cursor": first.headers["next-cursor"]}
    )
    assert [row["task"] for row in csv.DictReader(io.StringIO(second.text))] == ["open_drawer"]
    assert "next-cursor" not in second.headers


@pytest.mark.usefixtures("collected_twice")
def test_only_episodes_of_the_time_that_is_asked_for_are_counted(client):
    begun = "2026-01-01T11:00:00Z"
    assert asked(client, by="", **{"from": begun})["items"][0]["episodes"] == 4
    assert asked(client, by="", to=begun)["items"] == []


def test_nothing_collected_gives_an_empty_page_and_an_empty_table(client):
    assert asked(client, by="task") == {"items": [], "next_cursor": None}
    assert client.get(URL, params={"by": "task", "format": "csv"}).text == ""


@pytest.mark.parametrize(
    "params",
    [
        {"by": "colour"},
        {"by": "task,colour"},
        {"from": "2026-01-01T11:00:00Z"},
        {"simultaneous": "true"},
        {"by": "task", "to": "2026-01-01T11:00:00"},  # in which zone?
        {"by": "task", "format": "xml"},
        {"by": "task", "group": "task"},
        {"by": "task", "cursor": "x"},
    ],
)
def test_a_question_that_nobody_understands_is_refused(client, params):
    answer = client.get(URL, params=params)
    assert answer.status_code == 422
    assert answer.json()["code"] in {"request_invalid", "cursor_invalid"}


def test_a_page_costs_three_queries_however_many_iterations_it_has(client, database, blobs, now, an_episode):
    counts, statements = [], []
    sa.event.listen(database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for seed in range(1, 4):
        client.post("/v1/iterations", json={"seed": seed})
        collected(database, blobs, now, seed, an_episode(seed))
        statements.clear()
        client.get(URL)
        ours = ("number DESC", "FROM success_counts", "FROM trials")  # not those of the clockwork beside us
        counts.append(sum(any(part in statement for part in ours) for statement in statements))
    assert counts == [3, 3, 3]


@pytest.fixture
def two_policies(client, database, blobs, now, an_episode, tmp_path):
    """The old one won the drawer 1 of 4, the new one 4 of 4; the lid was the old one's alone."""
    client.post("/v1/iterations", json={})
    made = []
    with database.write() as session:
        row = iterations.list_iterations(session)[0][0]
        for name in ("old", "new"):
            (tmp_path / name).write_text(name)
            new = checkpoints.NewCheckpoint(kind="policy", spec_digest="5" * 64)
            made.append(checkpoints.save(session, blobs, new, file=tmp_path / name, now=now).id)
        played = [(0, "open_drawer", n == 0) for n in range(4)] + [(1, "open_drawer", True)] * 4
        for number, (policy, task, success) in enumerate([*played, (0, "lid", True)]):
            origin = episodes.Provenance(origin="collect", iteration_id=row.id, checkpoint_id=made[policy])
            built = an_episode(number, task_id=task, success=success)
            episodes.commit(session, blobs, built, provenance=origin, now=now)
    return made


def test_two_policies_are_compared_at_the_tasks_that_both_have_tried(client, two_policies):
    old, new = two_policies
    answer = client.get(f"{URL}/difference/{old}/{new}").json()
    assert list(answer["tasks"]) == ["open_drawer"]
    task, expected = answer["tasks"]["open_drawer"], rate_difference((1, 4), (4, 4))
    assert task["one"] == {"successes": 1, "episodes": 4}
    assert task["difference"] == pytest.approx(
        {"value": expected.value, "low": expected.low, "high": expected.high}
    )
    assert task["episodes_still_needed"] == episodes_still_needed((1, 4), (4, 4))
    assert answer["mean"] == pytest.approx(task["difference"])
    assert answer["told_apart"] is (expected.low > 0)


@pytest.fixture
def judged(client, database, blobs, now, an_episode, tmp_path):
    """Bring in iterations of (ends early, policy, task, successes of two); the policies' ids."""

    def bring(*iterations_of):
        made = []
        for name in ("old", "new"):
            (tmp_path / name).write_text(name)
            new = checkpoints.NewCheckpoint(kind="policy", spec_digest="5" * 64)
            with database.write() as session:
                made.append(checkpoints.save(session, blobs, new, file=tmp_path / name, now=now).id)
        for turn, (early, policy, task, won) in enumerate(iterations_of):
            spec = {"seed": turn, **({"stop_on_success": True} if early else {})}
            with database.write() as session:
                row, _ = iterations.request_iteration(session, spec=spec, idempotency_key=None, now=now)
                for index in range(2):
                    built = an_episode(10 * turn + index, task_id=task, success=index < won)
                    origin = episodes.Provenance(
                        origin="collect", iteration_id=row.id, checkpoint_id=made[policy]
                    )
                    episodes.commit(session, blobs, built, provenance=origin, now=now)
        return made

    return bring


def test_policies_are_compared_by_episodes_that_ended_alike(client, judged):
    """The drawer: full length of both. The lid: ended early in both. The sink: never alike."""
    old, new = judged(
        (False, 0, "drawer", 1), (True, 0, "drawer", 2), (False, 1, "drawer", 2),
        (True, 0, "lid", 2), (True, 1, "lid", 1),
        (True, 0, "sink", 2), (False, 1, "sink", 1),
    )  # fmt: skip
    answer = client.get(f"{URL}/difference/{old}/{new}").json()
    told = {
        task: (own["one"]["successes"], own["other"]["successes"]) for task, own in answer["tasks"].items()
    }
    assert told == {"drawer": (1, 2), "lid": (2, 1)}
    assert (answer["ended_early"], answer["not_comparable"]) == (["lid"], ["sink"])
    back = client.get(f"{URL}/difference/{new}/{old}").json()
    assert (back["ended_early"], back["not_comparable"]) == (["lid"], ["sink"])


def test_the_rate_of_an_iteration_says_whether_its_episodes_may_end_early(client, judged):
    judged((False, 0, "lid", 1), (True, 0, "lid", 2))
    items = client.get(URL).json()["items"]
    told = {(item["iteration"], item["task"]): item["may_end_early"] for item in items}
    assert told == {(1, "lid"): False, (1, None): False, (2, "lid"): True, (2, None): True}


def test_a_policy_beside_itself_needs_more_episodes_for_ever(client, two_policies):
    answer = client.get(f"{URL}/difference/{two_policies[0]}/{two_policies[0]}").json()
    assert answer["corrected_for"] == 2
    assert answer["told_apart"] is False
    assert [task["episodes_still_needed"] for task in answer["tasks"].values()] == [None, None]


def test_a_policy_that_does_not_exist_cannot_be_compared(client, two_policies):
    answer = client.get(f"{URL}/difference/{two_policies[0]}/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "page_not_found")
