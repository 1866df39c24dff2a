"""Why a worker ended, as far as anybody can tell."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from daemon.deaths import death_of, memory_kills


@pytest.mark.parametrize(
    ("exit_status", "kills", "code"),
    [
        (-signal.SIGKILL, 1, "worker_out_of_memory"),
        (-signal.SIGKILL, 0, "worker_killed"),
        (-signal.SIGSEGV, 1, "worker_died"),  # another process was the victim
        (70, 0, "worker_died"),
    ],
)
def test_only_a_kill_is_put_down_to_memory(exit_status: int, kills: int, code: str) -> None:
    death = death_of("w-1", exit_status=exit_status, kills_before=3, kills_now=3 + kills)
    assert death.code == code
    assert death.message.startswith("worker w-1 ")


def test_without_evidence_the_sentence_says_most_likely() -> None:
    told = death_of("w", exit_status=-signal.SIGKILL, kills_before=0, kills_now=0).message
    assert "killed, most likely for memory" in told
    signalled = death_of("w", exit_status=-signal.SIGSEGV, kills_before=0, kills_now=0).message
    assert "SIGSEGV" in signalled
    assert "exit status 70" in death_of("w", exit_status=70, kills_before=0, kills_now=0).message


def test_kills_are_counted_as_the_kernel_writes_them(tmp_path: Path) -> None:
    events, machine = tmp_path / "memory.events", tmp_path / "vmstat"
    events.write_text("low 0\nhigh 7\nmax 9\noom 4\noom_kill 2\noom_group_kill 1\n")
    machine.write_text("nr_free_pages 100\noom_kill 5\n")
    assert memory_kills((events, machine)) == 7
    assert memory_kills((events, tmp_path / "none")) == 2


def test_this_machine_can_be_asked() -> None:
    assert memory_kills() >= 0
