"""Where the REST API may listen: on this machine, with TLS and tokens, or in a trusted network."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
import requests
import trustme

from daemon.binding import address_of, require_locked
from daemon.settings import Settings, load_settings
from daemon.stores import open_database
from robot_bridge.errors import BindRefused
from robot_bridge.listening import TlsUnusable
from storage import access_tokens

EVERYWHERE = "0.0.0.0"  # noqa: S104 - whether it may is what is tested
PATIENT = 30.0


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """A certificate for this machine, its key, and the authority that clients believe."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    files = {name: folder / f"{name}.pem" for name in ("certificate", "key", "authority")}
    issued.private_key_pem.write_to_path(str(files["key"]))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(files["certificate"]), append=True)
    authority.cert_pem.write_to_path(str(files["authority"]))
    return files


@pytest.fixture
def tls(pem):
    return {"tls_cert_file": pem["certificate"], "tls_key_file": pem["key"]}


@pytest.fixture
def make(now):
    def one(database):
        with database.write() as session:
            return access_tokens.create(session, "ann", scopes=["read"], expires_at=None, now=now)[1]

    return one


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_this_machine_nothing_is_asked_for(host, sqlite_database):
    require_locked(Settings(host=host), sqlite_database)
    assert address_of(Settings(host=host)).scheme == "http"


def test_elsewhere_a_token_is_needed_beside_tls(sqlite_database, make, tls, now):
    settings = Settings(host=EVERYWHERE, **tls)
    with pytest.raises(BindRefused, match=r"the REST API without a token .* not on 0\.0\.0\.0"):
        require_locked(settings, sqlite_database)
    make(sqlite_database)
    require_locked(settings, sqlite_database)
    with sqlite_database.write() as session:
        access_tokens.revoke(session, "ann", now=now)
    with pytest.raises(BindRefused):
        require_locked(settings, sqlite_database)


def test_a_trusted_network_needs_nothing(sqlite_database):
    require_locked(Settings(host=EVERYWHERE, trust_network=True), sqlite_database)


def test_certificate_and_key_must_fit(tmp_path, tls):
    assert address_of(Settings(**tls)).scheme == "https"
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(str(other))
    for key in (other, tmp_path / "nowhere.pem"):
        with pytest.raises(TlsUnusable):
            address_of(load_settings(**{**tls, "tls_key_file": key}))


@contextmanager
def serving(tmp_path, **variables):
    """`gymnastd serve` without workers on a free port; the first line that it prints, and the process."""
    environment = {**os.environ, "GYMNASTD_WORKER_COUNT": "0", "GYMNASTD_DATA_DIR": str(tmp_path / "lab")}
    environment |= {f"GYMNASTD_{name.upper()}": str(value) for name, value in variables.items()}
    command = [sys.executable, "-m", "daemon.cli", "serve", "--port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def test_beyond_this_machine_it_serves_https_to_those_with_a_token(tmp_path, tls, pem, make):
    with serving(tmp_path, host=EVERYWHERE, **tls) as (line, process):
        assert line == "", "nothing is announced"
        assert process.wait(timeout=PATIENT) == 1
        assert "[bind_refused]" in process.stderr.read()
    database = open_database(Settings(data_dir=tmp_path / "lab"))
    token = make(database)
    database.dispose()
    with serving(tmp_path, host=EVERYWHERE, **tls) as (line, _):
        assert line.startswith("gymnastd serves https://0.0.0.0:")
        url = f"https://127.0.0.1:{line.rsplit(':', 1)[1]}/v1/iterations"
        known = str(pem["authority"])
        assert requests.get(url, verify=known, timeout=PATIENT).status_code == 401
        shown = {"Authorization": f"Bearer {token}"}
        assert requests.get(url, headers=shown, verify=known, timeout=PATIENT).json()["items"] == []
        with pytest.raises(requests.ConnectionError):
            requests.get(url.replace("https", "http"), timeout=PATIENT)


def test_keys_that_do_not_fit_are_told_before_anything_is_made(tmp_path, tls):
    variables = {**tls, "tls_key_file": tls["tls_cert_file"]}
    with serving(tmp_path, **variables) as (_, process):
        assert process.wait(timeout=PATIENT) == 1
        assert "[tls_unusable]" in process.stderr.read()
    assert not (tmp_path / "lab").exists()


def test_who_says_to_be_somebody_else_behind_a_proxy_is_not_believed(tmp_path):
    """The peer that waits after wrong tokens is the one that connects, whatever a header says."""
    database = open_database(Settings(data_dir=tmp_path / "lab"))
    database.upgrade()
    database.dispose()
    with serving(tmp_path) as (line, process):
        port = int(line.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENT) as connection:
            call = b"GET /v1/iterations HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n"
            connection.sendall(call + b"X-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n")
            assert connection.recv(64).startswith(b"HTTP/1.1 403")
        process.terminate()
        assert "code=web_page_refused" in (log := process.stderr.read())
    assert "peer=127.0.0.1" in log
    assert "203.0.113.9" not in log
