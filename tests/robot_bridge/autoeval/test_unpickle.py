"""Hostile pickles: nothing of them runs, each is refused by name, and honest ones come back whole."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_bridge.autoeval.errors import PickleRefused, SandboxFailed
from robot_bridge.autoeval.unpickle import SandboxLimits, decode
from robot_bridge.autoeval.unpickle_child import MAX_PICKLE_BYTES
from tests.robot_bridge.autoeval.records import (
    TRAJECTORY_MODULE,
    a_record,
    classes_of_autoeval,
    pickled_record,
    some_numbers,
)


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


# -- honest records -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [3, 4])
def test_an_honest_record_comes_back_number_for_number(protocol: int) -> None:
    record = a_record(steps=3)
    found = decode(pickled_record(record, protocol=protocol), index=7)
    assert (found.index, found.instruction, found.success, found.count) == (7, "open the drawer", True, 3)
    np.testing.assert_array_equal(found.images, np.stack(record["obs"]["image_primary"]))
    np.testing.assert_array_equal(found.action, np.stack(record["action"]))
    np.testing.assert_array_equal(found.proprio, np.stack(record["proprio"]))


def test_plain_facts_come_along_and_histograms_stay_behind() -> None:
    found = decode(pickled_record(a_record(steps=2)), index=0)
    assert found.facts == {
        "eval_rollout_steps": 1,
        "eval_rollout_time": 31.5,
        "exceeded_joint_efforts": 0,
        "experienced_motor_failure": False,
        "pre_rollout_checks_failed": False,
        "post_rollout_checks_failed": False,
        "need_human_intervention": False,
        "num_eval_retries": 1,
    }


@pytest.mark.parametrize(
    ("written", "read"),
    [(True, True), (np.True_, True), (np.bool_(False), False), (0, 0), (np.float64(1.0), 1), (None, None)],
    ids=["python", "numpy yes", "numpy no", "zero", "one as float64", "nothing"],
)
def test_the_verdict_may_be_a_numpy_scalar(written: object, read: object) -> None:
    found = decode(pickled_record(a_record(steps=1, success=written)), index=0).success
    assert found == read
    assert found is None or isinstance(found, bool)


def test_actions_of_double_precision_and_stacked_arrays_are_read_too() -> None:
    actions = some_numbers(2, 7).astype(">f8")
    record = a_record(steps=2, action=[row.tolist() for row in actions], proprio=some_numbers(2, 8))
    found = decode(pickled_record(record), index=0)
    np.testing.assert_array_equal(found.action, actions.astype(np.float32))
    np.testing.assert_array_equal(found.proprio, some_numbers(2, 8))


def test_fortran_order_and_foreign_byte_order_are_undone() -> None:
    wanted = some_numbers(2, 7)
    stacked = np.asfortranarray(wanted.astype(">f4"))
    found = decode(pickled_record(a_record(steps=2, action=stacked)), index=0)
    np.testing.assert_array_equal(found.action, wanted)


# -- what must not run --------------------------------------------------------------------------------------


def hostile(sentinel: Path) -> dict[str, tuple[object, str]]:
    """What a pickle might call to write `sentinel`, and how the refusal must name it."""
    command = f"touch {sentinel}"
    code = f"open({str(sentinel)!r}, 'w').close()"
    return {
        "os.system": (Call(os.system, command), "global posix.system"),
        "eval": (Call(eval, f"[{code}]"), "global builtins.eval"),
        "exec": (Call(exec, code), "global builtins.exec"),
        "open": (Call(open, str(sentinel), "w"), "global io.open"),
        "subprocess": (
            Call(subprocess.check_output, ["touch", str(sentinel)]),
            "global subprocess.check_output",
        ),
        "getattr": (Call(getattr, os, "system"), "global builtins.getattr"),
        "pickle again": (Call(pickle.loads, pickle.dumps(Call(os.system, command))), "global _pickle.loads"),
        "memory map": (Call(np.memmap, str(sentinel), "u1", "w+", 0, (8,)), "global numpy.memmap"),
        "fromfile": (Call(np.fromfile, str(sentinel)), "global numpy.fromfile"),
        "path": (sentinel, "global pathlib.PosixPath"),
    }


NAMES = sorted(hostile(Path("/unused")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hidden", [False, True], ids=["alone", "inside a record"])
def test_whatever_a_pickle_calls_is_refused_by_name_and_nothing_runs(
    tmp_path: Path, name: str, hidden: bool
) -> None:
    sentinel = tmp_path / "ran"
    attack, refusal = hostile(sentinel)[name]
    if name == "getattr":
        attack, refusal = Call(getattr, "text", "upper"), "global builtins.getattr"
    pickled = pickled_record(a_record(steps=1, eval_rollout_time=attack)) if hidden else pickle.dumps(attack)
    with pytest.raises(PickleRefused, match=refusal):
        decode(pickled, index=0)
    assert not sentinel.exists()


def test_the_attacks_of_this_file_are_real(tmp_path: Path) -> None:
    """Python's own unpickler does run them: otherwise the tests above would prove nothing."""
    for name in ("os.system", "eval", "exec", "subprocess", "pickle again"):
        sentinel = tmp_path / name.replace(" ", "-")
        pickle.loads(pickle.dumps(hostile(sentinel)[name][0]))  # noqa: S301
        assert sentinel.exists(), name


# -- the process around it ----------------------------------------------------------------------------------


def test_memory_beyond_the_limit_ends_the_process_and_not_ours() -> None:
    with pytest.raises(SandboxFailed, match=r"traj_3.pkl .* ended with status"):
        decode(bytes(64 * 1024 * 1024), index=3, limits=SandboxLimits(memory_bytes=32 * 1024 * 1024))


def test_a_process_that_is_not_done_in_time_is_killed() -> None:
    with pytest.raises(SandboxFailed, match=r"not done after 0.001 s"):
        decode(pickled_record(a_record(steps=1)), index=0, limits=SandboxLimits(wall_s=0.001))


CONFINED = """
import os, resource, socket, sys
from robot_bridge.autoeval.unpickle_child import confine
confine(memory_bytes=1 << 30, cpu_s=1)
attempts = {
    "read": lambda: open("/etc/hostname"),
    "write": lambda: open(sys.argv[1], "w"),
    "socket": lambda: socket.socket(),
    "pipe": lambda: os.pipe(),
    "memory": lambda: bytearray(2 << 30),
    "more memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
    if os.getuid() else (_ for _ in ()).throw(PermissionError()),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, MemoryError, ValueError):
        continue
    print(name)
print("done", flush=True)
if len(sys.argv) > 2:
    while True:
        pass
"""


def confined(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-B", "-c", CONFINED, *arguments],
        env={"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_confined_process_opens_nothing_connects_nowhere_and_gets_no_memory(tmp_path: Path) -> None:
    found = confined(str(tmp_path / "written"))
    assert found.stdout.splitlines()[0].split()[0] == "done", found.stdout + found.stderr
    assert not (tmp_path / "written").exists()


def test_a_confined_process_that_never_ends_is_ended_by_its_processor_time(tmp_path: Path) -> None:
    found = confined(str(tmp_path / "written"), "forever")
    assert found.stdout.startswith("done")
    assert found.returncode < 0  # by a signal


def test_the_sandbox_inherits_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of our environment reaches the child: not even a variable that would break it."""
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "absent"))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path / "absent"))  # an interpreter that sees it cannot start
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert decode(pickled_record(a_record(steps=1)), index=0).success is True


def test_classes_of_autoeval_are_gone_after_writing() -> None:
    with classes_of_autoeval():
        assert TRAJECTORY_MODULE in sys.modules
    assert TRAJECTORY_MODULE not in sys.modules


def test_a_pickle_that_is_too_large_is_not_even_sent_to_the_sandbox() -> None:
    with pytest.raises(PickleRefused, match=f"at most {MAX_PICKLE_BYTES} bytes"):
        decode(bytes(MAX_PICKLE_BYTES + 1), index=0)
