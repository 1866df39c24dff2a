"""AutoEval's robots over HTTP: online or not, and the live page's picture and words. Writing those is open.

POST /emulator/human/{robot_index} is the emulator's own: it stands for the "y" that a human types into Slack.

Source: job_scheduler.py of AutoEval at 3ea3ff4.
"""

from __future__ import annotations

from email import message_from_bytes
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Request, Response

from robot_bridge.autoeval.emulator.job_routes import OFFLINE, KeyCheck
from robot_bridge.autoeval.emulator.jobs import JobBook
from robot_bridge.autoeval.emulator.live import FEEDS, LiveView

OBSERVATION = "observation"


def robot_routes(book: JobBook, live: LiveView, *, admin: KeyCheck) -> APIRouter:
    """The routes of status and live view; `admin` refuses a request without the key."""
    router = APIRouter()
    _add_status(router, book, admin=admin)
    _add_live(router, live)

    @router.post("/emulator/human/{robot_index}")
    def human_answers(robot_index: int) -> dict[str, str]:
        live.answer(_feed(robot_index))
        return {"status": "success"}

    return router


def _add_status(router: APIRouter, book: JobBook, *, admin: KeyCheck) -> None:
    @router.get("/robot_status/")
    def get_robot_status() -> list[dict[str, Any]]:
        return book.robots()

    only_admin = [Depends(admin)]

    @router.post("/robot_status/all/offline", dependencies=only_admin)
    def take_all_robots_offline(message: str | None = None) -> dict[str, str]:
        for robot in book.robots():
            book.set_online(robot["robot"], online=False, message=message or OFFLINE)
        return {"status": "success", "message": "All robots have been taken offline"}

    @router.post("/robot_status/{robot}/offline", dependencies=only_admin)
    def take_robot_offline(robot: str, message: str | None = None) -> dict[str, str]:
        _known(book, robot)
        book.set_online(robot, online=False, message=message or OFFLINE)
        return {"status": "success", "message": f"Robot '{robot}' has been taken offline"}

    @router.post("/robot_status/{robot}/online", dependencies=only_admin)
    def bring_robot_online(robot: str) -> dict[str, str]:
        _known(book, robot)
        book.set_online(robot, online=True, message=None)
        return {"status": "success", "message": f"Robot '{robot}' has been brought back online"}


def _add_live(router: APIRouter, live: LiveView) -> None:
    @router.post("/upload/{robot_index}")
    async def upload_image(request: Request, robot_index: int, type: str) -> dict[str, Any]:
        _image_type(type)
        live.upload(robot_index, _uploaded(await request.body(), request.headers.get("Content-Type", "")))
        return {"message": "Image uploaded successfully", "type": type, "robot_index": robot_index}

    @router.get("/images/{robot_index}/{image_type}")
    def get_latest_image(robot_index: int, image_type: str) -> Response:
        _image_type(image_type)
        picture = live.picture(robot_index)
        if picture is None:
            raise HTTPException(404, "Image not found")
        return Response(picture, media_type="image/jpeg")

    @router.post("/update_status/{robot_index}")
    def update_status(robot_index: int, words: Annotated[dict[str, Any], Body()]) -> dict[str, str]:
        live.tell(_feed(robot_index), words)
        return {"message": "Status updated successfully"}

    @router.get("/get_status_data/{robot_index}")
    def get_status_data(robot_index: int) -> dict[str, Any]:
        return live.words(_feed(robot_index))


def _uploaded(body: bytes, content_type: str) -> bytes:
    """The part named "file" of a multipart/form-data body; the e-mail parser of Python reads that format."""
    letter = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts = letter.get_payload() if letter.is_multipart() else []
    for part in parts:
        if not isinstance(part, str) and part.get_param("name", header="content-disposition") == "file":
            content = part.get_payload(decode=True)
            return content if isinstance(content, bytes) else b""
    raise HTTPException(422, "the form has no file")


def _feed(index: int) -> int:
    """The index, if there is such a robot; the real page breaks on any other."""
    if not 0 <= index < FEEDS:
        raise HTTPException(500, "Internal Server Error")
    return index


def _image_type(name: str) -> None:
    if name != OBSERVATION:
        raise HTTPException(400, "Invalid image type")


def _known(book: JobBook, robot: str) -> None:
    if book.robot(robot) is None:
        raise HTTPException(404, f"Robot '{robot}' not found")
