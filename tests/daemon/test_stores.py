from datetime import timedelta

import pytest

from daemon.errors import SettingInvalid
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database, utc_now


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
