"""The dataset that AutoEval uploads to, as the Hugging Face hub serves it: enough for `huggingface_hub`.

A file is on the hub once its upload delay has passed, unless the quirks lose it. The whole dataset is one
branch, `main`; every set of files has its own commit. Pickles are large files there: their ETag is a sha256.

Source: huggingface_hub 2.4 (`HfApi.list_repo_tree`, `dataset_info`, `hf_hub_download`), for what is asked.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.recordings import DATASET, FOLDER

BRANCH: Final = "main"
LARGE_FILE_SUFFIX: Final = ".pkl"
POINTER_SIZE: Final = 133  # bytes of the text that git keeps instead of a large file


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file of the dataset: its path there, and git's and its own digest of the content."""

    path: str
    local: Path
    size: int
    git_sha1: str
    sha256: str

    @property
    def large(self) -> bool:
        return self.path.endswith(LARGE_FILE_SUFFIX)

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git_sha1

    def entry(self) -> dict[str, Any]:
        """Its line in a listing."""
        entry = {"type": "file", "path": self.path, "size": self.size, "oid": self.git_sha1}
        if self.large:
            entry |= {"lfs": {"oid": self.sha256, "size": self.size, "pointerSize": POINTER_SIZE}}
        return entry


class Hub:
    """What has been uploaded so far out of the host's temporary folder."""

    def __init__(self, temporary: Path, *, quirks: Quirks) -> None:
        self._temporary, self._quirks = temporary, quirks
        self._commits: set[str] = set()

    def files(self) -> dict[str, HubFile]:
        """All files that are on the hub by now, by path."""
        seen = {}
        for local in sorted(self._temporary.glob("*/*")):
            status = local.stat()
            lost = local.name in self._quirks.lost_uploads or local.name.startswith(".")
            if not lost and time.time() >= status.st_mtime + self._quirks.upload_delay_s:
                path = f"{FOLDER}/{local.parent.name}/{local.name}"
                git_sha1, sha256 = _digests(local, status.st_mtime_ns)
                seen[path] = HubFile(
                    path=path, local=local, size=status.st_size, git_sha1=git_sha1, sha256=sha256
                )
        return seen

    def commit(self, files: dict[str, HubFile]) -> str:
        """The commit, 40 hexadecimal digits, that has these files."""
        digest = hashlib.sha1(usedforsecurity=False)
        for path, file in files.items():
            digest.update(f"{path} {file.git_sha1}\n".encode())
        self._commits.add(digest.hexdigest())
        return digest.hexdigest()

    def knows(self, revision: str) -> bool:
        return revision == BRANCH or revision in self._commits


def hub_routes(hub: Hub, *, page: int) -> APIRouter:
    """The routes of one dataset; a listing has at most `page` entries and a link to the next ones."""
    router = APIRouter()

    @router.get("/api/datasets/{owner}/{name}")
    @router.get("/api/datasets/{owner}/{name}/revision/{revision}")
    def dataset_info(owner: str, name: str, revision: str = BRANCH) -> Response:
        refusal = _refusal(hub, f"{owner}/{name}", revision)
        return refusal or JSONResponse(_description(hub))

    @router.get("/api/datasets/{owner}/{name}/tree/{revision}")
    @router.get("/api/datasets/{owner}/{name}/tree/{revision}/{path:path}")
    def tree(request: Request, owner: str, name: str, revision: str, path: str = "") -> Response:
        refusal = _refusal(hub, f"{owner}/{name}", revision)
        return refusal or _tree(hub, request, path=path.strip("/"), page=page)

    @router.head("/datasets/{owner}/{name}/resolve/{revision}/{path:path}")
    @router.get("/datasets/{owner}/{name}/resolve/{revision}/{path:path}")
    def resolve(owner: str, name: str, revision: str, path: str) -> Response:
        refusal = _refusal(hub, f"{owner}/{name}", revision)
        return refusal or _resolve(hub, path)

    return router


def _description(hub: Hub) -> dict[str, Any]:
    files = hub.files()
    return {
        "id": DATASET,
        "author": DATASET.split("/", maxsplit=1)[0],
        "sha": hub.commit(files),
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": [],
        "siblings": [{"rfilename": path} for path in files],
    }


def _tree(hub: Hub, request: Request, *, path: str, page: int) -> Response:
    files = hub.files()
    recursive = request.query_params.get("recursive", "false").lower() in {"true", "1"}
    entries = listing(files, path=path, recursive=recursive)
    if path and not entries:
        return _not_found("EntryNotFound", f"{path} does not exist", commit=hub.commit(files))
    start = int(request.query_params.get("cursor", "0"))
    headers = {"X-Repo-Commit": hub.commit(files)}
    if start + page < len(entries):
        following = request.url.include_query_params(cursor=start + page)
        headers["Link"] = f'<{following}>; rel="next"'
    return JSONResponse(entries[start : start + page], headers=headers)


def listing(files: dict[str, HubFile], *, path: str, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders under a folder of the dataset, only its own ones or those of every depth."""
    base = PurePosixPath(path)
    entries: dict[str, dict[str, Any]] = {}
    for file in files.values():
        place = PurePosixPath(file.path)
        if not place.is_relative_to(base) or place == base:
            continue
        depth = len(place.parts) - len(base.parts)
        for folder in [parent for parent in place.parents if parent != base and parent.is_relative_to(base)]:
            if recursive or len(folder.parts) == len(base.parts) + 1:
                oid = hashlib.sha1(str(folder).encode(), usedforsecurity=False).hexdigest()
                entries[str(folder)] = {"type": "directory", "path": str(folder), "size": 0, "oid": oid}
        if recursive or depth == 1:
            entries[file.path] = file.entry()
    return [entries[name] for name in sorted(entries)]


def _resolve(hub: Hub, path: str) -> Response:
    files = hub.files()
    commit = hub.commit(files)
    if path not in files:
        return _not_found("EntryNotFound", f"{path} does not exist", commit=commit)
    headers = {"ETag": f'"{files[path].etag}"', "X-Repo-Commit": commit}
    return FileResponse(files[path].local, headers=headers, media_type="application/octet-stream")


def _refusal(hub: Hub, repository: str, revision: str) -> Response | None:
    if repository != DATASET:
        return _not_found("RepoNotFound", "Repository not found")
    hub.commit(hub.files())  # the present one is always known, also after a restart
    if not hub.knows(revision):
        return _not_found("RevisionNotFound", f"Invalid rev id: {revision}")
    return None


def _not_found(code: str, message: str, *, commit: str = "") -> Response:
    headers = {"X-Error-Code": code, "X-Error-Message": message}
    if commit:
        headers["X-Repo-Commit"] = commit
    return JSONResponse({"error": message}, status_code=404, headers=headers)


@lru_cache(maxsize=4096)
def _digests(local: Path, changed_ns: int) -> tuple[str, str]:
    """git's sha1 of a blob and the sha256 of a file, as it was at that time of change."""
    content = local.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return git.hexdigest(), hashlib.sha256(content).hexdigest()
