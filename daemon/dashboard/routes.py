"""All pages together: `router` stands behind the guard, `open_router` is what a browser needs before it."""

from fastapi import APIRouter

from daemon.dashboard import episodes, iteration, login, now, progress

router = APIRouter(tags=["dashboard"])
for page in (login, now, progress, iteration, episodes):
    router.include_router(page.router)

open_router = login.open_router
