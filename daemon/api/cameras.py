"""Cameras: what the robots' stations see now. A picture says how old it is, and an old one is no live one."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from daemon.api.services import Wired
from daemon.errors import PageNotFound
from daemon.station_cameras import CameraView

CAMERAS_AT = "/v1/cameras"
MOST_STATIONS = 1000
router = APIRouter(prefix=CAMERAS_AT, tags=["stations"])

Place = Annotated[int, Path(ge=0, lt=MOST_STATIONS, description="which station of the settings, from 0 on")]
PictureName = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="as `picture` of /v1/cameras says")]


class Camera(BaseModel):
    """One station's camera at this moment."""

    place: int
    address: str
    state: Literal["live", "old", "dark", "none"] = Field(
        description="`old`: newer pictures do not come; `dark`: none came yet; `none`: the station's version "
        "has no call for them"
    )
    age_s: float | None = Field(description="seconds since the picture was taken")
    says: str = Field(description="state and age in words")
    picture: str | None = Field(description="where the picture is, for some seconds")


class Cameras(BaseModel):
    items: list[Camera]


@router.get("", response_model=Cameras)
def list_cameras(services: Wired) -> dict[str, Any]:
    """Give what each station's camera shows; asked at most every 0.4 s, however many look."""
    return {"items": [camera_record(view) for view in services.cameras.look()]}


@router.get("/{place}/pictures/{name}.jpg", response_class=Response)
def get_picture(place: Place, name: PictureName, services: Wired) -> Response:
    """Give a picture that was just told of. 404: newer ones have taken its place."""
    jpeg = services.cameras.picture(place, name)
    if jpeg is None:
        raise PageNotFound(what=f"picture of camera {place}", key=name)
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


def camera_record(view: CameraView) -> dict[str, Any]:
    """A camera as it is answered: its picture by its address."""
    picture = None if view.digest is None else f"{CAMERAS_AT}/{view.place}/pictures/{view.digest}.jpg"
    return {
        "place": view.place,
        "address": view.address,
        "state": view.state,
        "age_s": None if view.age_s is None else round(view.age_s, 3),
        "says": view.says,
        "picture": picture,
    }
