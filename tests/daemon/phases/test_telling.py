"""What phases tell: an outage once, its end once, a spent budget once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from daemon.judges.errors import JudgeBudgetSpent, JudgeDaySpent
from daemon.learning.errors import BadTensor
from daemon.learning.reward.judge import Verdicts, require_films
from daemon.phases.judges import judge_for
from daemon.phases.telling import Spell, ToldJudge, ToldUpdates, ToldVerdicts, tell
from storage import events
from tests.daemon.judges.emulator import Endpoint, running
from tests.daemon.phases.conftest import SMALL, Lab, a_coin
from tests.daemon.phases.test_judges import asking


def told(lab: Lab) -> list[str]:
    with lab.database.read() as session:
        kinds = [event.kind for event in events.after(session, 0)]
    return [kind for kind in kinds if not kind.startswith(("iteration_", "phase_"))]


def grey(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.full((1, frames, 3, 64, 64), 90 + seed, dtype=torch.uint8)


def test_what_lasts_is_told_at_its_beginning_and_at_its_end(lab: Lab) -> None:
    lab.request(SMALL)
    spell = Spell(lab.context("collect"), begins="judge_away", ends="judge_back")
    spell.off()
    assert told(lab) == [], "what never began does not end"
    for _ in range(3):
        spell.on(reason="503")
    spell.off()
    spell.off()
    spell.on(reason="503")
    assert told(lab) == ["judge_away", "judge_back", "judge_away"]


def test_an_event_of_a_phase_is_one_of_its_iteration(lab: Lab) -> None:
    lab.request(SMALL)
    context = lab.context("collect")
    tell(context, "judge_away", reason="503")
    with lab.database.read() as session:
        (event,) = events.after(session, 0, kinds=["judge_away"])
    assert (event.iteration, event.facts) == (context.iteration_number, {"reason": "503"})


def test_a_judge_that_goes_away_and_comes_back_is_told_of(lab: Lab) -> None:
    with running(Endpoint()) as endpoint:
        endpoint.days = ["busy", "ok", "ok"]
        judge = judge_for(asking(lab, "vlm_http", endpoint.url), a_coin(("a",)), say=str)
        judge.judge(grey(judge.frames), ["open the drawer"])
        assert told(lab) == ["judge_away", "judge_back"]
        judge.judge(grey(judge.frames, seed=1), ["open the drawer"])
        assert told(lab) == ["judge_away", "judge_back"], "an answer at once is no return"


def test_a_spent_budget_is_told_once_and_still_refused(lab: Lab) -> None:
    with running(Endpoint()) as endpoint:
        context = asking(lab, "vlm_http", endpoint.url, max_requests=0)
        judge = judge_for(context, a_coin(("a",)), say=str)
        for seed in range(2):
            with pytest.raises(JudgeBudgetSpent):
                judge.judge(grey(judge.frames, seed), ["open the drawer"])
    assert told(lab) == ["judge_budget_spent"]


def test_a_budget_of_the_day_that_is_spent_is_told_as_well(lab: Lab) -> None:
    class Spent:
        frames = 2

        def judge(self, frames: torch.Tensor, instructions: list[str]) -> None:
            raise JudgeDaySpent(spent=3.0, budget=3.0)

    lab.request(SMALL)
    judge = ToldJudge(Spent(), lab.context("collect"))
    with pytest.raises(JudgeDaySpent):
        judge.judge(grey(2), ["open the drawer"])
    assert told(lab) == ["judge_budget_spent"]


def test_an_update_tells_of_every_chunk_because_it_may_take_longer_than_a_phase_may_be_silent(
    lab: Lab,
) -> None:
    lab.request(SMALL)
    context, said = lab.context("update_policy"), list[tuple[float, str]]()
    total = context.spec.policy.updates
    told = ToldUpdates(replace(context, report=lambda share, text: said.append((share, text))), chunks=8)
    told.chunk(8)
    told.step(0, 3)
    told.update(1, {"imagined_success": 0.5})
    told.update(2, {})
    assert said == [
        (0.0, f"update 0 of {total}, imagining the next, chunk 8 of 8"),
        (0.0, f"update 0 of {total}, learning the next, step 3"),
        (1 / total, f"update 1 of {total}, imagined success 0.50"),
        (2 / total, f"update 2 of {total}, nothing judged"),
    ]


class DarkIsSuccess:
    """Judges by the mean of the last picture, and refuses what is no batch."""

    frames = 1

    def judge(self, frames: torch.Tensor, instructions: Sequence[str]) -> Verdicts:
        require_films(frames, instructions)
        mean = frames[:, -1].float().mean((1, 2, 3))
        return Verdicts(success=mean < 100, known=mean != 100, probability=1 - mean / 255)


def test_a_slow_judge_tells_of_every_verdict_and_says_the_same() -> None:
    said: list[str] = []
    slow, frames = ToldVerdicts(DarkIsSuccess(), said.append), grey(1).repeat(3, 1, 1, 1, 1)
    frames[0], frames[1] = 0, 100
    for count in (3, 0):
        asked = frames[:count], ["open the drawer"] * count
        own, plain = slow.judge(*asked), DarkIsSuccess().judge(*asked)
        for name in ("success", "known", "probability"):
            assert torch.equal(getattr(own, name), getattr(plain, name))
    assert said == ["1 of 3 rollouts are judged", "2 of 3 rollouts are judged", "3 of 3 rollouts are judged"]
    assert slow.frames == 1
    with pytest.raises(BadTensor):
        slow.judge(frames, ["one sentence for three"])
