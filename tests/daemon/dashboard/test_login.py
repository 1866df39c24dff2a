"""Who gets to see pages: a token once, then a cookie that no other site can use."""

from datetime import UTC, datetime

import pytest
from fastapi.routing import iter_route_contexts

from daemon.api.doors import FAILURES_BURST
from daemon.dashboard.login import own_path
from daemon.dashboard.routes import router
from storage import access_tokens, audit
from tests.daemon.dashboard.html import Page

LOOKED_AT = sorted(
    {
        route.path
        for route in iter_route_contexts(router.routes)
        if "GET" in route.methods and "{" not in route.path
    }
)
FORMS = sorted(
    route.path.replace("{number}", "1").replace("{act}", "pause").replace("{switch}", "enable")
    for route in iter_route_contexts(router.routes)
    if "POST" in route.methods
)

WITH_FILES = "/imagination/what-if"


def sent(browser, path, fields):
    """The answer to a form, sent as a browser sends it."""
    files = {"picture": ("", b"")} if path == WITH_FILES else None
    return browser.client.post(path, data=fields, files=files)


def test_without_tokens_pages_on_this_machine_are_open(browser):
    assert browser.get("/").status_code == 200
    assert "Nobody is asked for a token" in browser.page("/login").text


@pytest.mark.parametrize("path", LOOKED_AT)
def test_whoever_has_no_session_is_sent_to_the_login_page(browser, make_token, path):
    make_token("read")
    answer = browser.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"] == ("/login" if path == "/" else f"/login?next={path}")


def test_opening_pages_without_a_session_is_no_guessing(browser, make_token):
    token = make_token("read")
    assert {browser.get("/").status_code for _ in range(FAILURES_BURST + 5)} == {303}
    assert browser.log_in(token).status_code == 303


def test_a_token_opens_a_session_and_brings_back_to_the_page_that_was_asked_for(browser, make_token):
    token = make_token("read")
    assert browser.get("/iterations", cursor=3).headers["location"] == "/login?next=/iterations%3Fcursor%3D3"
    answer = browser.log_in(token, next="/login")
    assert answer.headers["location"] == "/login"
    assert browser.get("/").status_code == 200
    page = browser.page("/")
    assert "ann" in page.text
    assert token not in page.source
    assert token[-43:] not in answer.headers["set-cookie"]


def test_the_cookie_is_kept_from_scripts_and_other_sites(browser, make_token):
    cookie = browser.log_in(make_token("read")).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie
    assert "secure" not in cookie, "over http the browser would never send it"


def test_over_tls_the_cookie_never_goes_over_the_network_in_clear(browser, make_token):
    token = make_token("read")
    word = Page(browser.client.get("https://testserver/login").text).value_of("word")
    answer = browser.client.post("https://testserver/login", data={"word": word, "token": token})
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize("token", ["", "x", "gmd_0123456789abcdef_" + "s" * 43])
def test_what_is_no_token_opens_nothing(browser, make_token, token):
    make_token("read")
    answer = browser.log_in(token)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "not in force" in Page(answer.text).text


def test_who_guesses_has_to_wait(browser, make_token):
    make_token("read")
    codes = [browser.log_in("guess").status_code for _ in range(FAILURES_BURST + 1)]
    assert codes == [401] * FAILURES_BURST + [429]


def test_a_session_ends_with_its_token(browser, make_token, database):
    assert browser.log_in(make_token("read")).status_code == 303
    make_token("read", name="bob")
    with database.write() as session:
        access_tokens.revoke(session, "ann", now=datetime.now(UTC))
    assert browser.get("/").status_code == 303


def test_who_logs_out_is_out_whoever_kept_the_cookie(browser, make_token):
    browser.log_in(make_token("read"))
    kept = dict(browser.client.cookies)
    assert browser.post("/logout").headers["location"] == "/login"
    browser.client.cookies.update(kept)
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize(
    ("path", "goes"),
    [
        ("/progress", "/progress"),
        ("/episodes?task=a", "/episodes?task=a"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/\tx", "/"),
        ("", "/"),
    ],
)
def test_after_the_login_nobody_is_sent_elsewhere(path, goes):
    assert own_path(path) == goes


@pytest.mark.parametrize("path", FORMS)
def test_a_form_without_its_sessions_word_does_nothing(logged_in, database, path):
    browser = logged_in("admin")
    other = logged_in("admin", name="bob")
    strange = Page(other.get("/").text).value_of("word")
    for fields in ({}, {"word": ""}, {"word": strange}):
        answer = sent(browser, path, fields)
        assert answer.status_code == 403, path
        assert "form_refused" in answer.text
    with database.read() as session:
        assert audit.read(session) == []


@pytest.mark.parametrize("path", FORMS)
def test_without_tokens_a_form_needs_its_word_all_the_same(browser, path):
    assert sent(browser, path, {"word": "guess"}).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_form_from_another_site_is_refused_even_with_the_word(browser, site):
    word = browser.page("/").value_of("word")
    answer = browser.client.post("/start", data={"word": word}, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403


def test_a_cookie_reads_the_api_and_changes_nothing_over_it(logged_in):
    browser = logged_in("admin")
    assert browser.get("/v1/iterations").status_code == 200
    answer = browser.client.post("/v1/iterations", json={})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("scope", "path"), [("read", "/start"), ("label", "/estop"), ("read", "/iterations/1/pause")]
)
def test_a_session_may_do_what_its_token_may(logged_in, database, scope, path):
    browser = logged_in(scope)
    answer = browser.post(path, spec="{}", key="")
    assert answer.status_code == 403
    assert "needs the scope operate" in answer.text
    assert Page(answer.text).faults() == []
    with database.read() as session:
        assert audit.read(session) == []


def test_buttons_that_would_be_refused_are_not_shown(logged_in):
    reader, driver = logged_in("read"), logged_in("operate", name="bob")
    assert reader.page("/").all("form", action="/estop") == []
    assert len(driver.page("/").all("form", action="/estop")) == 1


def test_a_program_with_a_token_needs_no_word(client, make_token):
    headers = {"Authorization": f"Bearer {make_token('operate')}"}
    answer = client.post("/start", data={"spec": "{}", "key": "k"}, headers=headers, follow_redirects=False)
    assert answer.status_code == 303


@pytest.mark.parametrize(
    "path", ["/", "/login", "/nothing-here", "/static/dashboard.js", "/static/dashboard.css"]
)
def test_browsers_are_told_to_run_and_show_only_what_is_ours(browser, path):
    headers = browser.get(path).headers
    if path == "/nothing-here":
        return
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"


def test_pages_are_not_kept_by_browsers(browser):
    assert browser.get("/").headers["cache-control"] == "no-store"


def test_a_body_that_is_no_form_is_refused_as_a_page(browser):
    answer = browser.client.post("/start", content=b"\xff\xfe")
    assert answer.status_code == 422
    assert Page(answer.text).faults() == []
    assert browser.post("/start", spec="a\x00b", key="").status_code == 422
