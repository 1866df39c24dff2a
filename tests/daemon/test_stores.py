from datetime import timedelta

import pytest

from daemon.errors import ClockSkewed, SettingInvalid
from daemon.settings import Settings
from daemon.stores import clock_ahead_s, open_blobs, open_database, require_same_clock, utc_now
from storage.db import Database


def test_without_a_url_the_database_is_a_file_of_the_data_directory(tmp_path):
    database = open_database(Settings(data_dir=tmp_path / "lab"))
    database.upgrade()
    database.dispose()
    assert list((tmp_path / "lab").glob("*.sqlite3"))


def test_a_url_wins(tmp_path, sqlite_url):
    database = open_database(Settings(data_dir=tmp_path / "lab", database_url=sqlite_url))
    assert str(database.url) == sqlite_url
    assert not (tmp_path / "lab").exists()


def test_a_password_comes_from_a_file_and_is_shown_nowhere(tmp_path):
    file = tmp_path / "password"
    file.write_text("p@ss/wörd\n")
    url = "postgresql+psycopg://lab@db.example.org:5432/gymnastd"
    database = open_database(Settings(data_dir=tmp_path, database_url=url, database_password_file=file))
    assert database.url.password == file.read_text().strip()
    assert (database.url.username, database.url.host, database.url.port) == ("lab", "db.example.org", 5432)
    assert "wörd" not in str(database.url)
    database.dispose()


def test_a_password_file_without_a_url_is_not_asked(tmp_path):
    settings = Settings(data_dir=tmp_path / "lab", database_password_file=tmp_path / "nowhere")
    open_database(settings).dispose()


@pytest.mark.parametrize(
    ("url", "content"),
    [
        ("postgresql+psycopg://lab@db/x", None),
        ("postgresql+psycopg://lab:other@db/x", "p"),
        ("postgresql+psycopg://db/x", "p"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_refused(tmp_path, url, content):
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingInvalid, match="database_"):
        open_database(Settings(data_dir=tmp_path, database_url=url, database_password_file=file))


def test_every_process_finds_the_same_blobs(tmp_path):
    settings = Settings(data_dir=tmp_path)
    digest = open_blobs(settings).put(b"weights")
    assert open_blobs(settings).read(digest) == b"weights"


def test_the_clock_is_in_utc():
    assert utc_now().utcoffset() == timedelta(0)


def off_by(seconds):
    return lambda: utc_now() + timedelta(seconds=seconds)


@pytest.fixture
def shared(postgres_url):
    database = open_database(Settings(database_url=postgres_url))
    yield database
    database.dispose()


@pytest.mark.parametrize("seconds", [-3600.0, -10.0, 10.0, 3600.0])
def test_how_far_our_clock_is_from_the_databases_is_told(shared, seconds):
    assert clock_ahead_s(shared, now=off_by(seconds)) == pytest.approx(seconds, abs=0.5)


def test_the_same_clock_is_not_ahead_however_long_the_question_takes(shared):
    for _ in range(20):
        assert clock_ahead_s(shared) == 0.0
    readings = iter((utc_now() - timedelta(seconds=5), utc_now() + timedelta(seconds=5)))
    assert clock_ahead_s(shared, now=lambda: next(readings)) == 0.0


@pytest.mark.parametrize(
    ("seconds", "refused"),
    [(0.0, None), (2.0, None), (-2.0, None), (7.0, "ahead of"), (-7.0, "behind")],
)
def test_a_clock_that_is_off_by_more_than_a_quarter_of_a_lease_is_refused(shared, seconds, refused):
    settings = Settings(lease_ttl_s=16.0)
    if refused is None:
        require_same_clock(shared, settings, now=off_by(seconds))
        return
    with pytest.raises(ClockSkewed, match=rf"7\.0 s {refused} the database's; expected at most 4 s"):
        require_same_clock(shared, settings, now=off_by(seconds))


def test_a_file_of_this_machine_keeps_its_time(sqlite_database):
    require_same_clock(sqlite_database, Settings(lease_ttl_s=1.0), now=off_by(3600.0))


def test_a_database_that_is_away_is_no_wrong_clock():
    away = Database("postgresql://127.0.0.1:1/gymnastd?connect_timeout=2")
    require_same_clock(away, Settings(), now=off_by(3600.0))
