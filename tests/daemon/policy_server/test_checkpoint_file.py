"""A checkpoint file becomes a policy with a name, and its successor takes over at the next reset."""

from __future__ import annotations

import hashlib
import logging
import threading
from pathlib import Path

import pytest
import torch

from daemon.learning.policy.policy import Policy
from daemon.learning.state import CheckpointUnreadable
from daemon.policy_server.checkpoint_file import CheckpointWatch, load_policy
from daemon.policy_server.sessions import PolicySessions
from tests.daemon.policy_server.small_policies import SENTENCE, a_policy
from tests.daemon.policy_server.test_sessions import a_reset, an_act

PATIENT = 30.0


def saved(path: Path, seed: int = 0) -> Path:
    """A checkpoint put at `path` in one step, as every one of ours is."""
    a_policy(seed).save(path, {"seed": seed})
    return path


def digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def tokens(policy: Policy) -> torch.Tensor:
    image = torch.arange(3 * 64 * 64).remainder(251).to(torch.uint8).view(1, 3, 64, 64)
    return policy.act(image, (SENTENCE,)).tokens


def watched(path: Path) -> tuple[PolicySessions, CheckpointWatch]:
    sessions = PolicySessions(*load_policy(path))
    return sessions, CheckpointWatch(path, sessions)


def test_a_file_is_loaded_with_the_digest_that_names_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "drawer.safetensors", seed=3)
    policy, ref = load_policy(path)
    assert (ref.name, ref.digest) == ("drawer", digest(path))
    assert str(ref.digest).startswith(f"sha256:{ref.version}")
    assert len(ref.version) == 12
    assert torch.equal(tokens(policy), tokens(Policy.load(path)))


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint at all"])
def test_a_file_that_is_no_policy_is_refused_by_its_path(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "policy.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointUnreadable, match=r"policy\.safetensors"):
        load_policy(path)


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreadable):
        load_policy(tmp_path)


def test_nothing_is_swapped_while_the_file_stays(tmp_path: Path) -> None:
    sessions, watch = watched(saved(tmp_path / "policy.safetensors"))
    before = sessions.ref
    assert not watch.look()
    assert sessions.ref == before


def test_a_new_file_acts_from_the_next_reset_on(tmp_path: Path) -> None:
    path = saved(tmp_path / "policy.safetensors")
    sessions, watch = watched(path)
    old = sessions.ref
    sessions.reset(a_reset("running"))
    saved(path, seed=1)
    assert watch.look()
    assert sessions.ref.digest == digest(path)
    assert sessions.reset(a_reset("running")).policy == old
    assert sessions.reset(a_reset("new")).policy == sessions.ref
    kept = PolicySessions(a_policy(), old)
    kept.reset(a_reset("running"))
    half = PolicySessions(*load_policy(saved(tmp_path / "half.safetensors")))  # weights are kept as float16
    half.reset(a_reset("running"))
    assert (
        sessions.act(an_act(0, session="running")).actions == half.act(an_act(0, session="running")).actions
    )
    assert not watch.look()


def test_the_same_weights_written_again_are_no_new_policy(tmp_path: Path) -> None:
    path = saved(tmp_path / "policy.safetensors")
    sessions, watch = watched(path)
    before = sessions.ref
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert not watch.look()
    assert sessions.ref is before


@pytest.mark.parametrize("spoil", ["broken", "gone"])
def test_a_file_that_cannot_be_used_is_told_once_and_the_policy_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: str
) -> None:
    path = saved(tmp_path / "policy.safetensors")
    sessions, watch = watched(path)
    before = sessions.ref
    path.write_bytes(b"half a checkpoint") if spoil == "broken" else path.unlink()
    with caplog.at_level(logging.WARNING):
        assert [watch.look() for _ in range(3)] == [False] * 3
    told = [record.getMessage() for record in caplog.records if "policy stays" in record.getMessage()]
    assert len(told) == 1
    assert str(path) in told[0]
    assert sessions.ref == before
    saved(path, seed=2)
    assert watch.look()
    assert sessions.ref.digest == digest(path)


class Noticed(PolicySessions):
    """Says when a policy was swapped in."""

    def __init__(self, path: Path) -> None:
        super().__init__(*load_policy(path))
        self.swapped = threading.Event()

    def swap(self, *arguments: object) -> None:
        super().swap(*arguments)  # type: ignore[arg-type]
        self.swapped.set()


def test_it_looks_by_itself_until_it_is_told_to_stop(tmp_path: Path) -> None:
    path = saved(tmp_path / "policy.safetensors")
    sessions = Noticed(path)
    with CheckpointWatch(path, sessions).looking(every_s=0.01):
        saved(path, seed=1)
        assert sessions.swapped.wait(PATIENT)
    assert sessions.ref.digest == digest(path)
    assert "checkpoint-watch" not in {thread.name for thread in threading.enumerate()}
