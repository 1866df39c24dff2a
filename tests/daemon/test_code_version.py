"""What a process says of its code: a digest that any changed line changes, the commit of a checkout."""

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from daemon.code_version import (
    CPU_FACTS,
    PACKAGES,
    ROOT,
    code_version,
    commit_of,
    package_versions,
    platform_facts,
    processor_name,
    sources_digest,
)

COMMIT = "5d41402abc4b2a76b9719d911017c592ae6f2f2e"
OTHER = "7d793037a0760186574b0282f2f435e7aabbccdd"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for package in ("daemon/api", "storage", "robot_bridge", "tests"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "one.py").write_text(f"# {package}\n")
    return tmp_path


def test_the_same_sources_have_the_same_digest(sources):
    before = sources_digest(sources)
    (sources / "tests" / "one.py").write_text("changed")
    (sources / "daemon" / "notes.txt").write_text("no source")
    assert sources_digest(sources) == before


@pytest.mark.parametrize("name", ["daemon/api/one.py", "storage/one.py", "robot_bridge/one.py"])
def test_a_changed_line_changes_the_digest(sources, name):
    before = sources_digest(sources)
    (sources / name).write_text("changed")
    assert sources_digest(sources) != before


def test_a_new_name_changes_the_digest(sources):
    before = sources_digest(sources)
    (sources / "daemon" / "api" / "one.py").rename(sources / "daemon" / "api" / "two.py")
    assert sources_digest(sources) != before


def test_code_is_told_by_release_digest_and_commit():
    told = code_version()
    assert told == {
        "version": version("gymnast-daemon"),
        "sha256": sources_digest(ROOT),
        "commit": commit_of(ROOT),
    }


def test_packages_that_are_not_installed_are_left_out():
    assert package_versions(("numpy", "no-such-package-here")) == {"numpy": version("numpy")}
    assert {"torch", "numpy", "diffusers", "transformers", "safetensors"} <= set(PACKAGES)
    assert platform_facts()["packages"] == package_versions(PACKAGES)


def git_folder(root: Path, head: str) -> Path:
    folder = root / ".git"
    folder.mkdir()
    (folder / "HEAD").write_text(head + "\n")
    return folder


def test_no_checkout_has_no_commit(tmp_path):
    assert commit_of(tmp_path) is None


def test_a_detached_head_is_the_commit(tmp_path):
    git_folder(tmp_path, COMMIT)
    assert commit_of(tmp_path) == COMMIT


def test_a_branch_is_looked_up_among_loose_and_packed_refs(tmp_path):
    folder = git_folder(tmp_path, "ref: refs/heads/main")
    assert commit_of(tmp_path) is None, "nothing was committed yet"
    (folder / "packed-refs").write_text(
        f"# pack-refs with: peeled\n{OTHER} refs/heads/old\n{COMMIT} refs/heads/main\n"
    )
    assert commit_of(tmp_path) == COMMIT
    (folder / "refs" / "heads").mkdir(parents=True)
    (folder / "refs" / "heads" / "main").write_text(OTHER)
    assert commit_of(tmp_path) == OTHER, "the loose one is newer"


def test_a_worktree_shares_the_refs_of_its_repository(tmp_path):
    shared = git_folder(tmp_path, f"ref: {'refs/heads/main'}")
    (shared / "packed-refs").write_text(f"{COMMIT} refs/heads/side\n")
    own = shared / "worktrees" / "side"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/side\n")
    (own / "commondir").write_text("../..\n")
    tree = tmp_path / "side"
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {own}\n")
    assert commit_of(tree) == COMMIT


def test_this_checkout_says_what_git_says():
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if asked.returncode:
        pytest.skip("no checkout, or no git")
    assert commit_of(ROOT) == asked.stdout.strip()


def test_the_processor_has_a_name(tmp_path):
    facts = tmp_path / "cpuinfo"
    facts.write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Another\n")
    assert processor_name(facts) == "Some CPU @ 2 GHz"
    assert processor_name(tmp_path / "none")
    assert processor_name(CPU_FACTS)
