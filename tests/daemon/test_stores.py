from datetime import timedelta

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


def test_every_process_finds_the_same_blobs(tmp_path):
    settings = Settings(data_dir=tmp_path)
    digest = open_blobs(settings).put(b"weights")
    assert open_blobs(settings).read(digest) == b"weights"


def test_the_clock_is_in_utc():
    assert utc_now().utcoffset() == timedelta(0)
