"""The two places that hold AutoEval's recordings: its dataset on Hugging Face, and a folder of a lab's own.

Both are read as `runs` says. From the hub nothing is kept but the names of runs that were looked at: a pickle
is fetched into a temporary folder, read in its sandbox and deleted. The machine's own login is never sent.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder
from huggingface_hub.utils.tqdm import tqdm

from robot_bridge.autoeval.errors import DatasetMalformed, DatasetUnavailable
from robot_bridge.autoeval.runs import (
    FOLDER,
    METADATA,
    METADATA_MAX_BYTES,
    RUN_NAME,
    RUNS_MAX,
    Dataset,
    RunRef,
    run_of,
)
from robot_bridge.autoeval.tasks import ENDPOINT, REPO
from robot_bridge.autoeval.trajectory import Fact, Trajectory
from robot_bridge.autoeval.unpickle import SandboxLimits
from robot_bridge.autoeval.unpickle_child import MAX_PICKLE_BYTES
from robot_bridge.station.durable import replace_file

__all__ = ["Dataset", "Fact", "FolderDataset", "HubDataset", "RunRef", "Trajectory"]

KNOWN_FILE: Final = "runs.json"
WAIT_S: Final = 10.0  # for the first answer about a file
NOT_ANSWERED: Final = (OSError, HTTPError, HfHubHTTPError, EntryNotFoundError, HFValidationError)
BABBLE: Final = (ValueError, LookupError, TypeError, AttributeError)  # what its client makes of other JSON


class FolderDataset(Dataset):
    """A folder that holds runs, itself or in its `eval_data`. Links are not followed."""

    def __init__(self, path: Path, *, limits: SandboxLimits | None = None) -> None:
        super().__init__(limits=limits)
        self._path = path / FOLDER if (path / FOLDER).is_dir() else path

    def _runs(self) -> Iterator[RunRef]:
        with self._reading("its runs"):
            names = sorted(each.name for each in self._path.iterdir() if _is_plain_folder(each))
        for name in names[:RUNS_MAX]:
            if RUN_NAME.fullmatch(name) and METADATA in self._files(name):
                yield run_of(name, self._read(name, METADATA, limit=METADATA_MAX_BYTES))

    def _files(self, eval_id: str) -> dict[str, int]:
        with self._reading(eval_id):
            files = [file for file in (self._path / eval_id).iterdir() if not file.is_symlink()]
            return {file.name: file.stat().st_size for file in files if file.is_file()}

    def _fetch(self, eval_id: str, name: str) -> bytes:
        return self._read(eval_id, name, limit=MAX_PICKLE_BYTES)

    def _read(self, eval_id: str, name: str, *, limit: int) -> bytes:
        with self._reading(f"{eval_id}/{name}"), (self._path / eval_id / name).open("rb") as file:
            return file.read(limit + 1)

    @contextmanager
    def _reading(self, thing: str) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            raise DatasetUnavailable(repo=self._path, thing=thing, reason=type(cause).__name__) from cause


class HubDataset(Dataset):
    """A dataset repository on a Hugging Face hub. `cache` is a folder of ours for what is known of its runs.

    `token` is for a private copy; without one nothing is sent that says who asks.
    """

    def __init__(
        self,
        repo: str = REPO,
        *,
        cache: Path,
        endpoint: str = ENDPOINT,
        token: str | None = None,
        limits: SandboxLimits | None = None,
    ) -> None:
        super().__init__(limits=limits)
        self._repo, self._endpoint, self._token = repo, endpoint.rstrip("/"), token or False
        self._api = HfApi(endpoint=self._endpoint, token=self._token)
        self._cache = cache
        self._known: dict[str, RunRef] = _known_runs(cache / KNOWN_FILE)

    def leave_out_present(self) -> int:
        """Remember every run that is there now as none of ours; how many there are.

        Called before a job is submitted: `find_run` then looks into new runs only, and not into thousands.

        Raises:
            DatasetUnavailable: the hub cannot be read now.
        """
        names = self._run_names()
        for name in names:
            self._known.setdefault(name, RunRef(eval_id=name, description="", time=""))
        self._remember()
        return len(names)

    def _runs(self) -> Iterator[RunRef]:
        """metadata.json never changes, so each is fetched once."""
        names = self._run_names()
        new = [name for name in names if name not in self._known]
        try:
            for name in new:
                size = self._files(name).get(METADATA)  # it is uploaded first, but not at once
                if size is not None and size <= METADATA_MAX_BYTES:
                    self._known[name] = run_of(name, self._fetch(name, METADATA))
        finally:
            if new:
                self._remember()
        yield from (self._known[name] for name in names if name in self._known)

    def _run_names(self) -> list[str]:
        folders = [each for each in self._listed(FOLDER) if isinstance(each, RepoFolder)]
        names = [folder.path.rpartition("/")[2] for folder in folders]
        return [name for name in names if RUN_NAME.fullmatch(name)]

    def _files(self, eval_id: str) -> dict[str, int]:
        files = [each for each in self._listed(f"{FOLDER}/{eval_id}") if isinstance(each, RepoFile)]
        return {file.path.rpartition("/")[2]: file.size for file in files}

    def _listed(self, folder: str) -> list[Any]:
        """Files and folders right under a folder; none where there is no such folder yet."""
        found: list[Any] = []
        with self._asking(folder):
            try:
                for entry in self._api.list_repo_tree(self._repo, folder, repo_type="dataset"):
                    found.append(entry)
                    if len(found) > RUNS_MAX:
                        raise DatasetMalformed(
                            thing=folder, expected=f"at most {RUNS_MAX} entries", found="more"
                        )
            except EntryNotFoundError:
                return []
        return found

    def _fetch(self, eval_id: str, name: str) -> bytes:
        path = f"{FOLDER}/{eval_id}/{name}"
        with self._asking(path), tempfile.TemporaryDirectory(prefix="autoeval-") as folder:
            fetched = hf_hub_download(
                self._repo,
                path,
                repo_type="dataset",
                endpoint=self._endpoint,
                token=self._token,
                local_dir=folder,
                etag_timeout=WAIT_S,
                tqdm_class=_NoBar,
            )
            with Path(fetched).open("rb") as file:
                return file.read(MAX_PICKLE_BYTES + 1)

    @contextmanager
    def _asking(self, thing: str) -> Iterator[None]:
        try:
            yield
        except (*NOT_ANSWERED, *BABBLE) as cause:
            status = getattr(getattr(cause, "response", None), "status_code", None)
            reason = type(cause).__name__ + (f", HTTP {status}" if isinstance(status, int) else "")
            raise DatasetUnavailable(repo=self._repo, thing=thing, reason=reason) from cause

    def _remember(self) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        runs = [asdict(run) for _, run in sorted(self._known.items())]
        replace_file(self._cache / KNOWN_FILE, json.dumps(runs).encode())


class _NoBar(tqdm):
    """A progress bar that draws nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]


def _is_plain_folder(path: Path) -> bool:
    return not path.is_symlink() and path.is_dir()


def _known_runs(file: Path) -> dict[str, RunRef]:
    """What an earlier process remembered; a file that does not read back is forgotten."""
    try:
        return {run["eval_id"]: RunRef(**run) for run in json.loads(file.read_bytes())}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
