"""What the REST API answers, field by field; its documentation is made from this."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from daemon.api.rate_schemas import Alarm, IterationCosts


class SuccessRate(BaseModel):
    """k of n real episodes, with the Wilson 95 % interval."""

    successes: int
    episodes: int
    wilson_low: float
    wilson_high: float


class ErrorRecord(BaseModel):
    code: str
    message: str


class PhaseRecord(BaseModel):
    """One attempt at one phase; one that is `forgiven` failed before a retry and counts no more.

    `device` is the accelerator's name, or else the processor's model; null until a worker has said so.
    """

    phase: str
    attempt: int
    state: str
    forgiven: bool
    progress: float
    text: str
    worker: str | None
    device: str | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    outcome: dict[str, Any] | None
    metrics: dict[str, float]
    error: ErrorRecord | None


class WorldModelRecord(BaseModel):
    """What the finetune phase measured; null until it has.

    `held_out_error` is before and after finetuning, `gate` says whether the candidate was accepted and why,
    and `trust` is the report on the world model that the iteration went on with.
    """

    held_out_error: dict[str, Any] | None
    gate: dict[str, Any] | None
    trust: dict[str, Any] | None


class CheckpointUse(BaseModel):
    """Checkpoint ids by kind; what the gate rejected was kept and is not gone on from."""

    read: dict[str, str]
    made: dict[str, str]
    rejected: dict[str, str]


class IterationSummary(BaseModel):
    """`wish` is "pause" while a phase that runs has been asked to stop and has not yet."""

    number: int
    lineage: str
    id: str
    state: str
    wish: str | None
    spec: dict[str, Any]
    spec_digest: str
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorRecord | None


class IterationRecord(IterationSummary):
    """Everything that is known of one iteration. `success` is real, `imagined_success` is not.

    Where a candidate was tried against the champion, `success` is that of the policy that goes on, and
    `trial` has the counts of both and what was decided; `carried` in it says from which iteration it was
    carried on, with how many episodes, and `trial_not_carried` why one that was undecided was not. `alarms`
    are those that its episodes raised, `ledger` says what it cost and gained. `judge_audit` holds the judge
    against labels of real held-out episodes, by task; `tasks_left_out` those that the policy update did not
    trust, each with why, and `full_length` those whose real episodes were not ended early, although the spec
    has `stop_on_success`.
    `waiting_for` says why the next phase has not begun: outside of robot hours, a day's episodes are
    recorded, or device hours are used up.
    """

    waiting_for: str | None = None
    phases: list[PhaseRecord]
    success: dict[str, SuccessRate]
    overall: SuccessRate
    world_model: WorldModelRecord
    imagined_success: dict[str, Any]
    trial: dict[str, Any] | None
    trial_not_carried: str | None
    full_length: dict[str, str]
    alarms: list[Alarm]
    ledger: IterationCosts
    judge_audit: dict[str, Any] | None
    tasks_left_out: dict[str, str]
    checkpoints: CheckpointUse


class IterationPage(BaseModel):
    items: list[IterationSummary]
    next_cursor: str | None


class FieldChange(BaseModel):
    """A field with another value; null where one side has none."""

    field: str
    before: Any = Field(alias="from")
    after: Any = Field(alias="to")


class CheckpointChange(BaseModel):
    """`what` is read, made or rejected; null where one side has none of this kind."""

    phase: str
    what: str
    kind: str
    before: dict[str, Any] | None = Field(alias="from")
    after: dict[str, Any] | None = Field(alias="to")


class Measurement(BaseModel):
    """One measured thing of both; null where one side did not measure it."""

    what: str
    before: Any = Field(alias="from")
    after: Any = Field(alias="to")


class Listed(BaseModel):
    """How many, and the first of them."""

    count: int
    ids: list[str]


class EpisodesChange(BaseModel):
    """Episodes that a phase read in one iteration alone, or with another label that counts."""

    added: Listed
    removed: Listed
    relabelled: Listed
    kept: int


class IterationDiff(BaseModel):
    """What differs from one iteration to another, and what both measured.

    `circumstances` holds, by phase, other code, packages, machines, judges and stations.
    """

    before: int = Field(alias="from")
    after: int = Field(alias="to")
    spec: list[FieldChange]
    circumstances: dict[str, list[FieldChange]]
    data: dict[str, EpisodesChange]
    checkpoints: list[CheckpointChange]
    measured: list[Measurement]


class TaskSuccess(SuccessRate):
    """Success of one task in one iteration; task null is all tasks of that iteration together.

    Where `may_end_early` differs, rates are not comparable: a judge could end the episodes of the one where
    it saw success. It is null where the tasks of an iteration differ in it.
    """

    iteration: int
    task: str | None
    may_end_early: bool | None


class SuccessRates(BaseModel):
    items: list[TaskSuccess]
    next_cursor: str | None


class EpisodeSummary(BaseModel):
    id: str
    iteration: int | None
    task: str
    instruction: str
    station: str
    origin: str
    held_out: bool
    steps: int
    outcome: str
    success: bool | None
    label_source: str | None
    notes: int = Field(description="how many were written on it")
    valid_for_policy_eval: bool
    policy_checkpoint: str | None
    started_at: datetime
    committed_at: datetime
    video: str


class EpisodePage(BaseModel):
    items: list[EpisodeSummary]
    next_cursor: str | None


class CheckpointSummary(BaseModel):
    """`lineage` is whose iterations may go on from it; null means those of any."""

    id: str
    kind: str
    number: int
    parent_id: str | None
    iteration: int | None
    lineage: str | None
    sha256: str
    size_bytes: int
    spec_digest: str
    card: dict[str, Any]
    created_at: datetime
    retired_at: datetime | None


class CheckpointPage(BaseModel):
    items: list[CheckpointSummary]
    next_cursor: str | None


class TrustReport(BaseModel):
    """How far a world model was to be trusted on held-out real episodes.

    `verdict` is the gate's: accepted, rejected, or measured where nothing was to be decided. `optimism` is
    imagined minus real success; `sensitivity` the latent error with another episode's actions over that with
    its own; `horizon` how many steps may be imagined. `report` has the curves and the outcomes by task.
    """

    id: str
    checkpoint_id: str
    iteration: int | None
    verdict: str
    episodes: int
    horizon: int
    agreement: float | None
    optimism: float | None
    sensitivity: float | None
    report: dict[str, Any]
    measured_at: datetime


class TrustReports(BaseModel):
    """Newest first."""

    items: list[TrustReport]


class Liveness(BaseModel):
    status: str


class Readiness(BaseModel):
    """`ok`; `checks`, by what was looked at, are told to whom the scope `read` is given."""

    status: str
    checks: dict[str, str] | None = None
