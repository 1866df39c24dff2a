"""The lineage of a checkpoint as a graph: generations from top to bottom, what was rejected beside them."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from daemon.dashboard.ancestry import LONGEST_NAME, MOST_BESIDE, MOST_ROWS, Box, ancestry_of
from daemon.iteration import find_iteration
from storage import checkpoints, trials, trust_reports
from storage.trials import NewTrial

PHONE = 366  # of 390 pixels, what is left between the margins of a page

pytestmark = pytest.mark.usefixtures("laboratory")


@pytest.fixture
def make(database, blobs, tmp_path):
    """One more policy, of iteration 2 if it is told so; gives its id."""
    numbers = iter(range(3, 1000))

    def one(parent, *, iteration=None, lineage=None, kind="policy"):
        file = tmp_path / f"{kind}-{next(numbers)}"
        file.write_text(file.name)
        with database.write() as session:
            owner = find_iteration(session, iteration).id if iteration else None
            new = checkpoints.NewCheckpoint(
                kind=kind, spec_digest="5" * 64, parent_id=parent, iteration_id=owner, lineage=lineage
            )
            return checkpoints.save(session, blobs, new, file=file, now=datetime.now(UTC)).id

    return one


@pytest.fixture
def reject(database):
    """A trial rejects a policy."""

    def one(champion, candidate):
        new = NewTrial(
            iteration_id=None, champion_id=champion, candidate_id=candidate, decision="rejected", evidence={}
        )
        with database.write() as session:
            trials.save(session, new, now=datetime.now(UTC))

    return one


@pytest.fixture
def look(database):
    """The graph of a checkpoint, as iteration 2 sees it."""

    def one(checkpoint_id):
        with database.read() as session:
            return ancestry_of(session, checkpoint_id, seen_from=find_iteration(session, 2))

    return one


def test_the_line_goes_from_the_newest_on_top_to_the_first(look, laboratory):
    found = look(laboratory[1]["policy"])
    assert [(box.number, box.row, box.column) for box in found.boxes] == [(2, 0, 0), (1, 1, 0)]
    assert (found.older, found.beside) == (0, 0)
    assert found.says == "policy 2 comes from policy 1"
    assert found.edges == ["M54,84 V71 H54 V58"], "from the parent up to its child"


def test_a_rejected_sibling_stands_beside_the_one_that_went_on(look, laboratory, make, reject):
    first, second = (made["policy"] for made in laboratory)
    rejected = make(first, iteration=2)
    reject(first, rejected)
    found = look(second)
    places = {box.id: (box.row, box.column, box.rejected) for box in found.boxes}
    assert places == {second: (0, 0, False), rejected: (0, 1, True), first: (1, 0, False)}
    assert found.says == "policy 2 comes from policy 1; rejected: 3"
    beside = next(box for box in found.boxes if box.id == rejected)
    assert f"H{beside.x + 54} V{beside.y + 58}" in found.edges[1], "it comes from the same parent"
    assert len(found.edges) == 2


def test_a_world_model_that_the_gate_refused_is_rejected(look, laboratory, make, database):
    parent, model = (made["world_model"] for made in laboratory)
    assert not any(box.rejected for box in look(model).boxes), "the gate accepted both"
    refused = make(parent, kind="world_model")
    report = trust_reports.NewTrustReport(
        checkpoint_id=refused, iteration_id=None, verdict="rejected", episodes=4, horizon=1,
        agreement=None, optimism=None, sensitivity=None, report={},
    )  # fmt: skip
    with database.write() as session:
        trust_reports.save(session, report, now=datetime.now(UTC))
    assert [box.number for box in look(model).boxes if box.rejected] == [3]


def test_what_does_not_fit_is_told_by_number(look, laboratory, make):
    parent = laboratory[1]["policy"]
    for _ in range(MOST_ROWS):
        parent = make(parent)
    for _ in range(MOST_BESIDE + 3):
        make(laboratory[0]["policy"])  # beside one that is not drawn
    last = [make(parent) for _ in range(MOST_BESIDE + 4)][-1]
    found = look(last)
    assert (len(found.line), found.older) == (MOST_ROWS, 3)
    assert (len([box for box in found.boxes if box.row == 0]), found.beside) == (1 + MOST_BESIDE, 3)
    assert found.boxes[1].number > found.boxes[2].number, "the newest beside"


def test_the_widest_graph_fits_on_a_phone(look, laboratory, make):
    for _ in range(5):
        make(laboratory[0]["policy"])
    found = look(laboratory[1]["policy"])
    assert {box.column for box in found.boxes} == set(range(1 + MOST_BESIDE))
    assert found.width + 4 <= PHONE
    assert max(box.x for box in found.boxes) + found.box_width == found.width
    assert max(box.y for box in found.boxes) + found.box_height == found.height


def test_a_box_says_in_words_what_its_colour_says(look, laboratory, make, reject):
    second = laboratory[1]["policy"]
    mine, foreign = make(second, iteration=2), make(second, lineage="other")
    assert [box.standing for box in look(mine).boxes] == ["made here", "other", "", ""]
    reject(second, mine)
    assert look(mine).boxes[0].standing == "rejected"
    assert look(foreign).boxes[0].standing == "other"
    long = Box(row=0, column=0, id="i", number=1, iteration=None, lineage="x" * 40).standing
    assert len(long) == LONGEST_NAME
    assert long.endswith("…")


def test_the_page_leads_from_a_box_to_its_iteration(browser, laboratory, make, reject):
    first, _ = (made["policy"] for made in laboratory)
    reject(first, make(first, iteration=1))
    page = browser.page("/iterations/2")
    assert page.faults() == []
    assert page.all("a", href="/iterations/1"), "the rejected one was made there"
    assert "policy 2 comes from policy 1; rejected: 3" in page.text
    assert "number 3 iteration 1 rejected" in " ".join(page.text.split())
    assert any("rejected" in found["class"] for found in page.all("rect"))


def test_a_long_line_is_asked_for_in_few_queries(look, laboratory, make, database):
    parent, asked, statements = laboratory[1]["policy"], [], []
    sa.event.listen(database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for length in (2, 40):
        for _ in range(length):
            parent = make(parent)
        statements.clear()
        assert look(parent).older == max(0, 2 + sum((2, 40)[: len(asked) + 1]) - MOST_ROWS)
        asked.append(sum("checkpoints" in statement for statement in statements))
    assert asked[0] == asked[1] > 0


@pytest.mark.parametrize("kind", ["policy", "world_model"])
def test_the_first_of_a_kind_has_nothing_beside_it(look, make, kind):
    found = look(make(None, kind=kind))
    assert (len(found.boxes), found.edges, found.older, found.beside) == (1, [], 0, 0)
