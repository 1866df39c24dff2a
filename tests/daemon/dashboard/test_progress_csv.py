"""The progress page's tables as files: whole, of the lineage that the page tells of, and of no other."""

import csv
import io

import pytest

from daemon.dashboard.progress_csv import costs, rates
from daemon.iteration import find_iteration
from storage import episodes, labels
from storage.labels import Verdict
from tests.daemon.conftest import build_episode


@pytest.fixture
def two(client, database, blobs, now):
    """Iterations 1 and 3 of main and 2 of b, each with an episode: successes, and b's a failure."""
    for number, lineage in ((1, "main"), (2, "b"), (3, "main")):
        assert client.post("/v1/iterations", json={"lineage": lineage}).status_code == 201
        built = build_episode(number, success=lineage == "main", steps=3)
        with database.write() as session:
            row = find_iteration(session, number)
            origin = episodes.Provenance(origin="collect", iteration_id=row.id)
            episodes.commit(session, blobs, built, provenance=origin, now=now)
            verdict = Verdict(success=lineage == "main", source="human", at=now)
            labels.append(session, built.manifest.episode_id, verdict, now=now)


def files_of(browser, **lineage):
    """What the links of the page lead to: name of the file to its rows."""
    found = {}
    for link in browser.page("/progress", **lineage).all("a"):
        if ".csv" in link["href"]:
            answer = browser.client.get(link["href"])
            assert answer.headers["content-type"].startswith("text/csv")
            assert "next-cursor" not in answer.headers
            name = answer.headers["content-disposition"].partition("filename=")[2].strip('"')
            found[name] = list(csv.DictReader(io.StringIO(answer.text)))
    return found


@pytest.mark.usefixtures("two")
def test_the_files_are_of_the_lineage_that_the_page_tells_of(browser):
    main, b = files_of(browser), files_of(browser, lineage="b")
    assert set(main) == {"success-rates-main.csv", "policies-main.csv", "costs-main.csv"}
    assert {row["iteration"] for row in main["success-rates-main.csv"]} == {"1", "3"}
    assert {row["iteration"] for row in b["success-rates-b.csv"]} == {"2"}
    assert [row["iteration"] for row in main["costs-main.csv"]] == ["3", "1"]
    assert [row["iteration"] for row in b["costs-b.csv"]] == ["2"]
    assert [(row["successes"], row["episodes"]) for row in main["policies-main.csv"]] == [("2", "2")]
    assert [(row["successes"], row["episodes"]) for row in b["policies-b.csv"]] == [("0", "1")]


@pytest.mark.usefixtures("two")
def test_a_file_is_whole_however_many_pages_rest_would_need(database, client):
    with database.read() as session:
        assert rates(session, "main", at_once=1) == rates(session, "main")
        assert rates(session, "main", by="iteration,task", at_once=1) == rates(
            session, "main", by="iteration,task"
        )
        assert {row["iteration"] for row in rates(session, "main", at_once=1)} == {1, 3}
        assert costs(session, "main", at_once=1) == costs(session, "main")
        assert [row["iteration"] for row in costs(session, "main", at_once=1)] == [3, 1]
    rest = client.get("/v1/success-rates?lineage=main").json()["items"]
    with database.read() as session:
        assert rates(session, "main") == rest


@pytest.mark.parametrize("path", ["/progress/nothing.csv", "/progress/costs.csv?lineage=/"])
def test_a_table_that_there_is_not_is_a_page_that_says_so(browser, path):
    answer = browser.client.get(path)
    assert answer.status_code == 422
    assert "<h1" in answer.text


def test_before_the_first_iteration_the_files_are_empty(browser):
    assert browser.client.get("/progress/costs.csv").text == ""
