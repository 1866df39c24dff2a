"""Forms with a file: what a browser sends arrives byte for byte, and what is no such form is refused."""

import random

import pytest
import requests

from daemon.dashboard.forms import MOST_FIELDS
from daemon.dashboard.uploads import taken_apart
from daemon.errors import RequestInvalid


def sent(fields, files):
    """A body and its content type, as an HTTP library makes them."""
    request = requests.Request("POST", "http://here/", data=fields, files=files).prepare()
    return request.body, request.headers["Content-Type"]


def test_fields_and_files_arrive_as_they_were_sent():
    body, kind = sent({"word": "w", "instruction": "Öffne die Schublade"}, {"picture": ("a.png", b"\x89PNG")})
    found = taken_apart(body, kind=kind)
    assert found.fields == {"word": "w", "instruction": "Öffne die Schublade"}
    assert found.files == {"picture": b"\x89PNG"}


@pytest.mark.parametrize("seed", range(8))
def test_no_byte_of_a_file_is_changed(seed):
    chosen = random.Random(seed)
    lines = (b"\r", b"\n", b"\r\n", b"--", b"--boundary", b"\x00", b"\xff\xd8", bytes(range(256)))
    content = b"".join(chosen.choice(lines) for _ in range(400))
    for file in (content, content + b"\r\n", b"\r\n" + content, chosen.randbytes(5000)):
        body, kind = sent({"word": "w"}, {"picture": ("a.jpg", file, "image/jpeg")})
        assert taken_apart(body, kind=kind).files == {"picture": file}


def test_a_file_that_nobody_chose_is_empty():
    kind = "multipart/form-data; boundary=b"
    body = (
        b'--b\r\nContent-Disposition: form-data; name="picture"; filename=""\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\r\n--b--\r\n"
    )
    assert taken_apart(body, kind=kind).files == {"picture": b""}


FIELD = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"a=1", "application/x-www-form-urlencoded", "multipart/form-data"),
        (b"a=1", "", "no type"),
        (b"", "multipart/form-data", "whole form"),
        (b"", "multipart/form-data; boundary=b", "whole form"),
        (FIELD + b"1\r\n", "multipart/form-data; boundary=b", "do not end"),
        (FIELD + b"\xff\r\n--b--\r\n", "multipart/form-data; boundary=b", "UTF-8"),
        (FIELD + b"\x00\r\n--b--\r\n", "multipart/form-data; boundary=b", "NUL"),
        (b"--b\r\n\r\n1\r\n--b--\r\n", "multipart/form-data; boundary=b", "a name"),
        (
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n'
            b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n1\r\n--c--\r\n--b--\r\n",
            "multipart/form-data; boundary=b",
            "inside a part",
        ),
    ],
)
def test_what_is_no_such_form_is_refused_with_the_reason(body, kind, said):
    with pytest.raises(RequestInvalid, match=said):
        taken_apart(body, kind=kind)


def test_a_form_of_too_many_fields_is_refused():
    body, kind = sent({f"f{n}": "1" for n in range(MOST_FIELDS)}, {"picture": ("a", b"1")})
    with pytest.raises(RequestInvalid, match="at most"):
        taken_apart(body, kind=kind)
