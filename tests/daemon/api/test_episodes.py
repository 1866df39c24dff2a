import io
from uuid import UUID

import av
import numpy as np
import pytest

from storage import episodes, iterations, labels

URL = "/v1/episodes"


@pytest.fixture
def commit(client, database, blobs, now):
    def commit_one(episode, *, iteration=None, origin="collect", held_out=False):
        with database.write() as session:
            rows, _ = iterations.list_iterations(session)
            chosen = next((row.id for row in rows if row.number == iteration), None)
            provenance = episodes.Provenance(origin=origin, iteration_id=chosen, held_out=held_out)
            return episodes.commit(session, blobs, episode, provenance=provenance, now=now)[0]

    return commit_one


def test_an_episode_is_told_with_its_label_and_where_it_came_from(client, commit, an_episode):
    client.post("/v1/iterations", json={})
    commit(an_episode(7, success=False), iteration=1, held_out=True)
    (item,) = client.get(URL).json()["items"]
    assert item["id"] == str(UUID(int=7))
    assert (item["iteration"], item["task"], item["steps"]) == (1, "open_drawer", 3)
    assert (item["success"], item["label_source"]) == (False, "sim_predicate")
    assert (item["origin"], item["held_out"], item["station"]) == ("collect", True, "cell-1")
    assert client.get(item["video"]).status_code == 200


def test_an_episode_without_verdict_is_neither_success_nor_failure(client, commit, an_episode):
    commit(an_episode(success=None), origin="imported")
    (item,) = client.get(URL).json()["items"]
    assert (item["success"], item["label_source"], item["iteration"]) == (None, None, None)


def test_a_better_source_overrules(client, commit, database, now, an_episode):
    row = commit(an_episode(success=False))
    with database.write() as session:
        labels.append(session, row.id, labels.Verdict(success=True, source="human", at=now), now=now)
    (item,) = client.get(URL).json()["items"]
    assert (item["success"], item["label_source"]) == (True, "human")


def test_episodes_can_be_listed_by_iteration_and_in_pages(client, commit, an_episode):
    for seed in (1, 2):
        client.post("/v1/iterations", json={"seed": seed})
    for number in range(5):
        commit(an_episode(number), iteration=1 + number % 2)
    assert len(client.get(URL, params={"iteration": 1}).json()["items"]) == 3
    assert len(client.get(URL, params={"iteration": 2}).json()["items"]) == 2
    seen, cursor = set(), None
    for _ in range(3):
        page = client.get(URL, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen |= {item["id"] for item in page["items"]}
        cursor = page["next_cursor"]
    assert len(seen) == 5
    assert cursor is None


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"iteration": 9}, 404, "page_not_found"),
        ({"iteration": 0}, 422, "request_invalid"),
        ({"cursor": "nowhere"}, 422, "cursor_invalid"),
    ],
)
def test_a_list_that_cannot_be_is_refused(client, params, status, code):
    answer = client.get(URL, params=params)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_the_film_has_every_frame_at_the_speed_of_the_robot(client, commit, an_episode):
    episode = an_episode(3, steps=5)
    row = commit(episode)
    answer = client.get(f"{URL}/{row.id}/video.mp4")
    assert answer.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(answer.content)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 6
    assert float(frames[1].time - frames[0].time) == pytest.approx(0.2)
    difference = frames[4].to_ndarray(format="rgb24").astype(int) - episode.frames.decode(4)
    assert np.abs(difference).mean() < 8


@pytest.mark.parametrize("episode_id", ["no-such-episode", "..%2F..%2Fetc"])
def test_the_film_of_an_unknown_episode_is_not_found(client, episode_id):
    answer = client.get(f"{URL}/{episode_id}/video.mp4")
    assert answer.status_code == 404


def test_a_film_whose_frames_were_damaged_is_an_error_that_names_the_blob(client, commit, blobs, an_episode):
    episode = an_episode(3)
    row = commit(episode)
    path = blobs.path(episode.manifest.blob_sha256("frames.bin"))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-9])
    answer = client.get(f"{URL}/{row.id}/video.mp4")
    assert (answer.status_code, answer.json()["code"]) == (500, "blob_corrupt")
    assert path.name in answer.json()["detail"]


def test_one_episode_is_told_as_in_the_list(client, commit, an_episode):
    client.post("/v1/iterations", json={})
    commit(an_episode(1))
    commit(an_episode(2, success=False), iteration=1)
    for item in client.get(URL).json()["items"]:
        assert client.get(f"{URL}/{item['id']}").json() == item
