"""Pages name lineages where there are several, and tell of each by itself."""

import pytest

PAGES = ("/", "/iterations", "/progress", "/trust")


@pytest.fixture
def two(client):
    """An iteration of main that others wait for, and one of b."""
    for name in ("main", "b", "main"):
        assert client.post("/v1/iterations", json={"lineage": name}).status_code == 201


def test_nobody_with_one_lineage_reads_the_word(browser, client):
    client.post("/v1/iterations", json={})
    for path in (*PAGES, "/iterations/1"):
        assert "of lineage" not in browser.page(path).text, path
        assert "Lineage" not in browser.page(path).text.replace("Lineage of the", ""), path


@pytest.mark.usefixtures("two")
def test_the_first_page_has_what_each_lineage_does_with_its_own_buttons(browser):
    page = browser.page("/")
    assert page.faults() == []
    for number, name in ((1, "main"), (2, "b")):
        assert f"Iteration {number} of lineage {name} is" in " ".join(page.text.split())
        assert page.all("form", action=f"/iterations/{number}/pause")
        assert page.all("form", action=f"/iterations/{number}/skip")
    assert "Behind them: 3" in " ".join(page.text.split())
    assert not page.all("form", action="/iterations/3/pause")


@pytest.mark.usefixtures("two")
def test_lists_and_records_name_the_lineage(browser):
    assert "Lineage" in browser.page("/iterations").text
    assert "Iteration 2 of lineage b is" in browser.page("/iterations/2").text
    page = browser.page("/iterations/3")
    assert "From iteration 1 to 3" in page.text, "the one before of its lineage"
    assert [link["href"] for link in page.all("a", rel="prev")] == ["/iterations/1"]
    assert not browser.page("/iterations/2").all("a", rel="prev"), "the first of b"
    assert "This is the first" in browser.page("/iterations/2").text


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("path", ["/progress", "/trust"])
def test_measurements_are_told_of_one_lineage_with_a_way_to_the_others(browser, path):
    page = browser.page(path)
    assert "of lineage main" in page.text
    (other,) = [link for link in page.all("a") if link.get("href", "").startswith(f"{path}?lineage=")]
    assert other["href"] == f"{path}?lineage=b"
    there = browser.page(path, lineage="b")
    assert there.faults() == []
    assert "of lineage b" in there.text


def test_pages_after_the_first_stay_in_their_lineage(browser, client):
    for seed in range(22):
        client.post("/v1/iterations", json={"seed": seed, "lineage": "b"})
    client.post("/v1/iterations", json={})
    (older,) = browser.page("/progress", lineage="b").all("a", rel="next")
    assert "lineage=b&" in older["href"]
    assert "of lineage b" in browser.client.get(older["href"]).text
