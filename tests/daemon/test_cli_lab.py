"""Commands about what a lab has, against a daemon of the test's own."""

import json
from uuid import UUID

from daemon.client import DaemonClient
from daemon.errors import DaemonRefused
from storage import episodes, stations
from tests.daemon.test_cli_look import cells, run, save, served  # noqa: F401 - fixtures


def rows(served, *words):  # noqa: F811
    done = run(served, *words)
    assert done.exit_code == 0, done.output or done.exception
    return cells(done.stdout)


def document(served, *words):  # noqa: F811
    return json.loads(run(served, *words, "--json").stdout)


def test_before_there_is_anything_each_says_so(served):  # noqa: F811
    for words, sentence in {
        "policies": "there is no policy yet",
        "judges": "there is no trained judge yet",
        "stations": "no station has been seen yet",
        "tasks": "no task has been registered yet",
        "audit": "nobody has done anything yet",
    }.items():
        assert run(served, words).stdout.strip() == sentence


def test_a_policy_is_promoted_and_rolled_back_and_the_audit_log_tells_why(served, save):  # noqa: F811
    old, new = save("policy"), save("policy")
    assert [row[:3] for row in rows(served, "policies")[1:]] == [[new, "2", ""], [old, "1", "main"]]
    done = run(served, "promote", new, "--reason", "it is gentler", "--key", "k")
    assert done.stdout == f"policy 2 ({new}) is the champion of main\n"
    assert rows(served, "policies", new)[1][2] == "main"
    back = document(served, "rollback", new, "--lineage", "main")
    assert (back["id"], back["champion_of"]) == (old, ["main"])
    acts = [row for row in rows(served, "audit")[1:] if row[0]]  # the others are long facts going on
    assert [row[1:4] for row in acts] == [
        ["rest", "policy rolled back", f"policy {new}"],
        ["rest", "policy promoted", f"policy {new}"],
    ]
    assert "it is gentler" in json.dumps(document(served, "audit", "--subject", f"policy {new}"))
    late = run(served, "promote", new, "--reason", "it is gentler", "--key", "k")
    assert late.stdout == f"policy 2 ({new}) is the champion of no lineage now\n"


def test_what_is_refused_says_so(served, save):  # noqa: F811
    only = save("policy")
    refused = run(served, "rollback", only)
    assert isinstance(refused.exception, DaemonRefused)
    assert refused.exception.problem_code == "no_champion_before"


def test_lists_go_on_where_they_ended(served, save):  # noqa: F811
    first, second = save("judge"), save("judge")
    done = run(served, "judges", "--limit", 1)
    assert cells(done.stdout)[1][:3] == [second, "2", "main"]
    cursor = done.stdout.strip().rsplit(" ", 1)[1]
    assert cells(run(served, "judges", "--cursor", cursor).stdout)[1][0] == first
    assert document(served, "judges", first)["id"] == first


def test_one_episode_and_its_station_task_and_checkpoint_are_shown(served, save, an_episode, now):  # noqa: F811
    policy = save("policy")
    services = served.services
    with services.database.write() as session:
        provenance = episodes.Provenance(origin="collect", checkpoint_id=policy)
        episodes.commit(session, services.blobs, an_episode(1), provenance=provenance, now=now)
        stations.ensure(session, "cell-1", description={"robot_model": "widowx"}, now=now)
    one = str(UUID(int=1))
    assert rows(served, "episode", one)[1][0] == one
    assert document(served, "episode", one)["policy_checkpoint"] == policy
    assert rows(served, "checkpoint", policy)[1][:2] == [policy, "policy"]
    assert rows(served, "stations", "cell-1")[1][:2] == ["cell-1", "widowx"]
    assert document(served, "stations")["items"] == [document(served, "stations", "cell-1")]
    assert rows(served, "tasks")[1][:2] == rows(served, "tasks", "open_drawer")[1][:2]
    assert document(served, "tasks", "open_drawer")["instruction"] == "open drawer"


def test_a_program_may_do_the_same(served, save):  # noqa: F811
    old, new = save("policy"), save("policy")
    client = DaemonClient(served.url)
    assert client.promote(new, lineage="main", reason="why not")["champion_of"] == ["main"]
    assert client.roll_back(new)["id"] == old
    assert client.policy(old)["champion_of"] == ["main"]
    assert [row["id"] for row in client.policies(limit=1)["items"]] == [new]
    assert client.checkpoint(old)["kind"] == "policy"
    assert client.audit(limit=1)["items"][0]["action"] == "policy_rolled_back"


def test_the_numbers_of_prometheus_are_printed_as_they_are(served):  # noqa: F811
    text = run(served, "metrics").stdout
    assert "# TYPE gymnastd_build_info gauge\n" in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
