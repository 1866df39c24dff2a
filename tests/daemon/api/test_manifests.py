import hashlib
import json

import pytest

from storage import manifests, phase_runs

URL = "/v1/iterations"
READ = {
    "phase": "collect",
    "code": {"sha256": "a"},
    "environment": {"threads": 2},
    "checkpoints": {},
    "episodes": [],
}


@pytest.fixture
def did(client, database, finish_phase, now):
    """One more iteration, done to its end, whose collect phase has a manifest."""

    def one(read, **spec):
        client.post(URL, json=spec)
        claimed = finish_phase()
        with database.write() as session:
            manifests.save(session, claimed.phase_run_id, read, now=now)
        for _ in phase_runs.PHASES[1:]:
            finish_phase()
        return claimed

    return one


def test_a_manifest_is_canonical_json_named_by_its_digest(client, did):
    claimed = did(READ, seed=4)
    answer = client.get(f"{URL}/1/manifest")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    document = answer.json()
    assert answer.text == json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert (document["number"], document["spec"]["seed"]) == (1, 4)
    phase = document["phases"]["collect"]
    assert (phase["phase_run"], phase["inputs"]) == (claimed.phase_run_id, READ)
    canonical = json.dumps(READ, sort_keys=True, separators=(",", ":")).encode()
    assert phase["inputs_sha256"] == hashlib.sha256(canonical).hexdigest()


def test_a_manifest_that_is_known_is_not_sent_again_until_it_changes(client, did, database, now):
    claimed = did(READ)
    tag = client.get(f"{URL}/1/manifest").headers["etag"]
    again = client.get(f"{URL}/1/manifest", headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    with database.write() as session:
        manifests.save(session, claimed.phase_run_id, {**READ, "preset": "nano"}, now=now)
    changed = client.get(f"{URL}/1/manifest", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_an_iteration_that_has_not_begun_has_no_phase_in_its_manifest(client):
    client.post(URL, json={})
    assert client.get(f"{URL}/1/manifest").json()["phases"] == {}


def test_a_difference_is_told_in_both_directions(client, did):
    did(READ, seed=1)
    did({**READ, "code": {"sha256": "b"}}, seed=2)
    there = client.get(f"{URL}/1/diff/2").json()
    back = client.get(f"{URL}/2/diff/1").json()
    assert there["spec"] == [{"field": "seed", "from": 1, "to": 2}]
    assert back["spec"] == [{"field": "seed", "from": 2, "to": 1}]
    assert there["circumstances"] == {"collect": [{"field": "code.sha256", "from": "a", "to": "b"}]}
    assert there["data"]["collect"]["kept"] == 0
    assert (there["from"], there["to"], back["from"]) == (1, 2, 2)


@pytest.mark.parametrize("path", ["9/manifest", "1/diff/9", "9/diff/1"])
def test_an_iteration_that_is_not_there_is_404(client, path):
    client.post(URL, json={})
    answer = client.get(f"{URL}/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "page_not_found")


@pytest.mark.parametrize("path", ["0/manifest", "one/manifest", f"1/diff/{2**31}"])
def test_a_number_that_cannot_be_is_422(client, path):
    answer = client.get(f"{URL}/{path}")
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
