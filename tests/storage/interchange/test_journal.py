"""The journal of an export: what it takes, what it refuses by name, and which lines of it are believed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from storage.interchange.errors import ExportBusy, ExportDiffers, TargetNotEmpty
from storage.interchange.journal import Journal, digest_of, opened
from storage.interchange.plan import Plan
from storage.interchange.query import Standing, Wanted
from storage.interchange.writer import Part, Written

FOUR = tuple(f"e-{number}" for number in range(4))


def a_standing(episode_id: str, **changes: Any) -> Standing:
    return replace(
        Standing(episode_id=episode_id, digest="ab" * 32, held_out=False, verdicts=(4, 7)), **changes
    )


@pytest.fixture
def plan(now: datetime) -> Plan:
    wanted = Wanted(query="task=open_drawer", episodes=tuple(a_standing(each) for each in FOUR))
    return Plan(format="rlds", version=1, options={"shard_bytes": 9}, wanted=wanted, began_at=now)


def with_episodes(plan: Plan, *episodes: Standing) -> Plan:
    return replace(plan, wanted=replace(plan.wanted, episodes=episodes))


def settled(journal: Journal, plan: Plan) -> Plan:
    """The plan to follow, where what is wanted now is all there is."""
    return journal.settle(plan, standing=lambda: plan.wanted.episodes)


def put_down(folder: Path, episode_id: str) -> Written:
    """An episode in a file and a folder of its own, and in a few bytes of a file of all."""
    (folder / episode_id).mkdir(exist_ok=True)
    (folder / episode_id / "im_0.jpg").write_bytes(b"picture of " + episode_id.encode())
    (folder / f"{episode_id}.npz").write_bytes(b"rows of " + episode_id.encode())
    with (folder / "shard").open("ab") as file:
        begin = file.tell()
        file.write(episode_id.encode())
        parts = (
            Part(name=episode_id),
            Part(name=f"{episode_id}.npz"),
            Part(name="shard", begin=begin, end=file.tell()),
        )
    return Written(episode_id=episode_id, place=episode_id, parts=parts, facts={"size": [32, 32]})


@pytest.fixture
def begun(tmp_path: Path, plan: Plan) -> tuple[Path, list[Written]]:
    """An export of which three of four episodes are down."""
    folder = tmp_path / "out"
    with opened(folder) as journal:
        settled(journal, plan)
        written = [put_down(folder, each) for each in FOUR[:3]]
        for each in written:
            journal.note(each)
    return folder, written


def believed(folder: Path, plan: Plan) -> list[Written]:
    with opened(folder) as journal:
        return journal.done(settled(journal, plan), checked=lambda count, of: None)


def test_what_was_noted_is_known_again_with_every_part(begun: tuple[Path, list[Written]], plan: Plan) -> None:
    told: list[tuple[int, int]] = []
    with opened(begun[0]) as journal:
        assert journal.done(plan, checked=lambda count, of: told.append((count, of))) == begun[1]
    assert told == [(1, 3), (2, 3), (3, 3)]


def change_last_byte(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


def say_otherwise(folder: Path, old: bytes, new: bytes) -> None:
    path = folder / "_unfinished/done.jsonl"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


Spoil = Callable[[Path], object]


@pytest.mark.parametrize(
    ("spoil", "left"),
    [
        (lambda folder: change_last_byte(folder / "e-2.npz"), 2),
        (lambda folder: cut_off(folder / "e-1.npz"), 1),  # of two that follow none is believed either
        (lambda folder: (folder / "e-0.npz").unlink(), 0),
        (lambda folder: (folder / "e-1/im_0.jpg").unlink(), 1),
        (lambda folder: (folder / "e-1/im_1.jpg").write_bytes(b"more"), 1),
        (lambda folder: cut_off(folder / "shard"), 2),
        (lambda folder: append(folder / "shard", b"half an epis"), 3),  # will be cut off
        (lambda folder: cut_off(folder / "_unfinished/done.jsonl"), 2),
        (lambda folder: append(folder / "_unfinished/done.jsonl", b'{"episode_id": "e-'), 3),
        (lambda folder: append(folder / "_unfinished/done.jsonl", bytes(4096) + b"\n"), 3),
        (lambda folder: append(folder / "_unfinished/done.jsonl", b"[]\n"), 3),
        (lambda folder: say_otherwise(folder, b'"place": "e-1"', b'"place": "e-7"'), 1),
        (lambda folder: say_otherwise(folder, b'"size": [32, 32]', b'"size": [32, 34]'), 0),
        (lambda folder: say_otherwise(folder, b'"end": 6', b'"end": 5'), 1),
        (lambda folder: (folder / "_unfinished/done.jsonl").unlink(), 0),
    ],
)
def test_only_whole_episodes_in_whole_lines_are_believed_and_none_after_one_that_is_not(
    begun: tuple[Path, list[Written]], plan: Plan, spoil: Spoil, left: int
) -> None:
    folder, written = begun
    spoil(folder)
    assert believed(folder, plan) == written[:left]
    again = [put_down(folder, each) for each in FOUR[left:]]
    with opened(folder) as journal:
        for each in again:
            journal.note(each)
    assert believed(folder, plan) == [*written[:left], *again]


def test_a_line_for_another_episode_than_the_plans_is_not_believed(
    begun: tuple[Path, list[Written]], plan: Plan
) -> None:
    with opened(begun[0]) as journal:
        other = with_episodes(plan, a_standing("e-0"), a_standing("e-2"))
        assert [each.episode_id for each in journal.done(other, checked=lambda count, of: None)] == ["e-0"]


def test_a_digest_knows_names_sizes_and_where_one_file_ends(tmp_path: Path) -> None:
    def digest(**files: bytes) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return digest_of(folder, tuple(Part(name=name) for name in files))

    assert digest(a=b"12", b=b"3") == digest(a=b"12", b=b"3")
    assert (
        len({digest(a=b"12", b=b"3"), digest(a=b"1", b=b"23"), digest(a=b"12", c=b"3"), digest(a=b"123")})
        == 4
    )


@pytest.mark.parametrize("name", ["e-1", "e-1.npz"])
def test_a_part_that_lies_elsewhere_is_none_whatever_is_in_it(
    begun: tuple[Path, list[Written]], plan: Plan, name: str
) -> None:
    folder, elsewhere = begun[0], begun[0].with_name("elsewhere")
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    assert believed(folder, plan) == begun[1][:1]


def test_a_part_that_is_named_out_of_the_folder_is_none(
    begun: tuple[Path, list[Written]], plan: Plan
) -> None:
    folder = begun[0]
    (folder.parent / "elsewhere").write_bytes(b"rows")
    with opened(folder) as journal:
        journal.done(replace(plan, wanted=replace(plan.wanted, episodes=())), checked=lambda count, of: None)
        written = replace(begun[1][0], parts=(Part(name="../elsewhere"),))
        journal.note(written)
        assert journal.done(plan, checked=lambda count, of: None) == []


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("call", ["open", "scandir"])
def test_a_disk_that_does_not_answer_is_no_reason_to_forget_an_episode(
    begun: tuple[Path, list[Written]], plan: Plan, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    """Hours of encoding would be thrown away for a share that was gone for a second."""
    folder = begun[0]
    before = (folder / "_unfinished/done.jsonl").read_bytes()
    if call == "open":
        monkeypatch.setattr(Path, "open", failing(Path.open, folder / "e-1.npz", code))
    else:
        monkeypatch.setattr(os, "scandir", failing(os.scandir, folder / "e-1", code))
    with pytest.raises(OSError, match=os.strerror(code)):
        believed(folder, plan)
    monkeypatch.undo()
    assert (folder / "_unfinished/done.jsonl").read_bytes() == before
    assert believed(folder, plan) == begun[1]


def failing(real: Callable[..., Any], path: Path, code: int) -> Callable[..., Any]:
    """As `real`, but for one path."""

    def call(which: Any, *args: Any, **named: Any) -> Any:
        if Path(which) == path:
            raise OSError(code, os.strerror(code))
        return real(which, *args, **named)

    return call


# ---- which plan is followed


def test_the_plan_that_was_begun_is_followed_and_later_episodes_are_none_of_it(
    begun: tuple[Path, list[Written]], plan: Plan, now: datetime
) -> None:
    grown = replace(
        with_episodes(plan, *plan.wanted.episodes, a_standing("e-9")), began_at=now + timedelta(hours=1)
    )
    with opened(begun[0]) as journal:
        assert settled(journal, grown) == plan
    assert plan.wanted.missing_of(grown.wanted) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "lerobot"}, "the format was rlds, is lerobot"),
        ({"version": 2}, "the version of its layout was 1, is 2"),
        ({"options": {"shard_bytes": 10}}, "the option shard_bytes was 9, is 10"),
        ({"options": {}}, "the option shard_bytes was 9, is None"),
        (
            {"wanted": Wanted(query="", episodes=tuple(a_standing(each) for each in FOUR))},
            r"the query was task=open_drawer, is \(all\)",
        ),
    ],
)
def test_another_export_is_refused_with_what_differs(
    begun: tuple[Path, list[Written]], plan: Plan, changes: dict[str, Any], told: str
) -> None:
    before = {path: path.read_bytes() for path in begun[0].rglob("*") if path.is_file()}
    with pytest.raises(ExportDiffers, match=told), opened(begun[0]) as journal:
        settled(journal, replace(plan, **changes))
    assert {path: path.read_bytes() for path in begun[0].rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("now_it_is", "told"),
    [
        (None, "episode e-1 was withdrawn"),
        (a_standing("e-1", verdicts=(4,)), "episode e-1: 1 of its 2 verdicts are gone"),
        (a_standing("e-1", verdicts=(8, 9)), "episode e-1: 2 of its 2 verdicts are gone"),
        (a_standing("e-1", verdicts=()), "episode e-1: 2 of its 2 verdicts are gone"),
        (a_standing("e-1", held_out=True), "episode e-1: held_out was False, is True"),
        (a_standing("e-1", digest="cd" * 32), f"episode e-1: digest was {'ab' * 32}, is {'cd' * 32}"),
    ],
)
def test_an_episode_that_changed_since_is_named_with_what_changed(
    begun: tuple[Path, list[Written]], plan: Plan, now_it_is: Standing | None, told: str
) -> None:
    first, _, *others = plan.wanted.episodes
    changed = with_episodes(plan, first, *([now_it_is] if now_it_is else []), *others)
    with pytest.raises(ExportDiffers, match=told) as caught, opened(begun[0]) as journal:
        settled(journal, changed)
    assert "e-2" not in str(caught.value)
    assert f"remove {begun[0]} to start over" in str(caught.value)


def test_a_verdict_that_came_since_or_an_answer_that_is_another_is_no_reason_to_refuse(
    begun: tuple[Path, list[Written]], plan: Plan
) -> None:
    first, *others = plan.wanted.episodes
    judged = replace(first, verdicts=(*first.verdicts, 11))
    with opened(begun[0]) as journal:
        now = with_episodes(plan, *others[1:])
        assert journal.settle(now, standing=lambda: (judged, *others)) == plan


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": "gymnastd-export-plan/1"}'])
def test_a_plan_that_does_not_read_is_refused(
    begun: tuple[Path, list[Written]], plan: Plan, text: str
) -> None:
    (begun[0] / "_unfinished/plan.json").write_text(text)
    with pytest.raises(ExportDiffers, match="does not read"), opened(begun[0]) as journal:
        settled(journal, plan)


def test_a_plan_of_another_release_is_refused_by_its_schema(
    begun: tuple[Path, list[Written]], plan: Plan
) -> None:
    path = begun[0] / "_unfinished/plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": "gymnastd-export-plan/2"}))
    with pytest.raises(ExportDiffers, match="was gymnastd-export-plan/2, is"), opened(begun[0]) as journal:
        settled(journal, plan)


# ---- which folders are taken


@pytest.mark.parametrize("names", [[], ["lock"], ["lock", ".plan.json.new"]])
def test_a_folder_without_a_plan_is_taken_while_there_is_nothing_else(
    tmp_path: Path, plan: Plan, names: list[str]
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name in names:
        (folder / "_unfinished").mkdir(exist_ok=True)
        (folder / "_unfinished" / name).write_text("")
    with opened(folder) as journal:
        assert settled(journal, plan) == plan
    assert (folder / "_unfinished/plan.json").is_file()


@pytest.mark.parametrize(
    "name", ["thesis.tex", "_gymnastd/e-1.json", "_unfinished/thesis.tex", "manifest.json"]
)
def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / "other" / name
    path.parent.mkdir(parents=True)
    path.write_text("years")
    with pytest.raises(TargetNotEmpty, match="other"), opened(tmp_path / "other"):
        pass
    assert [each for each in (tmp_path / "other").rglob("*") if each.is_file()] == [path]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(TargetNotEmpty), opened(tmp_path / "out"):
        pass


def test_two_do_not_write_into_one_folder(tmp_path: Path, plan: Plan) -> None:
    with opened(tmp_path / "out") as journal:
        settled(journal, plan)
        with pytest.raises(ExportBusy), opened(tmp_path / "out"):
            pass
    with opened(tmp_path / "out") as journal:
        assert settled(journal, plan) == plan


def test_what_is_finished_is_known_by_its_manifest_and_loses_its_journal(
    begun: tuple[Path, list[Written]], plan: Plan
) -> None:
    folder = begun[0]
    with opened(folder) as journal:
        assert not journal.sealed
        (folder / "manifest.json").write_text("{}")
        assert journal.sealed
        journal.remove(plan)
    assert not (folder / "_unfinished").exists()
    with pytest.raises(TargetNotEmpty), opened(folder):
        pass


def test_another_export_is_not_taken_for_one_that_was_only_left_to_be_tidied(
    begun: tuple[Path, list[Written]], plan: Plan
) -> None:
    (begun[0] / "manifest.json").write_text("{}")
    with pytest.raises(TargetNotEmpty), opened(begun[0]) as journal:
        settled(journal, replace(plan, format="lerobot"))
    assert not (begun[0] / "_unfinished").exists()


def test_a_plan_comes_back_from_json_as_it_was(plan: Plan) -> None:
    assert Plan.of(json.loads(json.dumps(plan.tree()))) == plan


# ---- the lock, and how the journal goes


@pytest.mark.parametrize("names", [[], ["lock"]])
def test_what_a_finished_export_left_behind_is_tidied_and_it_is_refused_as_any(
    tmp_path: Path, names: list[str]
) -> None:
    folder = tmp_path / "out"
    (folder / "_unfinished").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    for name in names:
        (folder / "_unfinished" / name).write_text("")
    with pytest.raises(TargetNotEmpty), opened(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]


def test_the_lock_is_not_open_any_more_when_its_folder_goes(
    begun: tuple[Path, list[Written]], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network's file system keeps an open file that was removed, under another name in its folder."""
    rmdir = os.rmdir

    def strict(path: Any, **named: Any) -> None:
        open_files = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        if any("_unfinished" in each.parts for each in open_files):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        rmdir(path, **named)

    monkeypatch.setattr(os, "rmdir", strict)
    with opened(begun[0]) as journal:
        (begun[0] / "manifest.json").write_text("{}")
        journal.remove(plan)
    assert not (begun[0] / "_unfinished").exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_it_goes_on_without_one(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing_lock(code))
    with opened(tmp_path / "out") as journal:
        assert settled(journal, plan) == plan


def test_a_lock_that_fails_otherwise_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing_lock(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), opened(tmp_path / "out"):
        pass


def failing_lock(code: int) -> Callable[[int, int], None]:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    return flock


@pytest.mark.parametrize(("times", "error"), [(1, None), (2, None), (99, ExportBusy)])
def test_a_folder_that_another_takes_away_before_the_lock_is_open_is_made_again(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, times: int, error: type[Exception] | None
) -> None:
    real, calls = os.open, list[str]()

    def taken_away(path: Any, *args: Any, **named: Any) -> int:
        if Path(path).name == "lock" and len(calls) < times:
            calls.append(str(path))
            Path(path).parent.rmdir()
        return real(path, *args, **named)

    monkeypatch.setattr(os, "open", taken_away)
    if error is not None:
        with pytest.raises(error), opened(tmp_path / "out"):
            pass
        return
    with opened(tmp_path / "out") as journal:
        assert settled(journal, plan) == plan
    assert len(calls) == times


@pytest.mark.parametrize(
    "name", ["", "lock", "plan.json", "done.jsonl", ".plan.json.new", "e-3.mp4", "dangling"]
)
def test_a_link_in_place_of_the_journal_or_in_it_is_never_followed(
    begun: tuple[Path, list[Written]], plan: Plan, name: str
) -> None:
    folder, elsewhere = begun[0], begun[0].with_name("elsewhere")
    path = folder / "_unfinished" / name if name else folder / "_unfinished"
    if path.exists():
        path.rename(elsewhere)
    elif name != "dangling":
        elsewhere.write_text("years")
    path.symlink_to(elsewhere)
    before = {each: each.read_bytes() for each in folder.parent.rglob("*") if each.is_file()}
    with pytest.raises(TargetNotEmpty), opened(folder) as journal:
        settled(journal, plan)
    assert {each: each.read_bytes() for each in folder.parent.rglob("*") if each.is_file()} == before
    assert path.is_symlink()


def test_a_link_that_comes_while_it_is_open_is_not_followed_either(
    begun: tuple[Path, list[Written]], plan: Plan
) -> None:
    path, elsewhere = begun[0] / "_unfinished/done.jsonl", begun[0].with_name("thesis.tex")
    elsewhere.write_text("years")
    with opened(begun[0]) as journal:
        path.unlink()
        path.symlink_to(elsewhere)
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            journal.done(plan, checked=lambda count, of: None)
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            journal.note(begun[1][0])
    assert elsewhere.read_text() == "years"


@pytest.mark.parametrize("name", ["_unfinished", "out"])
def test_a_file_or_a_dangling_link_in_place_of_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    if name == "out":
        folder.symlink_to(tmp_path / "nowhere")
    else:
        folder.mkdir()
        (folder / name).write_text("x")
    with pytest.raises(TargetNotEmpty), opened(folder):
        pass
    assert not (tmp_path / "nowhere").exists()


def test_only_what_is_ours_is_removed(begun: tuple[Path, list[Written]], plan: Plan) -> None:
    folder = begun[0]
    own = folder / "_unfinished"
    ours = ["e-0.mp4", "e-3.mp4", ".plan.json.new"]
    foreign = ["thesis.tex", "e-9.mp4", "notes/e-0.mp4", "e-1.mp4/film"]
    for name in (*ours, *foreign):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text("years")
    with opened(folder) as journal:
        (folder / "manifest.json").write_text("{}")
        journal.remove(plan)
    left = {path.relative_to(own).as_posix() for path in own.rglob("*") if path.is_file()}
    assert left == {*foreign, "lock"}
    with pytest.raises(TargetNotEmpty), opened(folder):
        pass
    assert {path.relative_to(own).as_posix() for path in own.rglob("*") if path.is_file()} == left


def test_a_finished_export_with_a_plan_that_does_not_read_is_left_as_it_is(
    begun: tuple[Path, list[Written]], plan: Plan
) -> None:
    (begun[0] / "manifest.json").write_text("{}")
    (begun[0] / "_unfinished/plan.json").write_text("{")
    with pytest.raises(TargetNotEmpty), opened(begun[0]) as journal:
        settled(journal, plan)
    assert (begun[0] / "_unfinished/done.jsonl").is_file()
