"""What single fields of a spec may be. Types only."""

from typing import Annotated

from pydantic import AfterValidator, Field

Lineage = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Probability = Share
Count = Annotated[int, Field(strict=True, ge=1, le=4096)]
LearningRate = Annotated[float, Field(gt=0.0, le=0.1)]
Weight = Annotated[float, Field(ge=0.0)]
Deadline = Annotated[float, Field(gt=0.0)] | None  # seconds


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("each may be named once")
    return names


Once = AfterValidator(_once)  # of names: none comes twice
