"""AutoEval's bodies: what its own clients send is read exactly, everything else is refused."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robot_bridge.autoeval.wire import (
    MAX_BODY_BYTES,
    encode_array,
    is_test_call,
    read_act,
    write_action,
)
from robot_bridge.errors import BadAction, BadObservation, BadRequest, RobotBridgeError, TooLarge
from tests.robot_bridge.autoeval.gateway_builders import (
    INSTRUCTION,
    a_body,
    a_picture,
    a_proprio,
    a_test_call,
    a_tree,
)

REFUSALS = (BadRequest, BadObservation, TooLarge)


def with_image(**changes: object) -> bytes:
    return a_body(image={**encode_array(a_picture()), **changes})


def with_proprio(**changes: object) -> bytes:
    return a_body(proprio={**encode_array(a_proprio()), **changes})


@pytest.mark.parametrize("encoded", [False, True])
def test_both_forms_of_a_body_are_read_exactly(encoded):
    request = read_act(a_body(encoded=encoded))
    assert request.encoded is encoded
    assert request.instruction == INSTRUCTION
    assert request.has_proprio
    np.testing.assert_array_equal(request.image, a_picture())
    np.testing.assert_array_equal(request.proprio, a_proprio())
    assert (request.image.dtype, request.proprio.dtype) == (np.uint8, np.float32)


def test_what_was_read_cannot_be_changed_afterwards():
    request = read_act(a_body())
    assert not request.image.flags.writeable
    assert not request.proprio.flags.writeable


def test_proprio_may_come_in_double_precision():
    request = read_act(a_body(proprio=encode_array(a_proprio().astype("<f8"))))
    np.testing.assert_array_equal(request.proprio, a_proprio())
    assert request.proprio.dtype == np.float32


def test_an_array_is_written_as_json_numpy_writes_it():
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    assert encode_array(array) == {
        "__numpy__": base64.b64encode(array.tobytes()).decode(),
        "dtype": "<f4",
        "shape": [2, 3],
    }


def test_a_transposed_array_is_written_in_the_order_of_its_shape():
    array = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    assert base64.b64decode(encode_array(array)["__numpy__"]) == bytes([0, 3, 1, 4, 2, 5])


def test_objects_have_no_bytes_to_write():
    with pytest.raises(BadObservation, match="plain numbers, found object"):
        encode_array(np.array([{}, None], dtype=object))


@pytest.mark.parametrize("corner", [(0.0, -0.5, -0.1), (0.6, 0.5, 0.6)])
def test_the_corners_of_the_plausible_box_are_plausible(corner):
    x, y, z = corner
    sent = a_proprio(x=x, y=y, z=z)
    np.testing.assert_array_equal(read_act(a_body(proprio=encode_array(sent))).proprio, sent)


@pytest.mark.parametrize(
    "changes", [{"x": -0.01}, {"x": 0.61}, {"y": -0.51}, {"y": 0.51}, {"z": -0.11}, {"z": 0.61}], ids=str
)
def test_an_arm_where_no_arm_can_be_is_refused(changes):
    with pytest.raises(BadObservation, match="proprio must be xyz within"):
        read_act(a_body(proprio=encode_array(a_proprio(**changes))))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("index", [0, 4, 7])
def test_a_state_that_float32_cannot_hold_is_refused_without_a_warning(number, index):
    state = a_proprio().astype("<f8")
    state[index] = number
    with pytest.raises(BadObservation, match="proprio must be finite numbers"):
        read_act(a_body(proprio=encode_array(state)))


@pytest.mark.parametrize("name", ["image", "instruction", "proprio"])
def test_a_missing_field_is_named(name):
    tree = a_tree()
    del tree[name]
    with pytest.raises(BadRequest, match=f"field '{name}' was refused: it is missing"):
        read_act(json.dumps(tree).encode())


@pytest.mark.parametrize("name", ["instruction", "image", "proprio"])
def test_a_field_that_comes_twice_is_refused_for_nobody_knows_which_one_counts(name):
    tree = a_tree()
    body = json.dumps(tree)[:-1] + f', "{name}": {json.dumps(tree[name])}}}'
    for sent in (body, json.dumps({"encoded": body})):
        with pytest.raises(BadRequest, match="a field came twice in one object"):
            read_act(sent.encode())


def test_a_policy_that_needs_no_proprio_can_do_without():
    tree = a_tree()
    del tree["proprio"]
    for body in (json.dumps(tree), json.dumps({**tree, "proprio": None})):
        request = read_act(body.encode(), proprio_required=False)
        assert not request.has_proprio
        np.testing.assert_array_equal(request.proprio, np.zeros(8, dtype=np.float32))


def test_a_proprio_that_was_sent_is_checked_even_where_none_is_needed():
    with pytest.raises(BadObservation, match="xyz within"):
        read_act(a_body(proprio=encode_array(a_proprio(x=0.9))), proprio_required=False)
    assert read_act(a_body(), proprio_required=False).has_proprio


def test_the_field_of_another_client_of_autoevals_is_tolerated():
    assert read_act(a_body(unnorm_key="bridge_orig")).instruction == INSTRUCTION


def test_a_field_that_no_client_sends_is_refused_by_name():
    with pytest.raises(BadRequest, match="unknown field 'temperature'"):
        read_act(a_body(temperature=1.6))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "|O"}, r"dtype \|u1, found '\|O'"),
        ({"dtype": "|i1"}, r"dtype \|u1, found '\|i1'"),
        ({"dtype": "<f4"}, r"dtype \|u1"),
        ({"dtype": ["|u1"]}, r"dtype \|u1"),
        ({"dtype": None}, r"dtype \|u1, found None"),
        ({"shape": [256, 256]}, r"shape \[256, 256, 3\], found \[256, 256\]"),
        ({"shape": [3, 256, 256]}, r"shape \[256, 256, 3\]"),
        ({"shape": [-1]}, r"shape \[256, 256, 3\]"),
        ({"shape": [2**62, 2**62, 3]}, r"shape \[256, 256, 3\]"),
        ({"shape": [256.0, 256, 3]}, r"shape \[256, 256, 3\]"),
        ({"shape": "256,256,3"}, r"shape \[256, 256, 3\]"),
        ({"__numpy__": ""}, "262144 characters of base64, found 0 characters"),
        ({"__numpy__": "A" * 262143}, "found 262143 characters"),
        ({"__numpy__": "A" * 262148}, "found 262148 characters"),
        ({"__numpy__": "!" * 262144}, "base64"),
        ({"__numpy__": "é" + "A" * 262143}, "base64"),
        ({"__numpy__": "A" * 262140 + "===="}, "196608 bytes"),
        ({"__numpy__": "A" * 262142 + "=="}, "196608 bytes"),
        ({"__numpy__": [1] * 262144}, "found list"),
    ],
)
def test_a_picture_of_any_other_kind_is_refused(changes, said):
    with pytest.raises(BadObservation, match=f"image must be .*{said}"):
        read_act(with_image(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": ">f4"},
        {"dtype": "<f2"},
        {"dtype": "|u1"},
        {"dtype": "|O"},
        {"shape": [7]},
        {"shape": [True] * 8},
    ],
    ids=str,
)
def test_a_proprio_of_any_other_kind_is_refused(changes):
    with pytest.raises(BadObservation, match="proprio must be"):
        read_act(with_proprio(**changes))


@pytest.mark.parametrize("array", [None, 3, "text", [], {}, {"__numpy__": "", "dtype": "|u1"}], ids=str)
def test_what_is_no_array_of_json_numpys_is_refused(array):
    with pytest.raises(BadRequest, match="'image' was refused: it must have exactly"):
        read_act(a_body(image=array))


def test_an_array_with_a_field_more_is_refused():
    with pytest.raises(BadRequest, match="'image' was refused: it must have exactly"):
        read_act(with_image(order="F"))


@pytest.mark.parametrize("instruction", [None, 3, "", "x" * 501, ["open"], "\ud800"], ids=ascii)
def test_an_instruction_that_is_no_sentence_is_refused(instruction):
    with pytest.raises(BadRequest, match="instruction"):
        read_act(a_body(instruction=instruction))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"null",
        b"[]",
        b"3",
        b"NaN",
        b'{"image": NaN}',
        b'{"image": Infinity}',
        b'{"image": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"image": ' + b"[" * 900 + b"]" * 900 + b', "instruction": "x", "proprio": 1}',
        b'{"instruction": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"encoded": 3}',
        b'{"encoded": null}',
        b'{"encoded": "3"}',
        b'{"encoded": "{}", "more": 1}',
        b'{"encoded": "{\\"encoded\\": \\"{}\\"}"}',
        b'{"encoded": "\\ud800"}',
        b'{"\\ud800": 1}',
        "{}".encode("utf-16"),
    ],
    ids=lambda body: ascii(body[:24]),
)
def test_what_is_not_autoevals_json_is_refused_with_a_sentence_that_can_be_sent(body):
    with pytest.raises(BadRequest) as refused:
        read_act(body)
    assert str(refused.value).encode()
    assert len(str(refused.value)) < 400


def test_a_body_over_the_limit_is_not_looked_at():
    with pytest.raises(TooLarge, match="1048577 bytes, at most 1048576"):
        read_act(b" " * (MAX_BODY_BYTES + 1))
    with pytest.raises(BadRequest):
        read_act(b" " * MAX_BODY_BYTES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=12), children, max_size=4)
    ),
    max_leaves=12,
)
FIELD = st.sampled_from(["image", "instruction", "proprio", "unnorm_key", "encoded"])
PART = st.sampled_from(["__numpy__", "dtype", "shape"])


@settings(max_examples=150)
@given(st.binary(max_size=200) | JSON.map(lambda tree: json.dumps(tree).encode()))
def test_no_bytes_whatever_lead_to_anything_but_a_refusal(body):
    with pytest.raises(REFUSALS):
        read_act(body)


@settings(max_examples=80)
@given(field=FIELD, value=JSON, encoded=st.booleans())
@example(field="unnorm_key", value={"deep": [1]}, encoded=True)
def test_a_good_body_with_one_field_replaced_is_read_or_refused(field, value, encoded):
    try:
        tree = json.dumps({**a_tree(), field: value})
        request = read_act((json.dumps({"encoded": tree}) if encoded else tree).encode())
    except REFUSALS as error:
        assert str(error).encode()
    else:
        assert field in {"unnorm_key", "instruction"}
        assert np.isfinite(request.proprio).all()


@settings(max_examples=80)
@given(field=st.sampled_from(["image", "proprio"]), part=PART, value=JSON)
def test_an_array_with_one_part_replaced_is_never_read(field, part, value):
    array = a_tree()[field]
    if array[part] != value:
        with pytest.raises(REFUSALS):
            read_act(a_body(**{field: {**array, part: value}}))


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=7, max_size=7),
    st.booleans(),
)
def test_a_reply_carries_every_float32_exactly(numbers, encoded):
    action = np.array(numbers, dtype=np.float32)
    reply = json.loads(write_action(action, encoded=encoded))
    assert isinstance(reply, str) is encoded
    read = json.loads(reply) if encoded else reply
    assert [type(number) for number in read] == [float] * 7
    assert np.array(read, dtype=np.float32).tobytes() == action.tobytes()


@pytest.mark.parametrize(
    "action",
    [
        np.full(7, np.nan, np.float32),
        np.array([0, 0, 0, 0, 0, np.inf, 1]),
        np.zeros(6),
        np.zeros((1, 7)),
        np.zeros(0),
    ],
    ids=lambda action: f"{action.shape}{action.sum()}",
)
def test_a_reply_that_is_not_seven_finite_numbers_never_leaves(action):
    with pytest.raises(BadAction, match="the reply must be 7 finite numbers"):
        write_action(action, encoded=False)


@pytest.mark.parametrize("encoded", [False, True])
def test_the_connection_test_is_recognised(encoded):
    body = a_test_call()
    request = read_act(json.dumps({"encoded": body.decode()}).encode() if encoded else body)
    assert is_test_call(request)


@pytest.mark.parametrize(
    "changes",
    [
        {"instruction": INSTRUCTION},
        {"proprio": encode_array(a_proprio())},
        {"image": encode_array(a_picture())},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_only_a_call_that_is_blank_throughout_is_the_connection_test(changes):
    tree = {**json.loads(a_test_call()), **changes}
    assert not is_test_call(read_act(json.dumps(tree).encode()))


def test_all_refusals_are_of_the_one_tree():
    assert all(issubclass(refusal, RobotBridgeError) for refusal in REFUSALS)
