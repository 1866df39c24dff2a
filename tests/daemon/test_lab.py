"""The servers of a lab on one machine: what they are told by the environment."""

from daemon.lab import inherited


def test_a_labs_servers_take_over_how_many_threads_they_may_have_and_no_other_setting():
    told = {
        "GYMNASTD_THREADS_PER_WORKER": "1",
        "GYMNASTD_DATA_DIR": "/another/lab",
        "GYMNASTD_STATION_URL": "http://a-real-arm",
        "PATH": "/bin",
    }
    assert inherited(told) == {"GYMNASTD_THREADS_PER_WORKER": "1", "PATH": "/bin"}
