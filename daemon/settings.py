"""Where a process runs: paths, addresses, counts of processes. Two machines would differ here.

Read from the environment, prefix `GYMNASTD_`; a name that is not a setting is an error, because a
misspelt one would otherwise be a silent default. What an iteration does is in `daemon/spec.py`.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from daemon.errors import SettingInvalid, SettingUnknown
from daemon.setting_types import (
    DeviceNames,
    HostAndPort,
    HttpAddress,
    HttpAddresses,
    LogLevel,
    WebhookList,
)
from robot_bridge.addresses import is_loopback
from robot_bridge.autoeval.tasks import ENDPOINT, REPO, Corner, Rotation

PREFIX = "GYMNASTD_"


class Settings(BaseSettings):
    """Settings of one process. Build with `load_settings()` or, in tests, with keywords.

    Raises:
        SettingUnknown: the environment holds a `GYMNASTD_` name that is none of these.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    data_dir: Path = Field(
        default=Path("data"), description="blobs, checkpoints, the SQLite file, work files"
    )
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL; unset means SQLite in data_dir"
    )
    database_password_file: Path | None = Field(
        default=None, description="holds the password for database_url, so that it is in no environment"
    )
    host: str = Field(default="127.0.0.1", description="address the REST API binds to")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=8400, description="0 takes a free port")
    tls_cert_file: Path | None = Field(
        default=None, description="certificate chain, PEM: the REST API speaks https"
    )
    tls_key_file: Path | None = Field(default=None, description="its private key, PEM")
    trust_network: bool = Field(
        default=False,
        description="API and policy may listen beyond this machine without TLS and tokens: a proxy, or a "
        "network of their own, keeps strangers out",
    )
    rate_limit_per_s: Annotated[float, Field(gt=0.0)] = Field(
        default=100.0, description="calls of one token, or of one peer without; three seconds' worth at once"
    )
    token_file: Path | None = Field(
        default=None, description="holds the token that commands show the REST API"
    )
    station_url: HttpAddresses = Field(
        default="http://127.0.0.1:8401",
        description="the robot station to collect from; several, separated by commas, share the work",
    )
    station_token_file: Path | None = Field(
        default=None, description="holds the bearer token that the stations know"
    )
    station_ca_file: Path | None = Field(
        default=None, description="certificates that stations with https are checked against"
    )
    collect_via: Literal["stepped", "callback", "autoeval"] = Field(
        default="stepped",
        description="who runs the episodes: we, step by step, the station, asking our policy, or AutoEval",
    )
    human_wait_s: Annotated[float, Field(gt=0.0)] = Field(
        default=259_200.0,
        description="how long a robot waits for somebody at a stretch, seconds; then its phase fails. Three "
        "days: a weekend, and a while to get there",
    )
    robot_episodes_per_day: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="robots record so many episodes in any 24 hours, all together; then they wait",
    )
    policy_bind: HostAndPort = Field(
        default="127.0.0.1:0",
        description="where callback stations find our policy; port 0: a free one",
    )
    policy_public_url: HttpAddress | None = Field(
        default=None, description="the same as stations see it, when it differs (a tunnel, another interface)"
    )
    autoeval_url: HttpAddress | None = Field(default=None, description="AutoEval's job scheduler")
    autoeval_hub: HttpAddress = Field(
        default=ENDPOINT, description="the hub that AutoEval publishes its recordings on"
    )
    autoeval_dataset: str = Field(default=REPO, description="the dataset there, as owner/name")
    autoeval_rotation: Rotation = Field(
        default="raw",
        description="raw: comparable with published results; bridge_compensated: moves as in Bridge V2",
    )
    autoeval_boxes: dict[str, tuple[Corner, Corner]] = Field(
        default={},
        description="lowest and highest corner, metres, per task, of cells that are not AutoEval's own",
    )
    autoeval_poll_s: Annotated[float, Field(gt=0.0, le=600.0)] = Field(
        default=20.0, description="how often a job is looked at"
    )
    autoeval_job_wait_s: Annotated[float, Field(gt=0.0)] = Field(
        default=43_200.0,
        description="a job that is not over by then is cancelled; waiting for people is free",
    )
    autoeval_join_wait_s: Annotated[float, Field(ge=0.0)] = Field(
        default=1800.0, description="how long recordings are waited for after a job"
    )
    gateway_bind: HostAndPort = Field(
        default="127.0.0.1:8402", description="where AutoEval asks for actions; the same after a restart"
    )
    gateway_public_url: HttpAddress | None = Field(
        default=None, description="the same as AutoEval sees it: a tunnel or a reverse proxy"
    )
    judge_url: HttpAddress | None = Field(
        default=None,
        description="OpenAI-compatible endpoint, up to and with /v1, for specs whose judge is a model there",
    )
    judge_key_file: Path | None = Field(default=None, description="holds the endpoint's key")
    judge_model_dir: Path | None = Field(
        default=None, description="transformers folder of a vision-language model, for the judge vlm_local"
    )
    judge_prompt_price: Annotated[float, Field(ge=0.0)] = Field(
        default=0.0, description="US dollars per million tokens of questions, pictures included"
    )
    judge_completion_price: Annotated[float, Field(ge=0.0)] = Field(
        default=0.0, description="US dollars per million tokens of answers"
    )
    judge_usd_per_day: Annotated[float, Field(ge=0.0)] | None = Field(
        default=None, description="US dollars for judges in a day (UTC), all iterations of data_dir together"
    )
    device_hours_per_day: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None,
        description="hours that learning phases keep accelerators, or processors, busy in a day (UTC), all "
        "together; then they wait",
    )
    device_hours_per_iteration: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="the same of one iteration; then it waits until this is raised"
    )
    preset: Literal["nano"] = Field(default="nano", description="the size of the models that are learned")
    imagination_engine: Literal["eager", "compiled", "graphs"] = Field(
        default="eager", description="how rollouts run; graphs needs an NVIDIA GPU, compiled a compiler"
    )
    worker_count: Annotated[int, Field(ge=0, le=64)] = Field(
        default=1, description="worker processes that serve starts; 0 when they are started by hand"
    )
    worker_devices: DeviceNames = Field(
        default="",
        description="which accelerator each of these workers sees, as CUDA_VISIBLE_DEVICES names them, "
        "separated by commas; more workers begin with the first again. Empty: all see all",
    )
    threads_per_worker: Annotated[int, Field(ge=1, le=256)] = Field(
        default=2, description="CPU threads of torch"
    )
    lease_ttl_s: Annotated[float, Field(gt=0.0, le=3600.0)] = Field(
        default=15.0, description="a worker that is silent this long has lost its phase run"
    )
    stall_after_s: Annotated[float, Field(gt=0.0)] = Field(
        default=900.0, description="a phase that reports no progress this long is given up by its worker"
    )
    poll_s: Annotated[float, Field(gt=0.0, le=60.0)] = Field(
        default=0.5, description="how often an idle worker asks for a phase run"
    )
    min_free_disk_mb: Annotated[int, Field(ge=0)] = Field(
        default=500,
        description="with less room under data_dir no phase is begun and no episode collected; with less "
        "than three times as much, disk_low is told",
    )
    backup_dir: Path | None = Field(
        default=None, description="serve backs up to it every day; unset: nobody does by itself"
    )
    upkeep_at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = Field(
        default="03:00", description="when backup and gc are due, hour and minute (UTC)"
    )
    backups_kept: Annotated[int, Field(ge=1)] = Field(
        default=14, description="so many backups stay in backup_dir"
    )
    iterations_kept: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="serve lets go of what older iterations left, daily after the backup; unset: no gc by "
        "itself, and `gymnastd gc` keeps ten",
    )
    episode_days_kept: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="gc lets go of older episodes too; unset: of none"
    )
    webhooks: WebhookList = Field(
        default=(),
        description="who is told of events: a JSON list of {name, url, events, secret_file}",
    )
    log_level: LogLevel = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR")
    log_format: Literal["text", "json"] = Field(
        default="text", description="lines of daemon and workers: for people, or one JSON object each"
    )

    @model_validator(mode="before")
    @classmethod
    def _environment_is_known(cls, values: Any) -> Any:
        known = tuple(sorted(PREFIX + name.upper() for name in cls.model_fields))
        found = (name for name in os.environ if name.upper().startswith(PREFIX))
        unknown = sorted(name for name in found if name.upper() not in known)
        if unknown:
            raise SettingUnknown(names=unknown, known=known)
        return values

    @property
    def devices(self) -> tuple[str, ...]:
        """The accelerators of the workers, in their order; none where nobody says."""
        return tuple(self.worker_devices.split(",")) if self.worker_devices else ()

    @property
    def stations(self) -> tuple[str, ...]:
        """The addresses of all stations."""
        return tuple(self.station_url.split(","))

    @field_validator("autoeval_boxes")
    @classmethod
    def _boxes_are_boxes(cls, boxes: dict[str, tuple[Corner, Corner]]) -> dict[str, tuple[Corner, Corner]]:
        for task, (low, high) in boxes.items():
            if not all(lowest < highest for lowest, highest in zip(low, high, strict=True)):
                raise ValueError(f"expected the lowest corner of {task} before the highest")
        return boxes

    @model_validator(mode="after")
    def _autoeval_is_somewhere(self) -> Self:
        if self.collect_via == "autoeval" and self.autoeval_url is None:
            raise ValueError("collect_via autoeval needs GYMNASTD_AUTOEVAL_URL, the job scheduler's address")
        return self

    @model_validator(mode="after")
    def _strangers_stay_out(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("GYMNASTD_TLS_CERT_FILE and GYMNASTD_TLS_KEY_FILE belong together")
        if not (self.trust_network or self.tls_cert_file or is_loopback(self.host)):
            raise ValueError(
                f"host {self.host} is not loopback; give GYMNASTD_TLS_CERT_FILE and GYMNASTD_TLS_KEY_FILE "
                "and make a token, or set GYMNASTD_TRUST_NETWORK=true if something else keeps strangers out"
            )
        return self


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; keywords win over it.

    Raises:
        SettingUnknown: a `GYMNASTD_` name is none of ours.
        SettingInvalid: a value cannot be, with the name of each.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as refused:
        faults = {
            str(error["loc"][0]) if error["loc"] else "settings": error["msg"] for error in refused.errors()
        }
        raise SettingInvalid(faults=faults) from None
    except SettingsError as unreadable:  # a value that is to be JSON and is not; its message names the field
        raise SettingInvalid(faults={"settings": str(unreadable)}) from None
