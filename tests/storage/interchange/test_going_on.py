"""An export that was broken off goes on: the same bytes as one that was not, and nothing is done twice."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from robot_bridge.episode import Episode
from storage import episodes, labels
from storage.interchange import exchange
from storage.interchange.bridge_raw_write import BridgeRawWriter
from storage.interchange.errors import EpisodeUnfit, ExportDiffers, NothingToExport, TargetNotEmpty
from storage.interchange.exchange import Store, Watch, send_out
from storage.interchange.lerobot_write import LeRobotWriter
from storage.interchange.query import ExportQuery
from storage.interchange.rlds_write import RldsWriter
from storage.interchange.worldgym_exchange import WorldGymWriter
from storage.interchange.writer import Counted, Writer
from tests.storage.interchange.laboratory import an_episode, filled, ids_of, keep, wanted_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=3)
COUNT = 7


@dataclass(frozen=True)
class Format:
    """A format with limits so small that its episodes fill several files."""

    name: str
    make: Callable[[Path], Writer]
    half: str  # what the file of an episode is called that a crash leaves half written


FORMATS = [
    Format(
        "lerobot",
        lambda folder: LeRobotWriter(folder, data_bytes=8_000, video_bytes=2_000),
        "_unfinished/{id}.mp4",
    ),
    Format("worldgym-clips", WorldGymWriter, "*/00000000{number}.mp4"),
    Format("bridge-raw", BridgeRawWriter, "*/*/00/*/raw/traj_group0/traj{number}/images0/im_1.jpg"),
    Format("rlds", lambda folder: RldsWriter(folder, shard_bytes=7_000), "_gymnastd/{id}.npz"),
]
every_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)


class BrokenOff(Exception):
    """Raised where a crash would be."""


def broken_off(
    form: Format, store: Store, folder: Path, *, after: int, query: ExportQuery | None = None
) -> None:
    def stop(done: int, of: int) -> None:
        if done == after:
            raise BrokenOff

    with pytest.raises(BrokenOff):
        wanted = wanted_of(store, query)
        send_out(store, wanted, folder=folder, make=form.make, now=NOON, watch=Watch(done=stop))


def go_on(form: Format, store: Store, folder: Path, *, watch: Watch | None = None) -> Counted:
    watch = watch or Watch()
    return send_out(store, wanted_of(store), folder=folder, make=form.make, now=LATER, watch=watch)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def stamps(folder: Path, ids: list[str]) -> dict[str, tuple[int, int]]:
    """When the last file of each episode was written, and which file on disk it is."""
    found = {each: (folder / f"_gymnastd/{each}.npz").stat() for each in ids}
    return {each: (status.st_mtime_ns, status.st_ino) for each, status in found.items()}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled(tmp_path_factory.mktemp("lab"), COUNT, now=NOON)


@pytest.fixture(scope="module")
def whole(lab: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What an export is that nothing happened to, by format."""
    found = {}
    for form in FORMATS:
        folder = tmp_path_factory.mktemp("whole") / "out"
        send_out(lab, wanted_of(lab), folder=folder, make=form.make, now=NOON)
        found[form.name] = files_of(folder)
    return found


@every_format
def test_wherever_it_was_broken_off_the_same_bytes_come_out_and_nothing_is_done_twice(
    form: Format, lab: Store, whole: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    for after in (0, 1, COUNT // 2, COUNT):
        folder, told = tmp_path / str(after), list[tuple[int, int]]()
        broken_off(form, lab, folder, after=after)
        there = stamps(folder, ids_of(lab)[:after])
        watch = Watch(done=lambda *counted, told=told: told.append(counted))
        assert go_on(form, lab, folder, watch=watch) == Counted(episodes=COUNT, before=after)
        assert files_of(folder) == whole[form.name]
        assert stamps(folder, list(there)) == there
        assert told == [(count, COUNT) for count in range(after, COUNT + 1)]


@every_format
def test_it_may_be_broken_off_again_and_again(
    form: Format, lab: Store, whole: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    for after in range(1, COUNT):
        broken_off(form, lab, tmp_path / "out", after=after)
    assert go_on(form, lab, tmp_path / "out").before == COUNT - 1
    assert files_of(tmp_path / "out") == whole[form.name]
    with pytest.raises(TargetNotEmpty):
        go_on(form, lab, tmp_path / "out")


@every_format
@pytest.mark.parametrize("noted", [False, True], ids=["not noted", "noted"])
def test_half_a_file_is_never_taken_for_a_whole_one(
    form: Format, lab: Store, whole: dict[str, dict[str, bytes]], tmp_path: Path, noted: bool
) -> None:
    """A crash leaves it before the episode is noted; a power cut may take what had been noted already."""
    folder = tmp_path / "out"
    broken_off(form, lab, folder, after=3)
    (path,) = folder.glob(form.half.format(number=2, id=ids_of(lab)[2]))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    if not noted:
        journal = folder / "_unfinished/done.jsonl"
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    assert go_on(form, lab, folder) == Counted(episodes=COUNT, before=2)
    assert files_of(folder) == whole[form.name]


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The system takes no byte of a file beyond this size, as a full disk would not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_record_that_a_full_disk_cut_in_two_is_cut_off_and_written_again(
    lab: Store, whole: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    form, folder = FORMATS[3], tmp_path / "out"
    broken_off(form, lab, folder, after=2)
    (shard,) = folder.glob("gymnastd-train-*.unfinished")
    before = shard.stat().st_size
    with no_file_above(before + 1000), pytest.raises(OSError, match="File too large"):
        go_on(form, lab, folder)
    assert before < shard.stat().st_size <= before + 1000
    assert go_on(form, lab, folder) == Counted(episodes=COUNT, before=2)
    assert files_of(folder) == whole["rlds"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shards_that_had_their_names_when_it_was_broken_off_are_found(
    lab: Store, whole: dict[str, dict[str, bytes]], tmp_path: Path, count: int
) -> None:
    form, folder = FORMATS[3], tmp_path / "out"
    broken_off(form, lab, folder, after=COUNT)
    shards = [name for name in sorted(whole["rlds"]) if ".tfrecord-" in name]
    assert len(shards) > 3
    for name in shards[:count]:
        split, number = name.split("-")[1].split(".")[0], name.split("-")[2]
        (folder / f"gymnastd-{split}-{number}.unfinished").rename(folder / name)
    assert go_on(form, lab, folder) == Counted(episodes=COUNT, before=COUNT)
    assert files_of(folder) == whole["rlds"]


def test_files_that_were_put_together_in_part_are_put_together_again(
    lab: Store, whole: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    form, folder = FORMATS[0], tmp_path / "out"
    broken_off(form, lab, folder, after=COUNT)
    made = [name for name in whole["lerobot"] if name.startswith(("data/", "videos/", "meta/"))]
    assert len(made) > 6
    for name in made:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(whole["lerobot"][name][:-20])
    told: list[tuple[int, int]] = []
    watch = Watch(together=lambda *counted: told.append(counted))
    assert go_on(form, lab, folder, watch=watch).before == COUNT
    assert told == [(count, COUNT) for count in range(1, COUNT + 1)]
    assert files_of(folder) == whole["lerobot"]


def test_an_export_that_was_sealed_and_not_tidied_is_finished(
    lab: Store, whole: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    form, folder = FORMATS[2], tmp_path / "out"
    broken_off(form, lab, folder, after=COUNT)
    (folder / "manifest.json").write_bytes(whole["bridge-raw"]["manifest.json"])
    assert go_on(form, lab, folder) == Counted(episodes=COUNT, before=COUNT)
    assert files_of(folder) == whole["bridge-raw"]


# ---- the store goes on living meanwhile


@pytest.fixture
def living(tmp_path: Path) -> Store:
    return filled(tmp_path / "lab", 4, now=NOON)


def say(store: Store, episode_id: str, *, success: bool) -> None:
    with store.database.write() as session:
        verdict = labels.Verdict(success=success, source="human", at=LATER, judge="bob")
        labels.append(session, episode_id, verdict, now=LATER)


def another(store: Store, number: int) -> Episode:
    episode = an_episode(number)
    keep(store, episode, number=number, now=LATER)
    return episode


def test_episodes_that_came_since_are_counted_and_left_out(living: Store, tmp_path: Path) -> None:
    form, folder = FORMATS[2], tmp_path / "out"
    broken_off(form, living, folder, after=2)
    another(living, 8)
    assert go_on(form, living, folder) == Counted(episodes=4, before=2, later=1)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest["places"].values()) == ids_of(living)[:4]
    assert manifest["exported_at"] == NOON.isoformat()


@pytest.mark.parametrize("number", [0, 3], ids=["done", "not done"])
def test_what_was_said_of_an_episode_since_is_left_out(living: Store, tmp_path: Path, number: int) -> None:
    """As it is within one run."""
    form, folder = FORMATS[2], tmp_path / "out"
    send_out(living, wanted_of(living), folder=tmp_path / "calm", make=form.make, now=NOON)
    broken_off(form, living, folder, after=2)
    say(living, ids_of(living)[number], success=False)
    assert go_on(form, living, folder) == Counted(episodes=4, before=2)
    assert files_of(folder) == files_of(tmp_path / "calm")


@pytest.mark.parametrize("others", [True, False], ids=["others do", "none does"])
def test_an_episode_that_no_longer_answers_since_it_was_judged_stays_in_what_was_begun(
    living: Store, tmp_path: Path, others: bool
) -> None:
    form, folder, query = FORMATS[2], tmp_path / "out", ExportQuery(success="yes")
    for episode_id in ids_of(living)[:2]:
        say(living, episode_id, success=True)
    wanted = wanted_of(living, query)
    assert len(wanted.episodes) == 2
    send_out(living, wanted, folder=tmp_path / "calm", make=form.make, now=NOON)
    broken_off(form, living, folder, after=1, query=query)
    for standing in wanted.episodes[others:]:
        say(living, standing.episode_id, success=False)
    left = wanted_of(living, query)
    assert left.episodes == wanted.episodes[:others]
    send_out(living, left, folder=folder, make=form.make, now=LATER)
    assert files_of(folder) == files_of(tmp_path / "calm")


def test_where_nothing_is_wanted_and_nothing_begun_no_folder_is_made(living: Store, tmp_path: Path) -> None:
    wanted = wanted_of(living, ExportQuery(tasks=("fly",), success="yes"))
    with pytest.raises(NothingToExport, match="the query task=fly success=yes"):
        send_out(living, wanted, folder=tmp_path / "out", make=FORMATS[2].make, now=NOON)
    assert not (tmp_path / "out").exists()


def test_the_verdicts_that_leave_are_those_that_were_there_not_as_many(living: Store, tmp_path: Path) -> None:
    """Ids of labels need not become visible in their order, where several write at a time."""
    judged = ids_of(living)[1]
    for success in (False, True):
        say(living, judged, success=success)
    wanted = wanted_of(living)
    _, *known = wanted.episodes[1].verdicts
    assert len(known) == 2
    standing = replace(wanted.episodes[1], verdicts=tuple(known))
    wanted = replace(wanted, episodes=(standing,))
    send_out(living, wanted, folder=tmp_path / "out", make=FORMATS[2].make, now=NOON)
    told = json.loads((tmp_path / f"out/_gymnastd/{judged}.json").read_text())["labels"]
    assert [(each["judge"], each["success"]) for each in told] == [("bob", False), ("bob", True)]


def test_an_episode_that_is_held_out_since_is_refused_by_its_name(living: Store, tmp_path: Path) -> None:
    form, folder = FORMATS[2], tmp_path / "out"
    broken_off(form, living, folder, after=2)
    before, moved = files_of(folder), ids_of(living)[1]
    with living.database.write() as session:
        episodes.get(session, moved).held_out = True
    with pytest.raises(ExportDiffers, match=f"episode {moved}: held_out was False, is True"):
        go_on(form, living, folder)
    assert files_of(folder) == before


def test_notes_of_another_release_are_another_export(
    living: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, folder = FORMATS[2], tmp_path / "out"
    broken_off(form, living, folder, after=2)
    monkeypatch.setattr(exchange, "SCHEMA", "gymnastd-episode/2")
    with pytest.raises(ExportDiffers, match="option _gymnastd was gymnastd-episode/1, is gymnastd-episode/2"):
        go_on(form, living, folder)


def test_nothing_of_an_earlier_attempt_stays_in_the_folder_of_an_episode(
    lab: Store, whole: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    form, folder = FORMATS[2], tmp_path / "out"
    broken_off(form, lab, folder, after=3)
    (picture,) = folder.glob(form.half.format(number=2))
    picture.with_name("im_99.jpg").write_bytes(b"of an episode that was longer")
    assert go_on(form, lab, folder) == Counted(episodes=COUNT, before=2)
    assert files_of(folder) == whole["bridge-raw"]


def test_an_episode_that_was_withdrawn_since_is_refused_by_its_name(living: Store, tmp_path: Path) -> None:
    form, folder = FORMATS[2], tmp_path / "out"
    broken_off(form, living, folder, after=2)
    gone = ids_of(living)[1]
    with living.database.write() as session:
        episodes.get(session, gone).retired_at = LATER
    with pytest.raises(ExportDiffers, match=f"episode {gone} was withdrawn"):
        go_on(form, living, folder)


def test_another_query_other_options_and_another_format_are_refused_by_name(
    living: Store, tmp_path: Path
) -> None:
    lerobot, clips, _, rlds = FORMATS
    for form, other, told in (
        (lerobot, Format("", LeRobotWriter, ""), "option data_bytes was 8000"),
        (rlds, clips, "the format was rlds, is worldgym-clips"),
    ):
        folder = tmp_path / form.name
        broken_off(form, living, folder, after=1)
        with pytest.raises(ExportDiffers, match=told):
            go_on(other, living, folder)
    folder = tmp_path / "narrow"
    broken_off(rlds, living, folder, after=1, query=ExportQuery(held_out=False, tasks=("close_drawer",)))
    with pytest.raises(ExportDiffers, match=r"query was task=close_drawer held_out=no, is \(all\)"):
        go_on(rlds, living, folder)


def test_what_is_said_of_an_episode_while_it_waits_for_its_turn_does_not_change_the_export(
    living: Store, tmp_path: Path
) -> None:
    """It leaves as it stood at the beginning; nothing is refused in the middle of the night."""
    form, waiting = FORMATS[2], ids_of(living)[3]
    (tmp_path / "calm").mkdir()
    send_out(living, wanted_of(living), folder=tmp_path / "calm", make=form.make, now=NOON)

    def judge(done: int, of: int) -> None:
        if done == 2:
            say(living, waiting, success=True)

    send_out(
        living, wanted_of(living), folder=tmp_path / "out", make=form.make, now=NOON, watch=Watch(done=judge)
    )
    assert files_of(tmp_path / "out") == files_of(tmp_path / "calm")


def test_an_episode_that_does_not_fit_is_met_again_and_those_before_it_are_kept(
    living: Store, tmp_path: Path
) -> None:
    form, folder = FORMATS[1], tmp_path / "out"
    keep(living, an_episode(8, width=33), number=8, now=LATER)
    for _ in range(2):
        with pytest.raises(EpisodeUnfit, match="33x32"):
            go_on(form, living, folder)
    assert len((folder / "_unfinished/done.jsonl").read_text().splitlines()) == 4
