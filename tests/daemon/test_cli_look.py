"""The commands that look at what a daemon keeps, against a daemon of the test's own."""

import json
from uuid import UUID

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.curves import append_moment, curves_path
from daemon.errors import DaemonRefused, PageNotFound
from daemon.iteration import advance
from daemon.settings import Settings
from storage import checkpoints, episodes, iterations, phase_runs, trust_reports
from tests.daemon.serving import serving

EPISODE = str(UUID(int=1))


@pytest.fixture
def served(tmp_path):
    with serving(Settings(data_dir=tmp_path / "lab", worker_count=0)) as served:
        yield served


@pytest.fixture
def save(served, now, tmp_path):
    def save_one(kind, parent_id=None):
        file = tmp_path / "new.safetensors"
        file.write_bytes(kind.encode())
        new = checkpoints.NewCheckpoint(kind=kind, spec_digest="d" * 64, card={}, parent_id=parent_id)
        with served.services.database.write() as session:
            return checkpoints.save(session, served.services.blobs, new, file=file, now=now).id

    return save_one


@pytest.fixture
def played(served, now, an_episode):
    """Keep an episode that a policy acted in."""

    def keep(number, *, policy=None, success=True, valid=True):
        built = an_episode(number, success=success)
        provenance = episodes.Provenance(origin="collect", checkpoint_id=policy)
        with served.services.database.write() as session:
            episodes.commit(session, served.services.blobs, built, provenance=provenance, now=now)

    return keep


def run(served, *words):
    words = [str(word) for word in words]
    return CliRunner().invoke(app, [*words, "--url", served.url], env={"COLUMNS": "200"})


def cells(output):
    """The rows of a table on a terminal, as lists of what stands in them."""
    lines = [line.replace("┃", "│").strip("│") for line in output.splitlines() if "│" in line or "┃" in line]
    return [[cell.strip() for cell in line.split("│")] for line in lines]


def test_before_anything_is_kept_each_says_so(served):
    for words, sentence in {
        ("episodes",): "no episode has been recorded yet",
        ("checkpoints",): "there is no checkpoint yet",
        ("alarms",): "no alarm; 0 policies acted in several iterations",
        ("stations",): "no station has been seen yet",
        ("success-rates", "--by", "task"): "no episode has been recorded yet",
    }.items():
        assert run(served, *words).stdout.strip() == sentence


def test_episodes_are_listed_with_their_verdict_and_who_gave_it(served, played):
    played(1, success=True)
    played(2, success=None)
    rows = cells(run(served, "episodes").stdout)
    assert rows[0][:3] == ["episode", "iteration", "task"]
    assert [row[0] for row in rows[1:]] == [str(UUID(int=2)), EPISODE]
    assert [row[5] for row in rows[1:]] == ["unknown, nobody", "success, sim_predicate"]
    assert len(json.loads(run(served, "episodes", "--limit", 1, "--json").stdout)["items"]) == 1


def test_notes_are_listed_and_stand_below_their_episode(served, played):
    played(1)
    assert run(served, "notes", EPISODE).stdout.strip() == "nobody has written a note on it yet"
    assert len(cells(run(served, "episode", EPISODE).stdout)) == 2
    for text in ("the cable snagged", "[/red] as it is"):
        run(served, "note", EPISODE, text, "--author", "ann")
    rows = cells(run(served, "notes", EPISODE).stdout)
    assert rows[0] == ["at", "who", "note"]
    assert [row[1:] for row in rows[1:]] == [["ann", "the cable snagged"], ["ann", "[/red] as it is"]]
    head, record, *below = cells(run(served, "episode", EPISODE).stdout)
    assert dict(zip(head, record, strict=True))["notes"] == "2"
    assert below == rows
    assert dict(zip(*cells(run(served, "episodes").stdout), strict=True))["notes"] == "2"


def test_stations_say_what_was_cut_and_how_long_steps_took(served, played):
    played(1)
    head, row = cells(run(served, "stations").stdout)
    told = dict(zip(head, row, strict=True))
    assert (told["station"], told["episodes"], told["measured"]) == ("cell-1", "1", "1")
    assert (told["invalid"], told["steps cut"], told["by stage"]) == ("0 %", "0 %", "")
    assert told["step, ms"] == "204, 204"
    (record,) = json.loads(run(served, "stations", "--json").stdout)["items"]
    health = record["health"]
    assert (record["id"], health["steps"], health["cut_steps"]) == ("cell-1", 3, 0)


def test_labels_show_every_verdict_and_which_one_counts(served, played):
    played(1, success=True)
    run(served, "label", EPISODE, "failure", "--labeller", "ann", "--note", "dropped it")
    rows = cells(run(served, "labels", EPISODE).stdout)[1:]
    assert [(row[1], row[2], row[5]) for row in rows] == [
        ("success", "sim_predicate", ""),
        ("failure", "human", "yes"),
    ]
    assert rows[1][3:5] == ["ann", "dropped it"]


def test_a_film_is_fetched_into_a_file(served, played, tmp_path):
    played(1)
    done = run(served, "video", EPISODE, "--out", tmp_path / "film.mp4")
    assert done.exit_code == 0, done.output
    film = (tmp_path / "film.mp4").read_bytes()
    assert film[4:8] == b"ftyp"
    told = json.loads(run(served, "video", EPISODE, "--out", tmp_path / "film.mp4", "--json").stdout)
    assert told == {"episode": EPISODE, "file": str(tmp_path / "film.mp4"), "bytes": len(film)}


def test_a_strip_that_an_iteration_left_is_fetched_and_one_that_it_did_not_is_told(served, now, tmp_path):
    strip = served.services.blobs.put(b"\xff\xd8real")
    claimed = claim(served, now)
    strips = {"open_drawer": {"episode_id": "e", "real": strip, "imagined": strip}}
    with served.services.database.write() as session:
        phase_runs.finish(session, claimed, outcome={"film_strips": strips}, now=now)
    file = tmp_path / "strip.jpg"
    assert run(served, "film-strip", 1, "open_drawer", "real", "--out", file).exit_code == 0
    assert file.read_bytes() == b"\xff\xd8real"
    told = json.loads(run(served, "film-strip", 1, "open_drawer", "real", "--out", file, "--json").stdout)
    which = {"iteration": 1, "task": "open_drawer", "origin": "real"}
    assert told == {**which, "file": str(file), "bytes": len(b"\xff\xd8real")}
    missing = run(served, "film-strip", 1, "close_drawer", "real", "--out", file)
    assert isinstance(missing.exception, PageNotFound)


def test_checkpoints_are_listed_with_their_parents(served, save):
    base = save("policy")
    save("world_model")
    better = save("policy", base)
    rows = cells(run(served, "checkpoints", "--kind", "policy").stdout)[1:]
    assert [(row[0], row[4]) for row in rows] == [(better, base), (base, "")]
    everything = json.loads(run(served, "checkpoints", "--json").stdout)["items"]
    assert {item["kind"] for item in everything} == {"policy", "world_model"}


def test_how_far_a_world_model_is_trusted_is_shown(served, save, now):
    checkpoint = save("world_model")
    assert run(served, "trust", checkpoint).stdout.strip() == "it was never measured"
    new = trust_reports.NewTrustReport(
        checkpoint_id=checkpoint,
        iteration_id=None,
        verdict="accepted",
        episodes=12,
        horizon=31,
        agreement=0.75,
        optimism=0.1,
        sensitivity=None,
        report={},
    )
    with served.services.database.write() as session:
        trust_reports.save(session, new, now=now)
    (row,) = cells(run(served, "trust", checkpoint).stdout)[1:]
    assert row[2:] == ["accepted", "12", "31", "75 %", "+10", ""]


def test_curves_show_where_they_began_and_ended(served, now):
    claimed = claim(served, now)
    path = curves_path(served.services.settings.data_dir, claimed.phase_run_id)
    for update, loss in ((1, 0.5), (40, 0.125)):
        append_moment(path, {"update": update, "loss": loss}, now=now)
    (row,) = cells(run(served, "curves", 1).stdout)[1:]
    assert row == [claimed.phase, "loss", "2", "0.5", "0.125", "40"]
    assert json.loads(run(served, "curves", 1, "--json").stdout)[claimed.phase]["loss"] == [
        [1.0, 0.5],
        [40.0, 0.125],
    ]


def test_two_policies_are_compared(served, save, played):
    one = save("policy")
    other = save("policy", one)
    for number in range(8):
        played(number, policy=one if number < 4 else other, success=number >= 4)
    said = run(served, "compare", one, other).stdout
    (row,) = cells(said)[1:]
    assert row[:3] == ["open_drawer", "0/4", "4/4"]
    assert row[3].startswith("+100 [+")
    assert said.splitlines()[-1].endswith("; they are told apart")
    assert json.loads(run(served, "compare", one, other, "--json").stdout)["told_apart"] is True
    assert isinstance(run(served, "compare", one, "nobody").exception, DaemonRefused)


def test_success_can_be_kept_apart_in_any_way_and_written_as_csv(served, save, played):
    policy = save("policy")
    for number in range(4):
        played(number, policy=policy, success=[True, True, False, None][number])
    (row,) = cells(run(served, "success-rates", "--by", "policy").stdout)[1:]
    assert row == ["", "", "1", "", "2/3", "21 to 94 %", "67 %", "1", "0"]
    lines = run(served, "success-rates", "--by", "task", "--csv").stdout.splitlines()
    assert lines[0].startswith("iteration,task,policy")
    assert lines[1].startswith(",open_drawer,")
    assert run(served, "success-rates", "--csv", "--json").exit_code == 2
    late = run(served, "success-rates", "--by", "task", "--since", "2100-01-01T00:00:00Z").stdout
    assert late.strip() == "no episode has been recorded yet"


def test_the_ledger_is_written_as_csv_too(served, now):
    claim(served, now)
    head, row = run(served, "ledger", "--csv").stdout.splitlines()
    assert head.startswith("iteration,robot_episodes,robot_seconds,worker_seconds.collect,")
    assert row.startswith("1,0,0.0,0.0,")
    assert run(served, "ledger", "--csv", "--json").exit_code == 2


def claim(served, now):
    """One iteration whose first phase a worker holds."""
    claimed = None
    with served.services.database.write() as session:
        iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
    while claimed is None:
        with served.services.database.write() as session:
            advance(session, now=now)
            claimed = phase_runs.claim(session, "w", ttl_s=10**9, now=now)
    return claimed
