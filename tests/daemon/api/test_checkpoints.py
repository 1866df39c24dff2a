from datetime import timedelta

import pytest

from storage import checkpoints, trust_reports

URL = "/v1/checkpoints"
DIGEST = "d" * 64


@pytest.fixture
def save(client, database, blobs, now, tmp_path):
    def save_one(kind, *, parent_id=None, iteration_id=None, content=b"weights"):
        file = tmp_path / "new.safetensors"
        file.write_bytes(content)
        new = checkpoints.NewCheckpoint(
            kind=kind, spec_digest=DIGEST, card={"loss": 0.5}, parent_id=parent_id, iteration_id=iteration_id
        )
        with database.write() as session:
            return checkpoints.save(session, blobs, new, file=file, now=now)

    return save_one


def test_a_checkpoint_is_told_with_its_parent_its_file_and_its_card(client, save):
    iteration = client.post("/v1/iterations", json={}).json()
    base = save("policy")
    save("policy", parent_id=base.id, iteration_id=iteration["id"], content=b"better")
    newest, first = client.get(URL).json()["items"]
    assert (newest["number"], newest["parent_id"], newest["iteration"]) == (2, base.id, 1)
    assert (first["number"], first["parent_id"], first["iteration"]) == (1, None, None)
    assert newest["size_bytes"] == len(b"better")
    assert newest["sha256"] != first["sha256"]
    assert (newest["card"], newest["spec_digest"]) == ({"loss": 0.5}, DIGEST)


def test_one_kind_can_be_asked_for(client, save):
    for kind in ("world_model", "policy", "judge", "policy"):
        save(kind)
    items = client.get(URL, params={"kind": "policy"}).json()["items"]
    assert [(item["kind"], item["number"]) for item in items] == [("policy", 2), ("policy", 1)]


def test_checkpoints_come_in_pages(client, save):
    for _ in range(3):
        save("policy")
    first = client.get(URL, params={"limit": 2}).json()
    second = client.get(URL, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    numbers = [item["number"] for page in (first, second) for item in page["items"]]
    assert numbers == [3, 2, 1]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("params", "code"),
    [({"kind": "soul"}, "checkpoint_kind_invalid"), ({"cursor": "x"}, "cursor_invalid")],
)
def test_a_list_that_cannot_be_is_refused(client, params, code):
    answer = client.get(URL, params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_before_the_first_there_is_none(client):
    assert client.get(URL).json() == {"items": [], "next_cursor": None}


def test_trust_reports_of_a_checkpoint_are_told_newest_first(client, save, database, now):
    iteration = client.post("/v1/iterations", json={}).json()
    row = save("world_model")
    known = {"checkpoint_id": row.id, "episodes": 12, "agreement": 0.75, "optimism": 0.1, "sensitivity": None}
    with database.write() as session:
        for iteration_id, verdict, horizon in ((None, "measured", 9), (iteration["id"], "accepted", 31)):
            new = trust_reports.NewTrustReport(
                **known, iteration_id=iteration_id, verdict=verdict, horizon=horizon, report={"drift": {}}
            )
            trust_reports.save(session, new, now=now + timedelta(seconds=horizon))
    newest, first = client.get(f"{URL}/{row.id}/trust").json()["items"]
    assert (newest["verdict"], newest["horizon"], newest["iteration"]) == ("accepted", 31, 1)
    assert (first["verdict"], first["horizon"], first["iteration"]) == ("measured", 9, None)
    assert (newest["agreement"], newest["optimism"], newest["report"]) == (0.75, 0.1, {"drift": {}})


def test_the_trust_of_a_checkpoint_that_does_not_exist_is_not_found(client):
    answer = client.get(f"{URL}/nobody/trust")
    assert (answer.status_code, answer.json()["code"]) == (404, "page_not_found")


def test_one_checkpoint_is_told_as_in_the_list(client, save):
    save("policy")
    row = save("world_model")
    (listed,) = client.get(URL, params={"kind": "world_model"}).json()["items"]
    assert client.get(f"{URL}/{row.id}").json() == listed
