"""What one iteration is asked to do. Two iterations would differ here; two machines differ in settings.

The spec comes in with the request, is stored with the iteration as JSON and can be run again from there.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from daemon.errors import SpecInvalid, SpecUnknownField
from daemon.spec_types import Count, Deadline, LearningRate, Lineage, Once, Probability, Share, Weight
from storage.canonical import json_digest
from storage.lineages import MAIN

TaskId = Literal["open_drawer", "close_drawer", "put_eggplant_blue_sink", "put_eggplant_yellow_basket"]
TASK_IDS: tuple[TaskId, ...] = (
    "open_drawer",
    "close_drawer",
    "put_eggplant_blue_sink",
    "put_eggplant_yellow_basket",
)

PhaseName = Literal["collect", "finetune_world_model", "update_policy"]
PHASES: tuple[PhaseName, ...] = ("collect", "finetune_world_model", "update_policy")

YOUNGER = {  # fields that came later, and what they are by default
    "phases": PHASES,
    "stop_on_success": False,
    "lineage": MAIN,
}
CARRIES, MINIBATCH, WHOLE = 1, 256, 1  # left out of documents too, for the same reason


class SpecModel(BaseModel):
    """Frozen, closed to unknown fields, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CollectSpec(SpecModel):
    """Real episodes with the current policy."""

    episodes_per_task: Annotated[int, Field(strict=True, ge=1, le=1000)] = 12
    held_out_every: Annotated[int, Field(strict=True, ge=2, le=1000)] = Field(
        default=4, description="every n-th episode of a task is kept from training, to measure on"
    )
    temperature: Annotated[float, Field(ge=0.0, le=5.0)] = Field(default=0.0, description="0 acts greedily")
    max_episodes: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        default=None, description="collecting ends there; episodes that count for nothing are counted too"
    )


class FinetuneSpec(SpecModel):
    """Finetuning of the world model: how long, on what, and how."""

    from_base: bool = Field(
        default=True, description="begin from what was brought in, not from the last, whose faults add up"
    )
    updates: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 400
    batch: Count = 16
    frames: Annotated[int, Field(strict=True, ge=2, le=64)] | None = Field(
        default=None, description="per window, a stride apart; null: as many as most episodes allow"
    )
    accumulate: Count = Field(default=1, description="parts that a batch is cut into where memory is short")
    optimizer: Literal["adamw", "muon"] = Field(
        default="muon", description="adamw, at 3e-4, for a model that it has pretrained: WorldGym's"
    )
    learning_rate: LearningRate = 1e-3
    fresh_share: Share = Field(default=0.5, description="share of windows from this iteration's episodes")
    older_share: Share = Field(default=0.5, description="from episodes of earlier iterations")
    base_share: Share = Field(default=0.0, description="from imports; none unless they are of this robot")
    older_half_life: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="an episode so many places before the newest is drawn half as often"
    )
    samples_per_insert: Annotated[float, Field(gt=0.0)] | None = Field(
        default=60.0, description="how often a fresh frame may be drawn on average; updates end there"
    )
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.98
    mixing: Share = Field(default=0.6, description="of what it learned, how much it takes on")
    forcing: Literal["teacher", "diffusion"] = Field(
        default="teacher", description="diffusion for world models that imagine several frames at once"
    )
    balance: bool = Field(default=True, description="draw a task's successes as often as its failures")
    grasp_share: Share = Field(default=0.3, description="of windows, around moves of the gripper")
    action_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.0, description="share of windows that are not told their actions; guidance needs it"
    )
    lora_rank: Annotated[int, Field(strict=True, ge=0, le=1024)] = Field(
        default=0, description="0 trains every weight, more trains adapters of this rank"
    )
    save_memory: bool = Field(default=False, description="compute activations again on the way back")

    @model_validator(mode="after")
    def _something_is_drawn(self) -> Self:
        if self.fresh_share + self.older_share + self.base_share <= 0:
            raise ValueError("one of fresh_share, older_share and base_share must be above 0")
        return self


class TrustSpec(SpecModel):
    """When a world model is believed, and for how long a rollout."""

    max_latent_error: Annotated[float, Field(gt=0.0)] = Field(
        default=0.5,
        description="rollouts end where the error on held-out episodes reaches it; latents have variance 1",
    )
    older_margin: Annotated[float, Field(ge=0.0)] = Field(
        default=0.2,
        description="share by which the error on older held-out episodes may rise before the gate rejects",
    )
    min_agreement: Share = Field(
        default=0.6, description="of imagined with real ends; a task surely below it is not updated"
    )
    max_optimism: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=0.25, description="imagined minus real; a task above it in 8 episodes or more is not updated"
    )


JudgeKind = Literal["success_classifier", "vlm_http", "vlm_local"]


class VlmSpec(SpecModel):
    """Questions to a vision-language model, and what they may cost an iteration."""

    model: Annotated[str, Field(min_length=1, max_length=200)] = "gpt-4o"
    votes: Annotated[int, Field(strict=True, ge=1, le=64)] = 5
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 1.0
    agreement: Annotated[float, Field(gt=0.5, le=1.0)] = Field(
        default=0.6, description="share of the readable votes that must say the same, or nothing is known"
    )
    done: dict[str, str] = Field(
        default={}, description="by instruction: what the last picture must show, after 'Score 1 if'"
    )
    partly: dict[str, str] = Field(default={}, description="likewise, what is half a point and no success")
    max_tokens: Annotated[int, Field(strict=True, ge=16, le=16_384)] = 300
    prompt_tokens: Annotated[int, Field(strict=True, ge=1)] = Field(
        default=20_000, description="most that a question can have, set aside before it is sent"
    )
    answer_s: Annotated[float, Field(gt=0.0, le=600.0)] = 60.0
    at_once: Annotated[int, Field(strict=True, ge=1, le=256)] = 8
    max_requests: Annotated[int, Field(strict=True, ge=0)] = 5_000
    max_usd: Annotated[float, Field(ge=0.0)] | None = Field(
        default=20.0, description="of the settings' prices; null for an endpoint that costs nothing"
    )


class JudgeSpec(SpecModel):
    """Who judges, training of the classifier on labelled real frames, and what is asked of the verdicts."""

    kind: JudgeKind | Literal["ensemble"] = Field(
        default="success_classifier", description="ensemble: several, where they agree"
    )
    ensemble: Annotated[tuple[JudgeKind, ...], Field(min_length=2), Once] = ("success_classifier", "vlm_http")
    vlm: VlmSpec = VlmSpec()
    updates: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0  # a few labels make it shy
    learning_rate: LearningRate = 5e-5
    mixing: Share = Field(default=0.5, description="of what the classifier learned, how much it takes on")
    min_agreement: Share = Field(
        default=0.75, description="of verdicts on real held-out ends; a task surely below it is not updated"
    )


class TrialSpec(SpecModel):
    """When a candidate takes the champion's place, by the probability that it is the better one.

    In an iteration each policy acts `collect.episodes_per_task` times at most; `benchmarks/trial_errors.py`
    says how often these numbers decide wrongly.
    """

    enabled: bool = Field(default=True, description="false adopts every candidate untried")
    promote: Probability = Field(default=0.99, description="at this much, at once; a rollback needs it too")
    reject: Probability = Field(default=0.01, description="at this little, at once")
    settle_promote: Probability = Field(default=0.9, description="suffices once all episodes are there")
    settle_reject: Probability = Field(default=0.5, description="so little too; between, nobody knows")
    carries: Annotated[int, Field(strict=True, ge=0, le=10)] = Field(
        default=CARRIES,
        exclude_if=lambda carries: carries == CARRIES,
        description="of an undecided trial into the next iteration; 1 - settle_promote is shared out",
    )

    @model_validator(mode="after")
    def _thresholds_are_in_order(self) -> Self:
        if not self.reject <= self.settle_reject <= self.settle_promote <= self.promote:
            raise ValueError("reject <= settle_reject <= settle_promote <= promote must hold")
        return self


class UpdateSpec(SpecModel):
    """GRPO updates of the policy inside the world model."""

    updates: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 15
    groups: Count = 16
    group_size: Annotated[int, Field(strict=True, ge=2, le=1024)] = 8
    informative_groups: Annotated[int, Field(strict=True, ge=1, le=4096)] | None = Field(
        default=None, description="an update learns from so many, others wait; null learns from all there are"
    )
    most_batches: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(
        default=1,
        description="of `groups` groups, imagined in an update to find `informative_groups`, if set",
    )
    start_curriculum: bool = Field(
        default=True, description="begin more often where the outcomes of a group have differed"
    )
    temperature: Annotated[float, Field(gt=0.0, le=5.0)] = 0.5  # at 1 the nano policy hardly ever grasps
    learning_rate: LearningRate = 6e-5
    clip_low: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    clip_high: Annotated[float, Field(gt=0.0, lt=10.0)] = 0.28
    ratio_of: Literal["token", "chunk"] = Field(
        default="token", description="chunk: one ratio, the geometric mean, for all tokens of a decision"
    )
    kl: Weight = Field(default=0.0, description="of leaving the policy that the updates began with")
    imitation: Weight = Field(default=0.1, description="of imitating real successes, lest they be unlearned")
    anchor: Weight = Field(default=1.0, description="of acting as before at tasks that an update leaves out")
    epochs: Annotated[int, Field(strict=True, ge=1, le=64)] = 2
    minibatch: Annotated[int, Field(strict=True, ge=1, le=65_536)] = Field(
        default=MINIBATCH,
        exclude_if=lambda decisions: decisions == MINIBATCH,
        description="decisions, each of a chunk of actions, per optimizer step",
    )
    accumulate: Count = Field(
        default=WHOLE,
        exclude_if=lambda parts: parts == WHOLE,
        description="parts that a minibatch is cut into where memory is short",
    )
    lora_rank: Annotated[int, Field(strict=True, ge=0, le=1024)] = Field(
        default=0, description="of the adapters that learn of a vision-language policy; 0: all weights learn"
    )
    start_images: bool = Field(default=False, description="start also from the pictures of /v1/start-images")
    common_noise: bool = Field(
        default=False, description="rollouts of a group share their noise and differ by what they do alone"
    )


class DeadlineSpec(SpecModel):
    """Seconds that all attempts at a phase may take; null: 30 days to collect, else 7. Who is late fails."""

    collect_s: Deadline = None
    finetune_world_model_s: Deadline = None
    update_policy_s: Deadline = None


class IterationSpec(SpecModel):
    """One iteration: collect, finetune the world model, update the policy, or some of these."""

    phases: Annotated[tuple[PhaseName, ...], Field(min_length=1), Once] = Field(
        default=PHASES,
        description="which of the three, always in this order. Learning without collecting goes on from what "
        'is stored. ["collect"] alone, with collect.temperature 0, evaluates the policies that there are',
    )
    lineage: Lineage = Field(
        default=MAIN, description="whose champion is made better; of a lineage one iteration runs at a time"
    )
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 0
    tasks: tuple[TaskId, ...] | None = Field(default=None, description="null means every task of the station")
    steps: Annotated[int, Field(strict=True, ge=5, le=1000)] = Field(
        default=40, description="actions of an episode, real and imagined"
    )
    stop_on_success: bool = Field(
        default=False,
        description="the judge is asked after every chunk, and an episode, real or imagined, ends where it "
        "sees success; real ones can where they are collected via stepped",
    )
    collect: CollectSpec = CollectSpec()
    world_model: FinetuneSpec = FinetuneSpec()
    trust: TrustSpec = TrustSpec()
    judge: JudgeSpec = JudgeSpec()
    policy: UpdateSpec = UpdateSpec()
    trial: TrialSpec = TrialSpec()
    deadlines: DeadlineSpec = DeadlineSpec()

    @model_validator(mode="after")
    def _tasks_are_named_once(self) -> Self:
        if self.tasks is not None and (not self.tasks or len(set(self.tasks)) != len(self.tasks)):
            raise ValueError("tasks must name at least one task, each once, or be null for all")
        return self

    @model_validator(mode="after")
    def _an_arm_does_not_wait_for_its_judge(self) -> Self:
        if self.ends_real_episodes and self.judge.kind != "success_classifier":
            raise ValueError(
                "stop_on_success needs judge.kind success_classifier where phases has collect: an episode "
                f"that waits seconds for its next step is given up, and {self.judge.kind} may take longer"
            )
        return self

    @field_validator("phases")
    @classmethod
    def _phases_come_in_their_order(cls, named: tuple[PhaseName, ...]) -> tuple[PhaseName, ...]:
        return tuple(phase for phase in PHASES if phase in named)

    @property
    def ends_real_episodes(self) -> bool:
        """Whether the robot is to end episodes before their last step."""
        return self.stop_on_success and "collect" in self.phases

    def require_way(self, via: str) -> None:
        """Refuse to end real episodes early where they are collected `via` a way that cannot.

        Raises:
            SpecInvalid: nobody looks at the pictures between two chunks there.
        """
        if self.ends_real_episodes and via != "stepped":
            wanted = (
                f"expected false, because GYMNASTD_COLLECT_VIA is {via}, where robots act to the end by "
                'themselves. Collect via stepped, or leave "collect" out of phases'
            )
            raise SpecInvalid(faults={"stop_on_success": wanted})

    def document(self) -> dict[str, Any]:
        """Give the JSON document that is stored, every default written out.

        Only those of `YOUNGER`, and `trial.carries`, are left out: specs keep the digest of before these.
        """
        left_out = {name for name, default in YOUNGER.items() if getattr(self, name) == default}
        return self.model_dump(mode="json", exclude=left_out)

    def digest(self) -> str:
        """Give the sha256 of the canonical JSON document: equal specs, equal digests."""
        return json_digest(self.document(), what="the spec")


def phases_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The phases that a stored spec asks for, also one of another release."""
    return tuple(document.get("phases", PHASES))


def parse_spec(document: object) -> IterationSpec:
    """Read a spec from a JSON document.

    Raises:
        SpecUnknownField: it names a field that does not exist.
        SpecInvalid: a field is out of bounds or of the wrong type.
    """
    try:
        return IterationSpec.model_validate(document)
    except ValidationError as refused:
        raise spec_refusal(refused.errors()) from None


def spec_refusal(errors: Any) -> SpecInvalid:
    """Turn pydantic's list of errors into ours, naming each field by its dotted path."""
    faults = {dotted(error["loc"]): str(error["msg"]) for error in errors}
    unknown = any(error["type"] == "extra_forbidden" for error in errors)
    return (SpecUnknownField if unknown else SpecInvalid)(faults=faults)


def dotted(location: tuple[int | str, ...]) -> str:
    """Write the place of a fault as the user would: `collect.episodes_per_task`."""
    return ".".join(str(part) for part in location) or "body"
