"""What every page keeps to: no faults, empty or full, nothing from elsewhere, and no name of a lab is run."""

import re

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
SHOWN = {"text/html", "text/css", "text/javascript", "image/svg+xml"}  # what can make a browser ask for more
NAMESPACE = re.compile(r"""xmlns(:\w+)?=["'][^"']*["']""")  # names that nobody fetches
ORIGIN = re.compile(r"""(?:^|[\s"'(=,`])((?:[a-z][a-z+.-]*:)?//[^\s"')>]+)""", re.IGNORECASE)


def elsewhere(text, kind):
    """Addresses with an origin of their own: anywhere in a script or a style, in the attributes of a page."""
    if kind == "text/html":
        text = "\n".join(f'"{value}"' for _, found in Page(text).elements for value in found.values())
    return ORIGIN.findall(NAMESPACE.sub("", text))


@pytest.mark.usefixtures("laboratory")
def test_nothing_that_a_browser_shows_comes_from_another_origin(client):
    paths = {
        route.path.replace("{number}", "1")
        for route in iter_route_contexts(client.app.routes)
        if "GET" in route.methods and not route.path.startswith("/v1/")
    }
    looked_at = set()
    for path in sorted(path for path in paths if "{" not in path):
        answer = client.get(path, headers={"Accept": "text/html"})
        kind = answer.headers["content-type"].partition(";")[0]
        if kind in SHOWN:
            looked_at.add(path)
            assert elsewhere(answer.text, kind) == [], path
    assert {*LISTS, *OF_ONE[:1], "/login", "/static/dashboard.js", "/static/icon.svg"} <= looked_at


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ('<script src="https://cdn.example/a.js"></script>', "text/html", ["https://cdn.example/a.js"]),
        ('<img srcset="/a.png, //cdn.example/b.png">', "text/html", ["//cdn.example/b.png"]),
        ("<p>http://cell:8401 is down</p>", "text/html", []),
        ("@import url(//cdn.example/a.css)", "text/css", ["//cdn.example/a.css"]),
        ("fetch(`wss://cdn.example`) // as they are", "text/javascript", ["wss://cdn.example`"]),
        ('<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml", []),
    ],
)
def test_the_look_for_other_origins_would_find_one(text, kind, found):
    assert elsewhere(text, kind) == found


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
