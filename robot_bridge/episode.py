"""One recorded run of a robot: manifest, step arrays, pictures, and the bytes they are stored as.

Time convention: action t is executed at observation t and produces observation t + 1, so an episode of T
actions has T + 1 observations. Files and databases are not here: `storage` keeps episodes, the station spools
them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from robot_bridge.errors import EpisodeInvalid
from robot_bridge.frames import FrameBlob
from robot_bridge.steps import StepArrays

__all__ = [
    "FRAMES_BLOB",
    "LIMITS_KEY",
    "STEPS_BLOB",
    "Convention",
    "Episode",
    "EpisodeHeader",
    "Manifest",
    "ManifestLabel",
    "Outcome",
    "PolicyRef",
    "StepArrays",
    "ValidFor",
    "assemble",
    "episode_of_bytes",
    "parse_manifest",
]

STEPS_BLOB: Final = "steps.npz"
FRAMES_BLOB: Final = "frames.bin"
DIGEST_PREFIX: Final = "sha256:"
LIMITS_KEY: Final = "limits"  # metadata: those in force, `robot_bridge.limits.Limits` as JSON

UtcTime: TypeAlias = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]
Name: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Digest: TypeAlias = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Outcome: TypeAlias = Literal[
    "completed", "aborted_hw", "aborted_lease", "aborted_estop", "timeout_client", "policy_error"
]
LabelSource: TypeAlias = Literal["human", "sim_predicate", "classifier", "vlm"]


class ManifestPart(BaseModel):
    """Frozen; an unknown field is an error: a manifest that says more than we know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class PolicyRef(ManifestPart):
    """Who chose the actions. `digest` names the weights, "sha256:…", or is None for a script or a human."""

    name: Name
    version: str = Field(default="", max_length=200)
    digest: Digest | None = None


class Convention(ManifestPart):
    """In which convention the numbers are; see `robot_bridge.conventions`.

    Stored numbers are always bridge_v2. `native` is what the robot itself was driven in; where that is
    another one, the arrays native_action and native_state hold its own numbers, and `transform_id` names how
    the one became the other. `rotation` says whether the sender made up for the robot's own rotation rule.
    """

    state: Literal["bridge_v2"] = "bridge_v2"
    action: Literal["bridge_v2"] = "bridge_v2"
    gripper: Literal["norm01"] = "norm01"
    image: Literal["rgb8_hwc"] = "rgb8_hwc"
    native: Literal["bridge_v2", "autoeval_mg", "simpler"] = "bridge_v2"
    rotation: Literal["raw", "bridge_compensated"] = "raw"


class ManifestLabel(ManifestPart):
    """One verdict on the whole episode; `success` None means that the judge could not tell."""

    success: bool | None
    source: LabelSource
    judge: Name
    answer: str | None = Field(default=None, max_length=2000)
    at: UtcTime


class ValidFor(ManifestPart):
    """What it may be used for: a hardware abort teaches a world model, but says nothing of the policy."""

    policy_eval: bool
    world_model: bool


class ImageStream(ManifestPart):
    """The pictures of one camera; `index` is the sha256 of the frames blob's header and index."""

    count: int = Field(ge=2)
    codec: Literal["jpeg"] = "jpeg"
    w: int = Field(ge=1)
    h: int = Field(ge=1)
    index: Digest


class EpisodeHeader(ManifestPart):
    """What a recorder knows about an episode beside its arrays and pictures."""

    episode_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-zA-Z][0-9a-zA-Z._-]{0,99}$")]
    station_id: Name
    task_id: Name
    instruction: str = Field(max_length=500)
    mode: Literal["stepped", "callback", "autoeval", "imported"]
    policy: PolicyRef
    convention: Convention = Convention()
    transform_id: Name
    control_hz: float = Field(gt=0)
    outcome: Outcome
    labels: tuple[ManifestLabel, ...] = ()
    valid_for: ValidFor
    started_at: UtcTime
    ended_at: UtcTime
    metadata: dict[str, str] = Field(default_factory=dict)


class Manifest(EpisodeHeader):
    """Schema `episode/1`: the header, plus the shape and sha256 of everything that belongs to the episode."""

    schema_name: Literal["episode/1"] = Field(default="episode/1", alias="schema")
    T: int = Field(ge=1)
    arrays: dict[str, tuple[str, tuple[int, ...]]]
    images: dict[str, ImageStream]
    blobs: dict[str, Digest]

    def canonical_json(self) -> bytes:
        """The one byte string this manifest is hashed and sent as: sorted keys, no spaces, UTF-8."""
        tree = self.model_dump(mode="json", by_alias=True)
        text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.canonical_json()).hexdigest()

    def blob_sha256(self, name: str) -> str:
        """Hex sha256 of one blob, without the prefix."""
        return self.blobs[name].removeprefix(DIGEST_PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episode:
    """A whole episode in memory. Two episodes are the same episode when their digests are equal."""

    manifest: Manifest
    steps: StepArrays
    frames: FrameBlob

    @property
    def digest(self) -> str:
        """Hex sha256 of the manifest, which names the sha256 of both blobs."""
        return self.manifest.digest

    def validate(self) -> None:
        """Check that manifest, arrays and pictures tell the same story.

        Raises:
            EpisodeInvalid: they do not; nothing was changed.
        """
        manifest = self.manifest
        steps_count = self.steps.count
        self._require("T", manifest.T, steps_count)
        self._require("pictures (T + 1)", steps_count + 1, len(self.frames))
        self._require("arrays", self.steps.spec(), manifest.arrays)
        self._require("images", {"primary": _image_stream(self.frames)}, manifest.images)
        self._require("blobs", _blob_digests(self.steps, self.frames), manifest.blobs)
        if manifest.ended_at < manifest.started_at:
            self._require("ended_at", f"at or after {manifest.started_at}", manifest.ended_at)

    def _require(self, thing: str, expected: object, found: object) -> None:
        if expected != found:
            raise EpisodeInvalid(
                episode_id=self.manifest.episode_id, thing=thing, expected=expected, found=found
            )


def assemble(header: EpisodeHeader, *, steps: StepArrays, frames: FrameBlob) -> Episode:
    """An episode from what was recorded: computes shapes and digests, then validates.

    Raises:
        EpisodeInvalid: the number of pictures is not the number of actions plus one.
    """
    try:
        manifest = Manifest(
            **dict(header),
            T=steps.count,
            arrays=steps.spec(),
            images={"primary": _image_stream(frames)},
            blobs=_blob_digests(steps, frames),
        )
    except ValidationError as cause:
        raise EpisodeInvalid(
            episode_id=header.episode_id, thing="manifest", expected="valid", found=str(cause)
        ) from cause
    episode = Episode(manifest=manifest, steps=steps, frames=frames)
    episode.validate()
    return episode


def episode_of_bytes(manifest_json: bytes, *, steps: bytes, frames: bytes) -> Episode:
    """An episode from its three stored byte strings, checked against each other.

    Raises:
        EpisodeInvalid: the manifest is not one, or does not fit the blobs.
        StepsCorrupt, FramesCorrupt: a blob does not read back.
    """
    manifest = parse_manifest(manifest_json)
    episode = Episode(manifest=manifest, steps=StepArrays.from_npz(steps), frames=FrameBlob(frames))
    episode.validate()
    return episode


def parse_manifest(manifest_json: bytes | str) -> Manifest:
    """A manifest from its JSON.

    Raises:
        EpisodeInvalid: not JSON, a field is missing, wrong or unknown.
    """
    try:
        return Manifest.model_validate_json(manifest_json)
    except ValidationError as cause:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in cause.errors()[:5])
        raise EpisodeInvalid(
            episode_id="(unread)", thing="manifest", expected="schema episode/1", found=faults
        ) from cause


def _image_stream(frames: FrameBlob) -> ImageStream:
    return ImageStream(
        count=len(frames), w=frames.width, h=frames.height, index=DIGEST_PREFIX + frames.index_digest
    )


def _blob_digests(steps: StepArrays, frames: FrameBlob) -> dict[str, str]:
    return {
        STEPS_BLOB: DIGEST_PREFIX + hashlib.sha256(steps.to_npz()).hexdigest(),
        FRAMES_BLOB: DIGEST_PREFIX + hashlib.sha256(frames.data).hexdigest(),
    }
