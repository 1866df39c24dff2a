"""Stations: how the robots stand now, and what somebody has to do about it."""

from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from daemon.api.services import Wired
from daemon.station_card import station_card

router = APIRouter(prefix="/v1/standing", tags=["stations"])


class StationStanding(BaseModel):
    """One station as it stands at this moment."""

    address: str
    says: str = Field(description="its state in words, such as `runs an episode`")
    tone: Literal["good", "bad"] = Field(description="`bad`: somebody has to do something")
    wants: str | None = Field(description="why somebody has to")
    todo: str | None = Field(description="what there is to do")
    facts: dict[str, str]


class Standing(BaseModel):
    items: list[StationStanding]


@router.get("", response_model=Standing)
def get_standing(services: Wired) -> dict[str, Any]:
    """Give how each station stands; asked at most once a second, however many look. None with AutoEval."""
    return {"items": [asdict(station_card(standing)) for standing in services.stations.look()]}
