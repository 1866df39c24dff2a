"""ETags: what somebody has already is not sent again, and a change says which version it changes."""

from datetime import UTC, datetime

import pytest

from daemon.api.etags import check_match, etag, knows
from daemon.scheduling.errors import PreconditionFailed, PreconditionRequired
from storage import episodes, iterations

PATHS = ["/v1/iterations", "/v1/iterations/1", "/v1/success-rates"]


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_that_is_known_is_not_sent_again(client, database, path):
    iteration_id = client.post("/v1/iterations", json={}).json()["id"]
    with database.write() as session:  # over, so that the clockwork changes nothing any more
        iterations.cancel(session, iteration_id, now=datetime.now(UTC))
    tag = client.get(path).headers["etag"]
    again = client.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert again.headers["cache-control"] == "no-cache"
    other = client.get(path, headers={"If-None-Match": '"another"'})
    assert (other.status_code, other.headers["etag"]) == (200, tag)


def test_a_film_that_is_known_is_not_sent_again(client, database, blobs, an_episode, now):
    episode = an_episode(1)
    with database.write() as session:
        episodes.commit(session, blobs, episode, provenance=episodes.Provenance(origin="base"), now=now)
    path = f"/v1/episodes/{episode.manifest.episode_id}/video.mp4"
    film = client.get(path)
    again = client.get(path, headers={"If-None-Match": film.headers["etag"]})
    assert (film.status_code, again.status_code, again.content) == (200, 304, b"")


def test_what_changed_has_another_tag(client):
    before = client.get("/v1/iterations").headers["etag"]
    client.post("/v1/iterations", json={})
    answer = client.get("/v1/iterations", headers={"If-None-Match": before})
    assert answer.status_code == 200
    assert answer.headers["etag"] != before


def test_problems_and_what_was_made_have_no_tag(client):
    assert "etag" not in client.get("/v1/iterations/9", headers={"If-None-Match": "*"}).headers
    assert "etag" not in client.post("/v1/iterations", json={}).headers


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
        ("", False),
        ('"ab"', False),
    ],
)
def test_a_tag_is_known_as_rfc_9110_says(said, known):
    assert knows(said, '"a"') is known


@pytest.mark.parametrize("if_match", ['"3"', "*", '"1", "3"', '"1","3" '])
def test_a_change_that_names_the_newest_version_passes(if_match):
    check_match(if_match, 3, what="schedule s")


@pytest.mark.parametrize("if_match", ['"2"', "3", 'W/"3"', "", '"33"', "'3'"])
def test_a_change_that_names_another_version_or_none_at_all_is_refused(if_match):
    with pytest.raises(PreconditionFailed, match='the newest is "3"'):
        check_match(if_match, 3, what="schedule s")


def test_a_change_without_a_version_passes_only_where_none_is_asked_for():
    check_match(None, 3, what="schedule s", required=False)
    with pytest.raises(PreconditionRequired, match="schedule s is changed only with the header If-Match"):
        check_match(None, 3, what="schedule s")


def test_every_version_has_an_etag_of_its_own():
    assert etag(3) == '"3"'
    assert len({etag(version) for version in range(100)}) == 100
