"""The bodies of AutoEval's `/act`: json_numpy in, seven numbers out, decoded by hand.

json_numpy writes an array as {"__numpy__": base64 of its bytes, "dtype": "|u1", "shape": [256, 256, 3]}. Its
own package patches the `json` module of the whole process and believes every dtype and shape; nothing of it
is used here. A body may also be {"encoded": "<the body as a JSON string>"}; the reply is a JSON string then.

HTTP is not here, and whether a request is welcome is the gateway's business.
"""

from __future__ import annotations

import base64
import json
import reprlib
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from robot_bridge.conventions import ACTION_DIMS, F32, IMAGE_SIZE
from robot_bridge.errors import BadAction, BadObservation, BadRequest, TooLarge
from robot_bridge.plain_objects import once

MAX_BODY_BYTES: Final = 1024 * 1024  # one picture is 262,144 characters, four times that is no request
IMAGE_SHAPE: Final = (IMAGE_SIZE, IMAGE_SIZE, 3)
IMAGE_DTYPE: Final = "|u1"
PROPRIO_DIMS: Final = 8  # x y z roll pitch yaw 0 gripper, in autoeval_mg
PROPRIO_DTYPES: Final = ("<f4", "<f8")
BOX_LOW: Final = (0.0, -0.5, -0.1)  # metres; a WidowX gripper cannot be elsewhere
BOX_HIGH: Final = (0.6, 0.5, 0.6)
INSTRUCTION_MAX: Final = 500  # characters
TEST_INSTRUCTION: Final = "test connection"

ENCODED: Final = "encoded"
ARRAY_FIELDS: Final = {"__numpy__", "dtype", "shape"}
KNOWN_FIELDS: Final = {"image", "instruction", "proprio", "unnorm_key"}  # the last is OpenVLA's client's
QUOTED_MAX: Final = 60  # characters of what was sent that an error repeats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActRequest:
    """One question of AutoEval's.

    image uint8 [256, 256, 3] RGB; proprio float32 [8] in autoeval_mg, zeros where none was sent and none was
    required (`has_proprio` says which). `encoded` says that the reply must be a JSON string. Arrays are
    read-only.
    """

    image: NDArray[np.uint8]
    instruction: str
    proprio: F32
    encoded: bool
    has_proprio: bool = True


def read_act(body: bytes, *, proprio_required: bool = True) -> ActRequest:
    """The question in the body of an `/act`.

    Raises:
        TooLarge: more than 1 MiB; nothing of it was looked at.
        BadRequest: not JSON, not an object, a field is missing, unknown or of the wrong kind.
        BadObservation: an array of another dtype, shape or length, or an arm where no arm can be.
    """
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(found=len(body), expected=MAX_BODY_BYTES)
    tree = _object_of(body, thing="the body")
    encoded = ENCODED in tree
    if encoded:
        tree = _inner(tree)
    unknown = sorted(set(tree) - KNOWN_FIELDS)
    if unknown:
        raise BadRequest(thing="the body", reason=f"unknown field {_quoted(unknown[0])}")
    has_proprio = proprio_required or tree.get("proprio") is not None
    return ActRequest(
        image=_image(_field(tree, "image")),
        instruction=_instruction(_field(tree, "instruction")),
        proprio=_proprio(_field(tree, "proprio")) if has_proprio else np.zeros(PROPRIO_DIMS, np.float32),
        encoded=encoded,
        has_proprio=has_proprio,
    )


def write_action(action: F32, *, encoded: bool) -> bytes:
    """The reply to an `/act`: a JSON list of seven numbers, or that list as a JSON string.

    float32 numbers survive the text exactly, so that AutoEval's own record of the action equals ours.

    Raises:
        BadAction: not seven finite numbers; AutoEval must never see it.
    """
    numbers = np.asarray(action)
    if numbers.shape != (ACTION_DIMS,) or not np.isfinite(numbers).all():
        found = f"{numbers.shape} {_quoted(numbers.tolist())}"
        raise BadAction(thing="the reply", expected=f"{ACTION_DIMS} finite numbers", found=found)
    text = json.dumps([float(number) for number in numbers])
    return (json.dumps(text) if encoded else text).encode()


def encode_array(array: NDArray[Any]) -> dict[str, Any]:
    """An array as json_numpy writes it.

    Raises:
        BadObservation: it holds objects, which have no bytes.
    """
    if array.dtype.hasobject:
        raise BadObservation(thing="an array", expected="plain numbers", found=str(array.dtype))
    text = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"__numpy__": text, "dtype": array.dtype.str, "shape": list(array.shape)}


def is_test_call(request: ActRequest) -> bool:
    """Whether this is the connection test that AutoEval makes when a job is submitted: all blank."""
    blank = not request.image.any() and not request.proprio.any()
    return blank and request.instruction == TEST_INSTRUCTION


def _inner(tree: dict[str, Any]) -> dict[str, Any]:
    text = tree[ENCODED]
    if len(tree) != 1 or not isinstance(text, str):
        raise BadRequest(thing=f"field {ENCODED!r}", reason="it must be a string and the only field")
    return _object_of(_utf8(text, thing=f"field {ENCODED!r}"), thing=f"field {ENCODED!r}")


def _object_of(body: bytes, *, thing: str) -> dict[str, Any]:
    try:
        tree = json.loads(body.decode(), parse_constant=_refuse_constant, object_pairs_hook=once)
    except RecursionError as cause:
        raise BadRequest(thing=thing, reason="it is nested too deep") from cause
    except ValueError as cause:  # also text that is not UTF-8, and numbers too long to read
        raise BadRequest(thing=thing, reason=f"it is not JSON ({_clipped(str(cause))})") from cause
    if not isinstance(tree, dict):
        raise BadRequest(thing=thing, reason=f"it is a {type(tree).__name__}, not an object")
    return tree


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _field(tree: dict[str, Any], name: str) -> object:
    if name not in tree:
        raise BadRequest(thing=f"field {name!r}", reason="it is missing")
    return tree[name]


def _instruction(found: object) -> str:
    if not isinstance(found, str) or not 1 <= len(found) <= INSTRUCTION_MAX:
        reason = f"it must be a text of 1..{INSTRUCTION_MAX} characters, found {_quoted(found)}"
        raise BadRequest(thing="field 'instruction'", reason=reason)
    _utf8(found, thing="field 'instruction'")
    return found


def _image(found: object) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = _array(found, "image", dtypes=(IMAGE_DTYPE,), shape=IMAGE_SHAPE)
    return image


def _proprio(found: object) -> F32:
    sent = _array(found, "proprio", dtypes=PROPRIO_DTYPES, shape=(PROPRIO_DIMS,))
    with np.errstate(over="ignore", invalid="ignore"):
        proprio = sent.astype(np.float32)
    if not np.isfinite(proprio).all():
        raise BadObservation(thing="proprio", expected="finite numbers", found=_quoted(sent.tolist()))
    low, high = np.array(BOX_LOW, dtype=np.float32), np.array(BOX_HIGH, dtype=np.float32)
    if (proprio[:3] < low).any() or (proprio[:3] > high).any():
        raise BadObservation(
            thing="proprio",
            expected=f"xyz within {BOX_LOW}..{BOX_HIGH} m",
            found=_quoted(proprio[:3].tolist()),
        )
    proprio.setflags(write=False)
    return proprio


def _array(found: object, name: str, *, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> NDArray[Any]:
    if not isinstance(found, dict) or set(found) != ARRAY_FIELDS:
        raise BadRequest(thing=f"field {name!r}", reason=f"it must have exactly {sorted(ARRAY_FIELDS)}")
    dtype, sent_shape = found["dtype"], found["shape"]
    if dtype not in dtypes:
        raise BadObservation(thing=name, expected=f"dtype {' or '.join(dtypes)}", found=_quoted(dtype))
    is_shape = isinstance(sent_shape, list) and all(type(side) is int for side in sent_shape)
    if not is_shape or tuple(sent_shape) != shape:
        raise BadObservation(thing=name, expected=f"shape {list(shape)}", found=_quoted(sent_shape))
    content = _bytes_of(found["__numpy__"], name, length=np.dtype(dtype).itemsize * int(np.prod(shape)))
    return np.frombuffer(content, dtype=np.dtype(dtype)).reshape(shape)


def _bytes_of(text: object, name: str, *, length: int) -> bytes:
    characters = 4 * -(-length // 3)
    if not isinstance(text, str) or len(text) != characters:
        found = f"{len(text)} characters" if isinstance(text, str) else type(text).__name__
        raise BadObservation(thing=name, expected=f"{characters} characters of base64", found=found)
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as cause:  # binascii.Error is one; text that is not ASCII raises the plain one
        raise BadObservation(thing=name, expected="base64", found=_clipped(str(cause))) from cause
    if len(content) != length:
        raise BadObservation(thing=name, expected=f"{length} bytes", found=f"{len(content)} bytes")
    return content


def _utf8(text: str, *, thing: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as cause:  # half of a surrogate pair
        raise BadRequest(thing=thing, reason="it holds a character that UTF-8 has not") from cause


def _quoted(thing: object) -> str:
    """What was sent, short and printable whatever it was, and however deep."""
    return _clipped(reprlib.repr(thing))


def _clipped(text: str) -> str:
    return text if len(text) <= QUOTED_MAX else text[:QUOTED_MAX] + "…"
