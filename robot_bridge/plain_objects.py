"""JSON objects in which every field comes once: the language leaves open which of two would count."""

from __future__ import annotations

from typing import Any


class FieldTwice(ValueError):
    """A field came more than once in one object; `field` is its name."""

    def __init__(self, field: str) -> None:
        super().__init__("a field came twice in one object")
        self.field = field


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its fields, for the `object_pairs_hook` of `json.loads`.

    Raises:
        FieldTwice: one came more than once.
    """
    tree = dict(pairs)
    if len(tree) < len(pairs):
        names = [name for name, _ in pairs]
        raise FieldTwice(next(name for name in names if names.count(name) > 1))
    return tree
