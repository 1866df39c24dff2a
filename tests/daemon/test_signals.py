import os
import signal

import pytest

from daemon.signals import interrupted_by


def test_the_signal_unwinds_the_block_and_ends_there():
    unwound = []
    with interrupted_by(signal.SIGTERM):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            unwound.append("not interrupted")
        finally:
            unwound.append("taken down")
    assert unwound == ["taken down"]


def test_ctrl_c_is_an_end_that_was_asked_for_too():
    with interrupted_by(signal.SIGTERM):
        raise KeyboardInterrupt


def test_another_error_goes_on_its_way():
    with pytest.raises(ZeroDivisionError), interrupted_by(signal.SIGTERM):
        raise ZeroDivisionError


def test_afterwards_the_signal_means_what_it_meant_before():
    before = signal.getsignal(signal.SIGTERM)
    with interrupted_by(signal.SIGTERM):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
