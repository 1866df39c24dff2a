"""The error tree: stable codes, sentences that can be said, and no raise that forgets a part."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import robot_bridge
from robot_bridge import errors
from robot_bridge.errors import FenceStale, LeaseConflict, RobotBridgeError, StationUnreachable

PACKAGE = Path(str(robot_bridge.__file__)).parent


def tree(root: type[RobotBridgeError] = RobotBridgeError) -> Iterator[type[RobotBridgeError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def parts_of(error: type[RobotBridgeError]) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(error.sentence) if name}


def raises() -> list[tuple[str, str, set[str]]]:
    """(where, class, keywords) of every place in the package that builds one of our errors."""
    ours = {error.__name__ for error in tree()}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if isinstance(node, ast.Call) and name in ours:
                keywords = {keyword.arg for keyword in node.keywords if keyword.arg}
                is_spread = any(keyword.arg is None for keyword in node.keywords)
                if not is_spread:
                    found.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", name, keywords))
    return found


def test_no_two_errors_share_a_code():
    codes = [error.code for error in tree()]
    assert len(codes) == len(set(codes))


def test_every_error_of_the_tree_is_drawn_in_it():
    drawing = str(errors.__doc__)
    assert [error.__name__ for error in tree() if error.__name__ not in drawing] == []


@pytest.mark.parametrize("error", list(tree()), ids=lambda error: error.__name__)
def test_every_sentence_names_its_thing_and_ends(error):
    assert parts_of(error)
    assert error.sentence.endswith((".", "{detail}"))


@pytest.mark.parametrize(
    ("where", "name", "keywords"),
    raises(),
    ids=lambda part: "-".join(sorted(part)) if isinstance(part, set | frozenset) else str(part),
)
def test_every_raise_gives_the_parts_its_sentence_needs(where, name, keywords):
    assert keywords == parts_of(getattr(errors, name))


def test_the_package_raises_many_errors_and_all_of_them_were_looked_at():
    assert len(raises()) > 60


def test_the_sentence_is_filled_from_the_parts_and_keeps_them():
    error = FenceStale(found=3, current=5)
    assert str(error) == "fence 3 is out of date, 5 is current. Another holder came: acquire a new lease."
    assert error.parts == {"found": 3, "current": 5}


def test_an_error_says_whether_asking_again_can_help():
    assert LeaseConflict(holder="other", remaining_s=2.0).retryable
    assert StationUnreachable(url="http://127.0.0.1:1", call="GET /", tries=1, reason="refused").retryable
    assert not FenceStale(found=1, current=2).retryable


def test_a_part_that_is_missing_is_a_mistake_at_once():
    with pytest.raises(KeyError):
        FenceStale(found=3)
