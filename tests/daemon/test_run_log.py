"""The log of a phase run: all of it while the run goes, bounded, without secrets, read from its end."""

import logging
from pathlib import Path

import pytest

from daemon.run_log import READ_BYTES, log_path, phase_log, read_tail
from daemon.settings import Settings

log = logging.getLogger("daemon.phases.test")


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "key").write_text("sk-very-secret\n")
    return Settings(data_dir=tmp_path, judge_key_file=tmp_path / "key")


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog):
    caplog.set_level("INFO")


def test_what_is_said_while_a_run_goes_is_in_its_file_and_nothing_else(settings, tmp_path):
    log.info("before")
    with phase_log(settings, "run-1") as path:
        log.info("episode committed episode=%s", "e-1")
    log.info("after")
    assert path == log_path(tmp_path, "run-1") == tmp_path / "runs" / "run-1" / "log.txt"
    (line,) = path.read_text().splitlines()
    assert line.endswith("Z INFO daemon.phases.test episode committed episode=e-1")


def test_a_run_that_is_taken_up_again_is_written_on(settings):
    for turn in range(2):
        with phase_log(settings, "run-1") as path:
            log.info("turn %d", turn)
    assert len(path.read_text().splitlines()) == 2


def test_no_secret_is_in_the_file(settings):
    with phase_log(settings, "run-1") as path:
        log.info("asked with key sk-very-secret and Authorization: Bearer sk-other-secret")
    assert "secret" not in path.read_text()


def test_the_file_is_bounded_and_its_end_is_there(settings):
    with phase_log(settings, "run-1", half_bytes=4000) as path:
        for turn in range(500):
            log.info("line %d of many", turn)
    assert sum(part.stat().st_size for part in path.parent.iterdir()) <= 8000
    assert [line.split()[-3] for line in read_tail(path, 3).splitlines()] == ["497", "498", "499"]


def test_the_end_is_read_over_the_turn_from_one_file_to_the_next(settings):
    with phase_log(settings, "run-1", half_bytes=1000) as path:
        for turn in range(30):
            log.info("line %d of many", turn)
    here = len(path.read_text().splitlines())
    assert 0 < here < 27
    lines = read_tail(path, here + 3).splitlines()
    assert [int(line.split()[-3]) for line in lines] == list(range(30 - here - 3, 30))


def test_a_run_without_a_log_here_has_none(tmp_path):
    assert read_tail(log_path(tmp_path, "elsewhere"), 10) is None


def test_only_the_end_of_a_huge_file_is_read_and_from_the_beginning_of_a_line(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("x" * 99 + "\n" + ("y" * 99 + "\n") * (READ_BYTES // 100 + 5))
    lines = read_tail(path, 10**6).splitlines()
    assert len(lines) < READ_BYTES // 100 + 5
    assert set(map(len, lines)) == {99}


def test_bytes_that_are_no_text_break_nothing(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes(b"good\n\xff\xfe\n")
    assert read_tail(path, 5).splitlines()[0] == "good"


def test_a_folder_that_cannot_be_made_ends_no_phase(settings, tmp_path):
    (tmp_path / "runs").write_text("in the way")
    with phase_log(settings, "run-1") as path:
        log.info("the phase goes on")
    assert not Path(path).exists()
