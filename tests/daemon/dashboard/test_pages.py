"""What every page keeps to: no faults, empty or full, and no name of a lab is run."""

import pytest
from fastapi.routing import iter_route_contexts

from daemon.dashboard.page import PAGES
from daemon.dashboard.routes import router
from tests.daemon.dashboard.html import Page
from tests.daemon.dashboard.laboratory import HOSTILE

LISTS = sorted(
    {
        route.path
        for route in iter_route_contexts(router.routes)
        if "GET" in route.methods and "{" not in route.path
    }
)
OF_ONE = ["/iterations/1", "/iterations/2"]


def test_every_page_of_the_bar_exists():
    assert {path for path, _ in PAGES} <= set(LISTS)


@pytest.mark.parametrize("path", LISTS)
def test_a_page_of_an_empty_daemon_has_no_faults(browser, path):
    page = browser.page(path)
    assert page.faults() == []
    assert page.all("a", aria_current="page") or path.count("/") > 1


@pytest.mark.usefixtures("laboratory")
@pytest.mark.parametrize("path", [*LISTS, *OF_ONE])
def test_a_page_of_a_full_daemon_has_no_faults_and_runs_no_name(browser, path):
    page = browser.page(path)
    assert page.faults() == []
    assert HOSTILE not in page.source
    assert [found["src"] for found in page.all("script")] == ["/static/dashboard.js"]


@pytest.mark.usefixtures("laboratory")
@pytest.mark.parametrize("path", ["/progress", "/iterations/2", "/episodes", "/imagination", "/trust"])
def test_hostile_names_are_shown_as_they_are(browser, path):
    assert HOSTILE in browser.page(path).text


@pytest.mark.parametrize("path", ["/iterations/7", "/iterations/0", "/iterations/x", "/iterations?cursor=x"])
def test_what_there_is_not_is_a_page_that_says_so(browser, path):
    answer = browser.client.get(path)
    assert answer.status_code in {404, 422}
    page = Page(answer.text)
    assert page.faults() == []
    assert page.all("p", role="alert")


@pytest.mark.parametrize("path", LISTS)
def test_programs_get_problems_and_not_pages(client, path):
    answer = client.get(f"{path.rstrip('/')}/nothing-here", headers={"Accept": "application/json"})
    assert answer.status_code in {404, 405, 422}
    assert answer.headers["content-type"] == "application/problem+json"
