"""The error tree of learning: drawn as it is, every code once, every sentence with its parts."""

import ast
import re
from pathlib import Path

import pytest

import daemon.learning.errors as errors_module
from daemon.learning.errors import BadTensor, LearningError, NonFiniteLoss

LEARNING = Path(errors_module.__file__).parent


def defined() -> dict[str, tuple[str, ast.ClassDef]]:
    """Every error class of learning by name, with the file that defines it, relative to the package."""
    found: dict[str, tuple[str, ast.ClassDef]] = {}
    for path in sorted(LEARNING.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and any(
                isinstance(base, ast.Name) and base.id == "LearningError" for base in node.bases
            ):
                found[node.name] = (path.relative_to(LEARNING).as_posix(), node)
    return found


def code_of(node: ast.ClassDef) -> str:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "code":
            return str(ast.literal_eval(statement.value))
    return "none"


def test_the_drawn_tree_is_the_tree() -> None:
    drawn = dict(re.findall(r"[├└]── (\w+)\s+(?:([\w/]+\.py): )?", errors_module.__doc__ or ""))
    expected = {name: "" if file == "errors.py" else file for name, (file, _) in defined().items()}
    assert drawn == expected


def test_every_code_belongs_to_one_error_and_reads_like_it() -> None:
    codes = {name: code_of(node) for name, (_, node) in defined().items()}
    assert len(set(codes.values())) == len(codes)
    for name, code in codes.items():
        assert code == re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_a_bad_tensor_names_itself_and_what_was_expected_and_found() -> None:
    error = BadTensor(name="images", expected="[B, 3, 64, 64]", found="[2, 64, 64, 3]")
    assert isinstance(error, LearningError)
    assert error.name == "images"
    for part in ("images", "[B, 3, 64, 64]", "[2, 64, 64, 3]"):
        assert part in str(error)


def test_a_loss_that_is_not_finite_says_when_and_what_is_left() -> None:
    error = NonFiniteLoss(phase="sft", update=12, quantity="loss", inputs="episode e1")
    assert error.update == 12
    for part in ("sft", "update 12", "loss", "episode e1", "before this update", "lower the learning rate"):
        assert part in str(error)


@pytest.mark.parametrize("error", [BadTensor, NonFiniteLoss])
def test_trying_the_same_again_would_not_help(error: type[LearningError]) -> None:
    assert not error.retryable
