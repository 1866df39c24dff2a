from pathlib import Path

import pytest

from daemon.errors import SettingInvalid, SettingUnknown
from daemon.settings import Settings, load_settings
from robot_bridge.addresses import is_loopback


def test_the_defaults_stay_on_this_machine():
    settings = load_settings()
    assert settings.host == "127.0.0.1"
    assert settings.database_url is None
    assert settings.worker_count == 1


def test_the_environment_sets_a_value(monkeypatch, tmp_path):
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("GYMNASTD_WORKER_COUNT", "3")
    settings = load_settings()
    assert settings.data_dir == Path(tmp_path)
    assert settings.worker_count == 3


def test_a_keyword_wins_over_the_environment_and_none_does_not(monkeypatch):
    monkeypatch.setenv("GYMNASTD_PORT", "9001")
    assert load_settings(port=9002).port == 9002
    assert load_settings(port=None).port == 9001


@pytest.mark.parametrize("name", ["GYMNASTD_WORKERS", "GYMNASTD_DATADIR", "gymnastd_typo"])
def test_a_misspelt_setting_is_an_error_that_lists_the_right_names(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingUnknown) as refused:
        load_settings()
    assert refused.value.code == "setting_unknown"
    assert name in str(refused.value)
    assert "GYMNASTD_WORKER_COUNT" in str(refused.value)


def test_a_misspelt_setting_is_an_error_for_direct_construction_too(monkeypatch, tmp_path):
    monkeypatch.setenv("GYMNASTD_WORKERS", "1")
    with pytest.raises(SettingUnknown):
        Settings(data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("port", "eighty"),
        ("worker_count", "-1"),
        ("rate_limit_per_s", "0"),
        ("lease_ttl_s", "0"),
        ("lease_ttl_s", "nan"),
        ("poll_s", "inf"),
        ("station_url", "127.0.0.1:8410"),
        ("station_url", "ftp://127.0.0.1"),
        ("station_url", "http://"),
        ("station_url", "http://me:secret@127.0.0.1:8410"),
        ("station_url", "http://127.0.0.1:8401,http://127.0.0.1:8401"),
        ("station_url", "http://127.0.0.1:8401,"),
        ("collect_via", "telepathy"),
        ("policy_bind", "8402"),
        ("policy_bind", "127.0.0.1:policy"),
        ("policy_bind", "127.0.0.1:70000"),
        ("policy_public_url", "tunnel.example"),
        ("device_hours_per_day", "0"),
        ("device_hours_per_iteration", "inf"),
        ("upkeep_at", "3 am"),
        ("upkeep_at", "24:00"),
        ("backups_kept", "0"),
        ("iterations_kept", "0"),
        ("episode_days_kept", "-1"),
        ("log_level", "LOUD"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(monkeypatch, name, value):
    monkeypatch.setenv(f"GYMNASTD_{name.upper()}", value)
    with pytest.raises(SettingInvalid) as refused:
        load_settings()
    assert refused.value.code == "setting_invalid"
    assert list(refused.value.faults) == [name]


def test_a_keyword_that_is_no_setting_is_refused():
    with pytest.raises(SettingInvalid, match="colour"):
        load_settings(colour="red")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "robot.example"])  # noqa: S104 - that is the point
def test_an_address_others_can_reach_needs_to_be_meant(host):
    with pytest.raises(SettingInvalid, match="not loopback"):
        load_settings(host=host)
    assert load_settings(host=host, trust_network=True).host == host
    assert load_settings(host=host, tls_cert_file="c.pem", tls_key_file="k.pem").host == host


@pytest.mark.parametrize("name", ["tls_cert_file", "tls_key_file"])
def test_half_of_tls_is_none(name):
    with pytest.raises(SettingInvalid, match="belong together"):
        load_settings(**{name: "x.pem"})


@pytest.mark.parametrize(
    ("host", "answer"), [("127.0.0.9", True), ("::1", True), ("localhost", True), ("8.8.8.8", False)]
)
def test_loopback_is_recognised(host, answer):
    assert is_loopback(host) is answer


def test_a_trailing_slash_of_the_station_does_not_matter():
    assert load_settings(station_url="http://127.0.0.1:9/").station_url == "http://127.0.0.1:9"


def test_several_stations_are_named_in_one_setting():
    settings = load_settings(station_url="http://127.0.0.1:9/, https://robot.example:8401")
    assert settings.stations == ("http://127.0.0.1:9", "https://robot.example:8401")


def test_one_station_is_a_list_of_one():
    assert load_settings().stations == ("http://127.0.0.1:8401",)


def test_autoeval_needs_the_address_of_its_scheduler():
    with pytest.raises(SettingInvalid, match="GYMNASTD_AUTOEVAL_URL"):
        load_settings(collect_via="autoeval")
    assert load_settings(collect_via="autoeval", autoeval_url="http://host:8080").autoeval_rotation == "raw"


def test_boxes_of_other_cells_are_read_and_checked(monkeypatch):
    monkeypatch.setenv("GYMNASTD_AUTOEVAL_BOXES", '{"open_drawer": [[0.1, -0.2, 0.0], [0.4, 0.1, 0.2]]}')
    assert load_settings().autoeval_boxes["open_drawer"][1] == (0.4, 0.1, 0.2)
    monkeypatch.setenv("GYMNASTD_AUTOEVAL_BOXES", '{"open_drawer": [[0.1, 0.2, 0.0], [0.4, 0.1, 0.2]]}')
    with pytest.raises(SettingInvalid, match="lowest corner of open_drawer"):
        load_settings()
    monkeypatch.setenv("GYMNASTD_AUTOEVAL_BOXES", "open_drawer")
    with pytest.raises(SettingInvalid, match="autoeval_boxes"):
        load_settings()
