"""Fields that come once make an object; a field that comes twice makes none, however deep it stands."""

import json

import pytest

from robot_bridge.plain_objects import FieldTwice, once


def test_an_object_without_doubles_is_read_as_usual():
    text = '{"a": 1, "b": {"a": 2}, "c": [{"a": 3}, {"a": 4}]}'
    assert json.loads(text, object_pairs_hook=once) == json.loads(text)


@pytest.mark.parametrize(
    "text", ['{"a": 1, "b": 2, "a": 1}', '{"x": {"a": 1, "a": 2}}', '[{"a": 1, "\\u0061": 2}]']
)
def test_a_field_that_comes_twice_is_named(text):
    with pytest.raises(FieldTwice, match="came twice") as refused:
        json.loads(text, object_pairs_hook=once)
    assert refused.value.field == "a"
