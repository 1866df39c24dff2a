"""Which judge an iteration asks, as its spec says: the classifier, a vision-language model, or several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from daemon.errors import SettingInvalid
from daemon.judge_costs import costs_path
from daemon.judges.chat import ChatEndpoint
from daemon.judges.day_ledger import DayLedger
from daemon.judges.ledger import Ledger, Prices
from daemon.judges.vlm_http import Listeners, VlmConfig, VlmHttpJudge
from daemon.judges.vlm_local import VlmLocalJudge
from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.reward.ensemble import EnsembleJudge
from daemon.learning.reward.judge import Judge
from daemon.learning.reward.vlm import Rubric
from daemon.phases.context import PhaseContext
from daemon.phases.telling import ToldJudge, ToldVerdicts, outage
from daemon.spec import JudgeKind


def judge_for(context: PhaseContext, classifier: ClassifierJudge, *, say: Callable[[str], None]) -> Judge:
    """The judge that the spec names; `classifier` is this iteration's.

    Args:
        say: what people are told while an endpoint is asked, or away.

    Raises:
        SettingInvalid: the spec wants a model's verdict, and the settings name none.
        JudgeModelUnusable: the folder of the settings holds no model that can answer.
    """

    def one(kind: JudgeKind) -> Judge:
        if kind == "success_classifier":
            return classifier
        if kind == "vlm_http":
            return vlm_judge(context, say=say)
        return ToldVerdicts(local_judge(context), say)

    spec = context.spec.judge
    return EnsembleJudge([one(kind) for kind in spec.ensemble]) if spec.kind == "ensemble" else one(spec.kind)


def local_judge(context: PhaseContext) -> VlmLocalJudge:
    """The model in the folder of the settings, on this machine's device.

    Raises:
        SettingInvalid: there is no folder.
        JudgeModelUnusable: it holds no model that can answer.
    """
    folder = context.settings.judge_model_dir
    if folder is None:
        wanted = "expected the folder of a vision-language model, because the spec's judge needs it"
        raise SettingInvalid(faults={"judge_model_dir": wanted})
    device = choose_device()
    return VlmLocalJudge.load(
        folder,
        frames=context.spec.steps + 1,
        device=device,
        precision=choose_precision(device.type),
        rubrics=rubrics_of(context),
    )


def rubrics_of(context: PhaseContext) -> dict[str, Rubric]:
    """What counts as done, by instruction."""
    spec = context.spec.judge.vlm
    return {
        sentence: Rubric(done=spec.done.get(sentence), partly=spec.partly.get(sentence))
        for sentence in {*spec.done, *spec.partly}
    }


def day_ledger(context: PhaseContext, folder: Path) -> DayLedger | None:
    """The costs of a day, where the settings limit them."""
    most = context.settings.judge_usd_per_day
    return None if most is None else DayLedger(folder, max_usd=most, now=context.now)


def vlm_judge(context: PhaseContext, *, say: Callable[[str], None]) -> ToldJudge:
    """The endpoint of the settings with the questions of the spec; costs are kept per iteration.

    Raises:
        SettingInvalid: there is no endpoint.
    """
    settings, spec = context.settings, context.spec.judge.vlm
    if settings.judge_url is None:
        wanted = "expected the address of an OpenAI-compatible endpoint, because the spec's judge needs it"
        raise SettingInvalid(faults={"judge_url": wanted})
    key = settings.judge_key_file.read_text().strip() if settings.judge_key_file else None
    folder = settings.data_dir / "judge"
    costs = costs_path(settings.data_dir, context.iteration_id)
    costs.parent.mkdir(parents=True, exist_ok=True)
    prices = Prices(
        prompt=settings.judge_prompt_price,
        completion=settings.judge_completion_price,
        prompt_tokens=spec.prompt_tokens,
    )
    ledger = Ledger(
        costs,
        prices=prices,
        max_requests=spec.max_requests,
        max_usd=spec.max_usd,
        day=day_ledger(context, folder / "days"),
    )
    config = VlmConfig(
        model=spec.model,
        frames=context.spec.steps + 1,
        votes=spec.votes,
        temperature=spec.temperature,
        agreement=spec.agreement,
        max_tokens=spec.max_tokens,
        at_once=spec.at_once,
        rubrics=rubrics_of(context),
    )
    judge = VlmHttpJudge(
        ChatEndpoint(settings.judge_url, key=key, answer_s=spec.answer_s),
        ledger,
        config=config,
        cache=folder / "answers",
        listeners=Listeners(
            waiting=outage(context, say),
            answered=lambda done, total: say(f"{done} of {total} rollouts are judged"),
        ),
    )
    return ToldJudge(judge, context)
