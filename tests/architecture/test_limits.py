"""The limits that keep files readable, held over the whole tree. They catch growth, not ugliness."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("robot_bridge", "storage", "daemon", "migrations")
FILE_LINES = 300
TABLE_LINES = 350
FUNCTION_LINES = 50
FUNCTION_LINES_P90 = 30
ARGUMENTS = 6
POSITIONAL = 2
BANNED_NAMES = {"utils", "helpers", "common", "manager", "handler", "data", "info", "process"}
MAY_BE_LONGER = {  # lists of declarations
    "storage/tables.py",
    "daemon/spec.py",
    "daemon/api/schemas.py",
    "robot_bridge/errors.py",
    "robot_bridge/protocol.py",
    "storage/errors.py",
}
# torch, MuJoCo and the learner come in only behind the command that needs them
LAZY_IMPORTS_ALLOWED = ("daemon/cli",)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def lines(paths: list[Path]) -> int:
    return sum(len(path.read_text().splitlines()) for path in paths)


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_file_is_longer_than_a_stranger_will_read(path: Path) -> None:
    limit = TABLE_LINES if name_of(path) in MAY_BE_LONGER else FILE_LINES
    assert len(path.read_text().splitlines()) <= limit


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    assert [f"{f.name}:{length(f)}" for f in functions(path) if length(f) > FUNCTION_LINES] == []


def test_nine_functions_in_ten_are_short() -> None:
    lengths = sorted(length(f) for path in sources() for f in functions(path))
    assert lengths[int(0.9 * len(lengths))] <= FUNCTION_LINES_P90


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_function_takes_more_than_six_arguments_and_two_without_a_name(path: Path) -> None:
    faults = []
    for f in functions(path):
        positional = [a.arg for a in (*f.args.posonlyargs, *f.args.args) if a.arg not in {"self", "cls"}]
        is_route = any("router" in ast.unparse(d) or "app" in ast.unparse(d) for d in f.decorator_list)
        everything = len(positional) + len(f.args.kwonlyargs)
        if everything > ARGUMENTS and not (is_cli(path) or is_config(f)):
            faults.append(f"{f.name} takes {everything}")
        if len(positional) > POSITIONAL + 1 and not is_route and not is_cli(path):
            faults.append(f"{f.name} takes {len(positional)} without a name")
    assert faults == []


def is_config(function: Function) -> bool:
    """A diffusers config is the arguments of its constructor: there is no other way to have one."""
    return any(ast.unparse(decorator) == "register_to_config" for decorator in function.decorator_list)


def is_cli(path: Path) -> bool:
    return name_of(path).startswith("daemon/cli")  # a command's options are its arguments


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports_stand_at_the_top(path: Path) -> None:
    if name_of(path).startswith(LAZY_IMPORTS_ALLOWED):
        return
    lazy = [
        f"{f.name}:{node.lineno}"
        for f in functions(path)
        for node in ast.walk(f)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert lazy == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_names_say_what_a_thing_is(path: Path) -> None:
    assert path.stem not in BANNED_NAMES
    assert path.parent.name not in BANNED_NAMES
    classes = [n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef)]
    assert [name for name in classes if name.lower() in BANNED_NAMES] == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_every_module_says_what_lives_in_it(path: Path) -> None:
    source = path.read_text()
    if source.strip():
        assert ast.get_docstring(ast.parse(source)), f"{name_of(path)} has no docstring"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_todo_has_an_issue_and_nothing_is_left_unimplemented(path: Path) -> None:
    source = path.read_text()
    assert "NotImplementedError" not in source
    assert [line for line in source.splitlines() if "TODO" in line and "#" not in line.split("TODO")[1]] == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_pickle_is_read_or_written(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert imported.isdisjoint({"pickle", "dill", "cloudpickle", "joblib", "shelve"})
    assert "allow_pickle=True" not in path.read_text()


@pytest.mark.parametrize("package", ["robot_bridge", "storage", "daemon", "daemon/learning"])
def test_there_is_at_least_as_much_test_as_product(package: str) -> None:
    product = list((ROOT / package).rglob("*.py"))
    tests = list((ROOT / "tests" / package).rglob("*.py"))
    if package == "robot_bridge":
        tests += list((ROOT / "tests" / "contracts").rglob("*.py"))
    if package == "storage":
        product += list((ROOT / "migrations").rglob("*.py"))
        tests += [*(ROOT / "tests" / "migrations").rglob("*.py"), ROOT / "tests" / "conftest.py"]
    if package == "daemon":
        tests += [p for part in ("e2e", "faults") for p in (ROOT / "tests" / part).rglob("*.py")]
    assert lines(tests) >= lines(product)
