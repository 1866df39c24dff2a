"""What if? Asked in a browser under the API's own limits, and watched with the judge's curve."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from daemon.api.world_schemas import MOST_ROLLOUTS
from daemon.api.worlds import MOST_OPEN
from daemon.dashboard.what_ifs import along_chart
from daemon.worlds.pictures import MOST_BYTES
from storage import audit, start_images, what_ifs
from storage.episodes import Provenance, commit
from tests.daemon.api.test_worlds import PIXELS, WISH
from tests.daemon.dashboard.html import Page
from tests.daemon.dashboard.laboratory import HOSTILE

AT = "/imagination/what-if"
FILLED = {
    "start": "upload", "step": "0", "instruction": "open the drawer", "policy": "", "lineage": "main",
    "rollouts": "3", "steps": "20", "seed": "5",
}  # fmt: skip


def png(pixels=PIXELS):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def send(browser, *, picture=None, word=None, **changes):
    """The form as a browser sends it."""
    page = Page(browser.get(AT).text)
    fields = {**FILLED, "word": page.value_of("word") if word is None else word, **changes}
    files = {"picture": ("start.png", png() if picture is None else picture, "image/png")}
    return browser.client.post(AT, data=fields, files=files)


def finish(database, blobs, *, along=(0.1, None, 0.9), trusted=1):
    """Be the worker."""
    now = datetime.now(UTC)
    rollout = {"success": True, "probability": 0.9, "along": list(along)}
    rollout |= {"strip": blobs.put(b"a strip"), "film": blobs.put(b"a film")}
    result = {
        "read": {"policy": {"id": "p", "number": 3}}, "steps": 2, "trusted_steps": trusted,
        "rate": {"successes": 2, "judged": 2, "declined": 1, "wilson_low": 0.34, "wilson_high": 1.0},
        "rollouts": [
            rollout, {**rollout, "success": False}, {**rollout, "success": None, "probability": None},
        ],
    }  # fmt: skip
    with database.write() as session:
        claimed = what_ifs.claim(session, "w", ttl_s=60, now=now)
        what_ifs.finish(session, claimed, result=result, now=now)


def newest(database):
    with database.read() as session:
        rows, _ = what_ifs.list_what_ifs(session)
    return rows[0]


@pytest.fixture
def episode(database, blobs, an_episode):
    with database.write() as session:
        origin = Provenance(origin="collect")
        row, _ = commit(session, blobs, an_episode(1), provenance=origin, now=datetime.now(UTC))
    return row.id


def test_a_picture_is_sent_and_waits_for_a_worker(browser, database, blobs):
    answer = send(browser)
    row = newest(database)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/imagination/what-ifs/{row.id}")
    asked = row.request
    assert (asked["instruction"], asked["rollouts"], asked["steps"], asked["seed"]) == (
        "open the drawer", 3, 20, 5,
    )  # fmt: skip
    kept = Image.open(io.BytesIO(blobs.read(asked["start"]["sha256"])))
    assert np.array_equal(np.asarray(kept), PIXELS)
    page = browser.page(answer.headers["location"])
    assert page.faults() == []
    assert "waiting for a worker" in page.text
    assert page.all("section", id="standing"), "renewed while it waits"


def test_a_finished_one_has_a_film_and_the_judges_curve_for_every_rollout(browser, database, blobs):
    at = send(browser).headers["location"]
    finish(database, blobs)
    page = browser.page(at)
    assert page.faults() == []
    films = [found["src"] for found in page.all("video")]
    assert len(films) == len(page.all("svg")) == len(page.all("article", data_film=None)) == 3
    assert [browser.client.get(film).content for film in films] == [b"a film"] * 3
    assert len(page.all("line", data_cursor=None)) == 3, "the film's place in each curve"
    assert "2 of 2 succeed in imagination" in page.text
    assert "34 to 100 %" in page.text
    assert "declined to judge 1" in page.text
    assert "trusted for 1 steps" in page.text
    assert page.all("section", id="standing") == []


def test_one_that_failed_says_why(browser, database):
    at, now = send(browser).headers["location"], datetime.now(UTC)
    with database.write() as session:
        claimed = what_ifs.claim(session, "w", ttl_s=60, now=now)
        what_ifs.fail(session, claimed, error=("retired", HOSTILE), retry=False, now=now)
    page = browser.page(at)
    assert page.faults() == []
    assert HOSTILE in page.text
    assert page.all("p", role="alert")


def test_it_can_start_from_an_observation_of_an_episode_that_a_link_named(browser, database, episode):
    page = browser.page(AT, episode=episode, step=2)
    assert f"episode:{episode}" in [one.get("value") for one in page.all("option") if "selected" in one]
    answer = send(browser, picture=b"", start=f"episode:{episode}", step="2", instruction="")
    assert answer.status_code == 303
    asked = newest(database).request
    assert (asked["episode"], asked["step"], asked["instruction"]) == (episode, 2, "open drawer")


def test_it_can_start_from_a_kept_picture_with_its_own_instruction(browser, database, blobs):
    wanted = start_images.NewStartImage(
        task_id="open_drawer", instruction="pull it", sha256=blobs.put(png()), width=32, height=32
    )
    with database.write() as session:
        image = start_images.add(session, wanted, who="ann", now=datetime.now(UTC)).id
    assert f"image:{image}" in [found.get("value") for found in browser.page(AT).all("option")]
    assert send(browser, picture=b"", start=f"image:{image}", instruction="").status_code == 303
    assert newest(database).request["instruction"] == "pull it"


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"rollouts": str(MOST_ROLLOUTS + 1)}, 422, "rollouts"),
        ({"rollouts": "many"}, 422, "rollouts: expected a whole number"),
        ({"rollouts": "-1"}, 422, "rollouts: expected a whole number"),
        ({"steps": "0"}, 422, "steps"),
        ({"seed": "9" * 30}, 422, "seed"),
        ({"instruction": ""}, 422, "expected an instruction with the image"),
        ({"instruction": "x" * 5000}, 422, "instruction"),
        ({"picture": b""}, 422, "expected a PNG or JPEG, or another start"),
        ({"picture": b"GIF89a"}, 422, "expected a whole PNG or JPEG"),
        ({"picture": png(np.zeros((1, 3000, 3), dtype=np.uint8))}, 422, "sides of 1 to 2048 pixels"),
        ({"picture": bytes(MOST_BYTES + 1)}, 422, f"at most {MOST_BYTES} bytes"),
        ({"start": "nowhere"}, 422, "expected a picture, a start image or an episode"),
        ({"start": "image:gone"}, 422, "there is no start image gone"),
        ({"start": "episode:gone"}, 422, "there is no episode gone"),
        ({"policy": "gone"}, 422, "there is no policy checkpoint gone"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_refused_comes_back_with_the_reason_and_nothing_is_asked(
    browser, database, changes, status, said
):
    answer = send(browser, **changes)
    page = Page(answer.text)
    assert (answer.status_code, page.faults()) == (status, [])
    assert said in page.text
    assert "enctype" in page.all("form", action=AT)[0], "the form again"
    with database.read() as session:
        assert what_ifs.list_what_ifs(session)[0] == []


def test_a_body_beyond_all_pictures_is_not_read(browser):
    assert send(browser, picture=bytes(MOST_BYTES + 100_000)).status_code == 413


def test_when_too_many_wait_the_form_says_so(browser, database):
    request = {**WISH, "policy": None, "episode": None, "step": None, "rollouts": 1, "steps": 1, "seed": 0,
               "temperature": 1.0, "start": {"sha256": "0" * 64}}  # fmt: skip
    with database.write() as session:
        for _ in range(MOST_OPEN):
            what_ifs.ask(session, request, who="ann", now=datetime.now(UTC))
    answer = send(browser)
    assert answer.status_code == 503
    assert "what-ifs wait already" in Page(answer.text).text


def test_a_form_that_no_page_of_ours_made_is_refused(browser, database):
    assert send(browser, word="guessed").status_code == 403
    with database.read() as session:
        assert what_ifs.list_what_ifs(session)[0] == []
        assert audit.read(session) == []


def test_the_same_form_sent_twice_asks_once(browser, database):
    assert send(browser, key="k").headers["location"] == send(browser, key="k").headers["location"]
    with database.read() as session:
        assert len(what_ifs.list_what_ifs(session)[0]) == 1


def test_who_may_only_look_sees_no_form(logged_in):
    browser = logged_in("read")
    page = browser.page(AT)
    assert page.all("form", action=AT) == []
    assert "needs the scope operate" in page.text
    assert send(browser).status_code == 403


def test_one_that_there_is_not_is_a_page_that_says_so(browser):
    answer = browser.get("/imagination/what-ifs/gone")
    assert answer.status_code == 404
    assert Page(answer.text).faults() == []


@pytest.mark.usefixtures("laboratory")
def test_film_strips_lead_to_the_curve_of_the_same_start(browser):
    links = [found["href"] for found in browser.page("/imagination").all("a")]
    assert f"{AT}?episode=e" in links
    assert browser.page(AT, episode="e").faults() == []


@pytest.mark.parametrize(
    ("trusted", "marks"), [(None, []), (1, [1]), (2, []), (9, [])], ids=["unknown", "short", "all", "beyond"]
)
def test_the_curve_skips_what_is_unknown_and_says_where_trust_ends(trusted, marks):
    result = {"steps": 2, "trusted_steps": trusted, "rollouts": [{"along": [0.25, None, 1.0]}]}
    chart = along_chart(result, 0)
    assert [(point.x, point.y) for point in chart.series[0].points] == [(0.0, 0.25), (2.0, 1.0)]
    assert [mark.x for mark in chart.marks] == marks
    assert chart.span == (0.0, 1.0)
