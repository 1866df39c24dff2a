"""Canonical JSON: equal values are equal text, and what JSON cannot hold is refused."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.canonical import as_json, canonical_json, json_digest
from storage.errors import NotJson

# a busy machine is no reason to fail
unhurried = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@unhurried
@given(value=st.dictionaries(st.text("abcdef", max_size=4), json_values, max_size=5))
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical_json(value, what="it") == canonical_json(backwards, what="it")


@unhurried
@given(value=st.dictionaries(st.text("abcdef", max_size=4), json_values, max_size=5))
def test_the_text_reads_back_as_the_value(value: dict[str, object]) -> None:
    assert json.loads(canonical_json(value, what="it")) == value


def test_the_text_is_sorted_and_has_no_spaces() -> None:
    assert canonical_json({"b": [1, 2.5], "a": None}, what="it") == '{"a":null,"b":[1,2.5]}'


def test_a_tuple_becomes_the_list_it_will_be_read_back_as() -> None:
    assert as_json({"tasks": ("open", "close")}, what="it") == {"tasks": ["open", "close"]}


def test_the_digest_tells_values_apart_by_content_alone() -> None:
    assert json_digest({"a": 1, "b": 2}, what="it") == json_digest({"b": 2, "a": 1}, what="it")
    assert json_digest({"a": 1}, what="it") != json_digest({"a": 2}, what="it")
    assert len(json_digest({}, what="it")) == 64


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, object(), b"bytes", {1, 2}, "nul \x00"])
def test_what_json_cannot_hold_is_refused_with_its_name(value: object) -> None:
    with pytest.raises(NotJson, match="the spec cannot be stored as JSON"):
        canonical_json({"deep": [{"er": value}]}, what="the spec")
