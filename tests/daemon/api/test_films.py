"""Films in parts: what a player needs to move in one."""

import pytest

from daemon.api.films import film_answer
from storage.episodes import Provenance, commit

FILM = bytes(range(100))


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-", 0, 99),
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=90-500", 90, 99),
        ("bytes=99-", 99, 99),
        ("bytes=-10", 90, 99),
        ("bytes=-500", 0, 99),
    ],
)
def test_a_part_is_given_and_says_which_it_is(asked, first, last):
    answer = film_answer(FILM, tag="t", asked=asked)
    assert (answer.status_code, bytes(answer.body)) == (206, FILM[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/100"
    assert answer.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize(
    "asked",
    [None, "", "bytes=", "bytes=-", "bytes=-0", "bytes=100-", "bytes=5-4", "bytes=0-1,3-4", "frames=0-1",
     "bytes=٣-", "bytes=" + "9" * 400 + "-"],
)  # fmt: skip
def test_what_is_no_single_part_is_answered_with_the_whole_film(asked):
    answer = film_answer(FILM, tag="t", asked=asked)
    assert (answer.status_code, bytes(answer.body)) == (200, FILM)
    assert "content-range" not in answer.headers


def test_whole_or_not_an_answer_says_that_parts_can_be_had_and_of_which_film():
    for asked in (None, "bytes=1-2"):
        answer = film_answer(FILM, tag="t", asked=asked)
        assert (answer.headers["accept-ranges"], answer.headers["etag"]) == ("bytes", '"t"')
        assert answer.headers["content-type"] == "video/mp4"


def test_an_episodes_film_comes_in_parts_that_are_the_whole(client, database, blobs, now, an_episode):
    with database.write() as session:
        row, _ = commit(session, blobs, an_episode(1), provenance=Provenance(origin="collect"), now=now)
    url = f"/v1/episodes/{row.id}/video.mp4"
    whole = client.get(url)
    head = client.get(url, headers={"Range": "bytes=0-99"})
    rest = client.get(url, headers={"Range": "bytes=100-"})
    assert (whole.status_code, head.status_code, rest.status_code) == (200, 206, 206)
    assert head.content + rest.content == whole.content
    assert len({answer.headers["etag"] for answer in (whole, head, rest)}) == 1
