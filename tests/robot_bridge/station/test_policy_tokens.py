"""A token reaches the policy it belongs to and nobody else: no other origin, no redirect, no log."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.errors import EndpointRefused, PolicyError
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.policy_tokens import (
    MAX_FILE_BYTES,
    PolicyTokens,
    PolicyTokensInvalid,
    origin_of,
    read_policy_tokens,
)
from tests.robot_bridge.canned_policy import as_json, as_problem, canned_policy, says
from tests.robot_bridge.scripted_policy import a_reset

SECRET = "a-very-secret-word"  # noqa: S105
READY = {"session": "session-1", "policy": {"name": "p", "version": "1"}, "chunk": 2}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policies"
    path.touch(mode=0o600)
    return path


def a_policy_of(file: Path, *lines: str) -> StationPolicy:
    file.write_text("\n".join(lines))
    return replace(StationPolicy(act_timeout_s=20.0), policy_tokens=read_policy_tokens(file))


def test_every_origin_has_its_own_token_and_comments_are_skipped(file: Path) -> None:
    file.write_text(
        f"# of the lab\n\nhttps://policy.lab {SECRET}\n  http://127.0.0.1:8402/  other\n#https://gone.lab x\n"
    )
    tokens = read_policy_tokens(file)
    assert tokens.of("https://policy.lab") == SECRET
    assert tokens.of("HTTPS://Policy.LAB:443/some/path") == SECRET  # the same origin, written otherwise
    assert tokens.of("http://127.0.0.1:8402") == "other"
    assert tokens.of("https://gone.lab") is None


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://policy.lab",
        "https://policy.lab:444",
        "https://policy.lab.example.org",
        "https://other.policy.lab",
        "https://example.org/https://policy.lab",
        "http://127.0.0.1:443",
    ],
)
def test_another_origin_gets_no_token(file: Path, endpoint: str) -> None:
    file.write_text(f"https://policy.lab {SECRET}\n")
    assert read_policy_tokens(file).of(endpoint) is None


HOSTS = st.sampled_from(["policy.lab", "policy.labs", "127.0.0.1", "localhost", "[::1]"])
ORIGINS = st.tuples(st.sampled_from(["http", "https"]), HOSTS, st.integers(1, 65535) | st.none())


def written(origin: tuple[str, str, int | None]) -> str:
    scheme, host, port = origin
    return f"{scheme}://{host}" + ("" if port is None else f":{port}")


@given(st.lists(ORIGINS, min_size=1, max_size=4), ORIGINS)
def test_a_token_is_given_exactly_to_who_has_the_same_scheme_host_and_port(
    known: list[tuple[str, str, int | None]], asked: tuple[str, str, int | None]
) -> None:
    tokens = PolicyTokens({origin_of(written(origin)): SECRET for origin in known})
    found = tokens.of(written(asked) + "/v1")
    assert (found == SECRET) is any(
        origin_of(written(origin)) == origin_of(written(asked)) for origin in known
    )


def test_what_is_no_address_is_refused_not_guessed() -> None:
    with pytest.raises(EndpointRefused):
        PolicyTokens({}).of("https://user@policy.lab")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no token"),
        ("# nothing\n", "holds no token"),
        (f"{SECRET}\n", "line 1 has 1 words"),
        (f"https://policy.lab {SECRET} {SECRET}\n", "line 1 has 3 words"),
        (f"\nftp://policy.lab {SECRET}", "line 2 does not begin with an http"),
        (f"policy.lab {SECRET}", "does not begin with an http"),
        (f"https://{SECRET}@policy.lab {SECRET}", "does not begin with an http"),
        (f"https://policy.lab/nano {SECRET}", "a path behind its host"),
        (f"http://policy.lab {SECRET}", "everybody on the way"),
        (f"https://policy.lab {SECRET}\nhttps://policy.lab:443 x", "line 2 names an origin again"),
        (f"https://policy.lab {SECRET}\x07", "no header can carry"),
        (f"https://policy.lab t\xf6k{SECRET}", "no text"),
        ("x" * (MAX_FILE_BYTES + 1), "larger than"),
    ],
    ids=lambda part: part[:20],
)
def test_a_file_that_is_none_is_told_without_what_is_in_it(file: Path, content: str, told: str) -> None:
    file.write_bytes(content.encode())
    with pytest.raises(PolicyTokensInvalid, match=told) as caught:
        read_policy_tokens(file)
    assert SECRET not in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_others_may_use_or_that_is_not_there_gives_nothing(file: Path) -> None:
    file.write_text(f"https://policy.lab {SECRET}\n")
    for mode in (0o640, 0o604, 0o620, 0o602):
        file.chmod(mode)
        with pytest.raises(PolicyTokensInvalid, match=f"its mode is 0{mode:o}"):
            read_policy_tokens(file)
    for missing in (file.parent / "none", file.parent):
        with pytest.raises(PolicyTokensInvalid):
            read_policy_tokens(missing)


def test_a_policy_is_called_with_its_token_and_another_without_one(file: Path) -> None:
    with canned_policy(as_json(READY)) as mine, canned_policy(as_json(READY)) as other:
        policy = a_policy_of(file, f"{mine.url} {SECRET}")
        for server in (mine, other):
            link = policy.connect(server.url)
            link.reset(a_reset())
            link.close()
        assert f"authorization: bearer {SECRET}".encode() in mine.requests[0].lower()
        assert b"authorization" not in other.requests[0].lower()


def test_a_redirect_is_not_followed_so_the_token_goes_nowhere_else(file: Path) -> None:
    with canned_policy(as_json(READY)) as other:
        moved = says(307, b"", Location=f"{other.url}/v1/policy/reset")
        with canned_policy(moved) as mine:
            link = a_policy_of(file, f"{mine.url} {SECRET}", f"{other.url} another").connect(mine.url)
            with pytest.raises(PolicyError, match="HTTP 307"):
                link.reset(a_reset())
            link.close()
        assert other.requests == []


def test_a_token_is_in_no_log_no_error_and_no_description_of_the_policy(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with canned_policy(as_problem("unauthorized", f"not {SECRET}", status=401)) as server:
        policy = a_policy_of(file, f"{server.url} {SECRET}")
        link = policy.connect(server.url)
        with pytest.raises(PolicyError) as caught:
            link.reset(a_reset())
        link.close()
    assert SECRET not in caplog.text + str(caught.value) + repr(policy) + repr(policy.policy_tokens)
    assert "of 1 origins" in repr(policy)
