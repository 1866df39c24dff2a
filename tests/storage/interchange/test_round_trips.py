"""Fifty episodes, and the ten real clips, through every format and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

import storage
from storage.interchange import video
from storage.interchange.bridge_raw_read import find_bridge_raw
from storage.interchange.bridge_raw_write import BridgeRawWriter
from storage.interchange.errors import DatasetChanged, DatasetUnsealed
from storage.interchange.exchange import Intake, Store, Watch, bring_in, send_out
from storage.interchange.lerobot_read import find_lerobot
from storage.interchange.lerobot_write import LeRobotWriter
from storage.interchange.record import Found
from storage.interchange.rlds_read import find_rlds
from storage.interchange.rlds_write import RldsWriter
from storage.interchange.seal import Seal, unseal
from storage.interchange.worldgym_clips import import_folder
from storage.interchange.worldgym_exchange import WorldGymWriter, find_worldgym
from storage.interchange.writer import Counted, Writer
from tests.storage.interchange.laboratory import (
    a_store,
    assert_same_but_for_pictures,
    filled,
    ids_of,
    picture_error,
    records_of,
    wanted_of,
)

REAL = Path(storage.__file__).parents[2] / "shared" / "data" / "bridge_v2_sample"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FEW = 6


@dataclass(frozen=True)
class Format:
    """One format; `exact` is whether pictures stay the bytes that they were."""

    name: str
    make: Callable[[Path], Writer]
    find: Callable[[Path, Seal], Iterator[Found]]
    exact: bool


FORMATS = [
    Format("lerobot", LeRobotWriter, find_lerobot, exact=False),
    Format("worldgym-clips", WorldGymWriter, find_worldgym, exact=False),
    Format("bridge-raw", BridgeRawWriter, find_bridge_raw, exact=True),
    Format("rlds", RldsWriter, find_rlds, exact=True),
]
every_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)


def export(form: Format, store: Store, folder: Path) -> Path:
    counted = send_out(store, wanted_of(store), folder=folder, make=form.make, now=NOON)
    assert counted == Counted(episodes=len(ids_of(store)))
    return folder


def take_in(form: Format, store: Store, folder: Path) -> Intake:
    seal = unseal(folder, expected=form.name)
    assert seal is not None
    return bring_in(store, form.find(folder, seal), folder=folder, now=NOON)


def assert_same(form: Format, store: Store, other: Store) -> None:
    before, after = records_of(store), records_of(other)
    assert after.keys() == before.keys()
    for each, record in before.items():
        assert_same_but_for_pictures(record, after[each])
        if form.exact:
            assert after[each].episode.digest == record.episode.digest
        else:
            assert picture_error(record, after[each]) < video.LEVELS


@pytest.fixture(scope="module")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled(tmp_path_factory.mktemp("fifty"), 50, now=NOON)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled(tmp_path_factory.mktemp("few"), FEW, now=NOON)


@pytest.mark.slow
@every_format
def test_fifty_episodes_come_back(form: Format, fifty: Store, tmp_path: Path) -> None:
    folder, other = export(form, fifty, tmp_path / "out"), a_store(tmp_path / "other")
    assert take_in(form, other, folder).added == 50
    assert_same(form, fifty, other)
    assert take_in(form, other, folder).added == 0


@every_format
def test_what_came_back_goes_out_again_and_comes_back(form: Format, few: Store, tmp_path: Path) -> None:
    """Through a lossy codec twice; what is exact stays so."""
    second, third = a_store(tmp_path / "second"), a_store(tmp_path / "third")
    take_in(form, second, export(form, few, tmp_path / "out"))
    assert take_in(form, third, export(form, second, tmp_path / "again")).added == FEW
    for each, record in records_of(few).items():
        assert_same_but_for_pictures(record, records_of(third)[each])


@every_format
def test_the_store_an_export_came_from_learns_nothing_new(form: Format, few: Store, tmp_path: Path) -> None:
    folder = export(form, few, tmp_path / "out")
    assert take_in(form, few, folder) == Intake(
        episodes=FEW, frames=sum(r.episode.manifest.T + 1 for r in records_of(few).values()), added=0
    )


@every_format
def test_an_import_that_was_broken_off_goes_on_where_it_was(form: Format, few: Store, tmp_path: Path) -> None:
    folder, other = export(form, few, tmp_path / "out"), a_store(tmp_path / "other")
    seal = unseal(folder, expected=form.name)
    assert seal is not None
    found = form.find(folder, seal)
    bring_in(other, [next(found), next(found)], folder=folder, now=NOON)
    assert len(ids_of(other)) == 2
    assert take_in(form, other, folder).added == FEW - 2
    assert_same(form, few, other)


@every_format
def test_every_file_that_is_changed_or_missing_is_found(form: Format, few: Store, tmp_path: Path) -> None:
    folder = export(form, few, tmp_path / "out")
    files = json.loads((folder / "manifest.json").read_text())["files"]
    for name in files:
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DatasetChanged):
            unseal(folder, expected=form.name)
        path.write_bytes(content)
    assert unseal(folder, expected=form.name) is not None


@every_format
def test_an_export_that_stops_half_way_is_never_mistaken_for_a_whole_one(
    form: Format, few: Store, tmp_path: Path
) -> None:
    def stop(done: int, of: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch = Watch(done=stop)
        send_out(few, wanted_of(few), folder=tmp_path / "out", make=form.make, now=NOON, watch=watch)
    with pytest.raises(DatasetUnsealed):
        unseal(tmp_path / "out", expected=form.name)


@every_format
def test_equal_episodes_make_equal_notes_and_declare_their_conventions(
    form: Format, few: Store, tmp_path: Path
) -> None:
    manifest = json.loads((export(form, few, tmp_path / "out") / "manifest.json").read_text())
    assert manifest["format"] == form.name
    assert manifest["conventions"]["name"] == "bridge_v2"
    assert {"action", "frames"} <= set(manifest["notes"])
    assert manifest["episodes"] == FEW
    assert sorted(manifest["places"].values()) == sorted(ids_of(few))


@pytest.mark.skipif(not REAL.is_dir(), reason="the ten BridgeData V2 clips are not beside the repository")
@pytest.mark.slow
@every_format
def test_the_ten_real_clips_come_back(form: Format, tmp_path: Path) -> None:
    store, other = a_store(tmp_path / "lab"), a_store(tmp_path / "other")
    import_folder(store.database, store.blobs, REAL, now=NOON)
    assert take_in(form, other, export(form, store, tmp_path / "out")).added == 10
    assert_same(form, store, other)
