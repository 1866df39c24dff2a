"""AutoEval's branch of the error tree: codes that are nobody else's, drawn, and every raise whole."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import robot_bridge.autoeval
from robot_bridge.autoeval import errors
from robot_bridge.autoeval.errors import AutoEvalError, SchedulerUnreachable
from robot_bridge.errors import RobotBridgeError

PACKAGE = Path(str(robot_bridge.autoeval.__file__)).parent


def tree(root: type[RobotBridgeError]) -> Iterator[type[RobotBridgeError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


OURS = [error for error in tree(AutoEvalError) if error.__module__ == errors.__name__]
LEAVES = [error for error in OURS if not error.__subclasses__()]


def parts_of(error: type[RobotBridgeError]) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(error.sentence) if name}


def raises() -> list[tuple[str, str, frozenset[str]]]:
    """(where, class, keywords) of every place in the package that builds one of these errors by name."""
    names = {error.__name__ for error in OURS}
    found = []
    for path in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if isinstance(node, ast.Call) and name in names and all(each.arg for each in node.keywords):
                keywords = frozenset(str(each.arg) for each in node.keywords)
                found.append((f"{path.name}:{node.lineno}", name, keywords))
    return found


def test_no_code_is_used_twice_anywhere_on_the_robot_side() -> None:
    for module in pkgutil.walk_packages(robot_bridge.autoeval.__path__, "robot_bridge.autoeval."):
        if "emulator" not in module.name:
            importlib.import_module(module.name)
    codes = [error.code for error in tree(RobotBridgeError) if error.__module__.startswith("robot_bridge")]
    assert sorted(code for code in set(codes) if codes.count(code) > 1) == []


@pytest.mark.parametrize("error", OURS, ids=lambda error: error.__name__)
def test_an_error_is_drawn_in_the_tree(error: type[AutoEvalError]) -> None:
    assert error.__name__ in str(errors.__doc__)


@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.__name__)
def test_a_sentence_names_its_thing_and_ends(error: type[AutoEvalError]) -> None:
    assert parts_of(error)
    assert error.sentence.endswith(".")
    assert error.code.startswith("autoeval_")


def test_every_raise_gives_the_parts_its_sentence_needs() -> None:
    found = raises()
    assert {name for _, name, _ in found} >= {error.__name__ for error in LEAVES}
    wrong = [(where, name) for where, name, keywords in found if keywords != parts_of(getattr(errors, name))]
    assert wrong == []


def test_only_what_passes_by_itself_is_worth_asking_again() -> None:
    assert {error.__name__ for error in LEAVES if error.retryable} == {
        "RobotOffline",
        "SchedulerUnreachable",
        "DatasetUnavailable",
    }


def test_a_sentence_is_filled_from_its_parts() -> None:
    error = SchedulerUnreachable(url="http://127.0.0.1:1", call="GET /jobs/", tries=3, reason="refused")
    assert "did not answer GET /jobs/ within 3 tries: refused" in str(error)
    assert error.parts["tries"] == 3
