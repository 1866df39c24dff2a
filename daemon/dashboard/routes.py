"""All pages together: `router` stands behind the guard, `open_router` is what a browser needs before it."""

from fastapi import APIRouter

from daemon.dashboard import configuration, episodes, imagination, iteration, login, now, progress, trust

router = APIRouter(tags=["dashboard"])
for page in (login, now, progress, iteration, episodes, imagination, trust, configuration):
    router.include_router(page.router)

open_router = login.open_router
