"""Pictures to start from, over REST: kept, listed, shown, removed, with a trace of who did it."""

import io

import numpy as np
import pytest
from PIL import Image

from storage import audit
from tests.daemon.api.test_worlds import PIXELS, image_text

URL = "/v1/start-images"
NEW = {"image": image_text(), "task": "open_drawer", "instruction": "open the drawer"}


def added(client, **changes):
    answer = client.post(URL, json={**NEW, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_picture_is_kept_listed_and_shown(client):
    record = added(client)
    assert (record["task"], record["width"], record["height"], record["added_by"]) == (
        "open_drawer",
        32,
        32,
        "rest",
    )
    second = added(client, task="close_drawer")
    assert client.get(URL).json()["items"] == [record, second]
    assert client.get(f"{URL}/{record['id']}").json() == record
    shown = client.get(record["image"])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown.content))), PIXELS)


def test_one_that_is_removed_is_gone_for_everybody(client, database):
    record = added(client)
    path = f"{URL}/{record['id']}"
    assert client.delete(path).status_code == 204
    assert client.get(URL).json()["items"] == []
    assert {client.get(each).status_code for each in (path, record["image"])} == {404}
    assert client.delete(path).status_code == 404
    with database.read() as session:
        events = audit.read(session, subject=f"start image {record['id']}")
    assert [event.action for event in events] == ["start_image_removed", "start_image_added"]
    assert events[1].facts == {"task": "open_drawer", "instruction": "open the drawer"}


def test_a_key_keeps_one(client):
    headers = {"Idempotency-Key": "k"}
    first, again = (client.post(URL, json=NEW, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    other = client.post(URL, json={**NEW, "task": "close_drawer"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "request_key_reused")
    assert len(client.get(URL).json()["items"]) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"image": "AAAA"}, "picture_unusable"),
        ({"task": "make_tea"}, "request_invalid"),
        ({"instruction": ""}, "request_invalid"),
        ({"colour": "red"}, "request_invalid"),
    ],
)
def test_what_cannot_be_kept_is_refused(client, change, code):
    answer = client.post(URL, json={**NEW, **change})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert client.get(URL).json()["items"] == []
