"""Secrets: the ones that were given and the ones that look like one are not written down."""

import pytest

from daemon.events.hooks import Webhook
from daemon.redaction import INSTEAD, Redactor, redactor_of, secrets_of
from daemon.settings import Settings


def clean(text: str, *secrets: str) -> str:
    return Redactor(secrets).clean(text)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abc.def-123456", "abc.def-123456"),
        ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("{'Authorization': 'Bearer abc.def-123456'}", "abc.def-123456"),
        ("asked with bearer sk-abcdef123 today", "sk-abcdef123"),
        ("postgresql+psycopg://lab:hunter22@db/gym", "hunter22"),
        ("api_key=sk-123456", "sk-123456"),
        ('{"token": "tok-123456"}', "tok-123456"),
        ("password: correcthorse", "correcthorse"),
        ("call path='/x%2Fgmd_0123456789abcdef_" + "s" * 43, "s" * 43),
        ("gst_" + "s-_" * 14, "s-_" * 14),
    ],
)
def test_what_looks_like_a_secret_is_not_written(text, secret):
    cleaned = clean(text)
    assert secret not in cleaned
    assert INSTEAD in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "phase finished phase=collect iteration=3 took_s=1.2",
        "http://127.0.0.1:8400/v1/iterations answered",
        "tokens=512 of the model",
        "the bearer of the arm",
        "station http://cell:8401 went away",
        "iteration 12 of gmd_",
    ],
)
def test_what_is_no_secret_stays(text):
    assert clean(text) == text


def test_what_was_given_is_not_written_wherever_it_stands():
    assert clean("GET /T1/hush-hush?x=hush-hush-2", "hush-hush", "hush-hush-2") == (
        f"GET /T1/{INSTEAD}?x={INSTEAD}"
    )


def test_a_word_is_no_secret_because_it_is_short():
    assert clean("a cat sat", "a", "cat") == "a cat sat"


def test_every_secret_of_the_settings_is_known(tmp_path):
    for name in ("station", "judge", "hook", "database"):
        (tmp_path / name).write_text(f"{name}-secret\n")
    settings = Settings(
        data_dir=tmp_path,
        database_url="postgresql://lab:hunter22@db/gym",
        station_token_file=tmp_path / "station",
        judge_key_file=tmp_path / "judge",
        database_password_file=tmp_path / "database",
        webhooks=[{"name": "a", "url": "https://x.org/T1", "secret_file": tmp_path / "hook"}],
    )
    assert set(secrets_of(settings)) == {
        "station-secret", "judge-secret", "hook-secret", "database-secret", "https://x.org/T1", "hunter22"
    }  # fmt: skip
    told = "asked https://x.org/T1 with judge-secret and station-secret, as hunter22"
    assert redactor_of(settings).clean(told) == (
        f"asked {INSTEAD} with {INSTEAD} and {INSTEAD}, as {INSTEAD}"
    )


def test_a_file_that_cannot_be_read_holds_no_secret(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    hooks = [
        Webhook(name=name, url="https://x.org/T1", secret_file=tmp_path / name) for name in ("gone", "binary")
    ]
    assert secrets_of(Settings(data_dir=tmp_path, webhooks=hooks)) == ["https://x.org/T1"] * 2


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"])
def test_the_keys_of_whoever_gets_the_traces_are_secrets(tmp_path, name):
    environ = {name: "authorization=Bearer%20sk-traces-1, x-key=k%2Bey-two"}
    known = Redactor(secrets_of(Settings(data_dir=tmp_path), environ))
    assert known.clean("sk-traces-1 Bearer%20sk-traces-1 k+ey-two k%2Bey-two").count(INSTEAD) == 4
    assert secrets_of(Settings(data_dir=tmp_path), {}) == []


def test_a_header_of_traces_that_is_blank_once_it_is_unquoted_stops_nobody(tmp_path):
    known = secrets_of(Settings(data_dir=tmp_path), {"OTEL_EXPORTER_OTLP_HEADERS": "x-key=%20,y-key=of-y"})
    assert "of-y" in known
