"""All pages together: `router` stands behind the guard, `open_router` is what a browser needs before it."""

from fastapi import APIRouter

from daemon.dashboard import (
    configuration,
    episodes,
    imagination,
    iteration,
    login,
    notes,
    now,
    progress,
    progress_csv,
    trust,
    what_ifs,
)

router = APIRouter(tags=["dashboard"])
PAGES = (
    login, now, progress, progress_csv, iteration, episodes, notes, imagination, what_ifs, trust,
    configuration,
)  # fmt: skip
for page in PAGES:
    router.include_router(page.router)

open_router = login.open_router
