"""What can go wrong with a judge that is asked over a wire.

JudgeError (DaemonError)
├── JudgeUnreachable     no answer, busy, 5xx: worth waiting for
├── JudgeRefused         4xx: the key, the address or the model is wrong
│   └── JudgeQuestionRefused   400, 413, 422: it may be this question alone
├── JudgeGarbled         an answer that is none
├── JudgeModelUnusable   vlm_local.py: a folder without a model that can answer
├── JudgeBudgetSpent     the iteration may not ask any more
└── JudgeDaySpent        nobody may ask any more today
"""

from daemon.errors import DaemonError
from daemon.learning.reward.judge import JudgeExhausted


class JudgeError(DaemonError):
    code = "judge_error"


class JudgeUnreachable(JudgeError):
    """Nobody answers, or asks us to come back later."""

    code = "judge_unreachable"
    retryable = True

    def __init__(
        self, *, url: str, reason: str, after_s: float | None = None, may_cost: bool = False
    ) -> None:
        super().__init__(
            f"the judge at {url} does not answer: {reason}. The phase waits for it and goes on by itself; "
            "see to the endpoint if this lasts."
        )
        self.after_s = after_s  # when it asked to be asked again
        self.may_cost = may_cost  # the question may have been worked on all the same


class JudgeRefused(JudgeError):
    """The endpoint understood and says no."""

    code = "judge_refused"

    def __init__(self, *, url: str, status: int, said: str) -> None:
        super().__init__(
            f"the judge at {url} refuses with status {status}: {said}. "
            "Check the model's name in the spec, and the address and the key file in the settings."
        )


class JudgeQuestionRefused(JudgeRefused):
    """The endpoint does not want this question; others it may answer."""

    code = "judge_question_refused"


class JudgeGarbled(JudgeError):
    """An answer came, and it is not one of chat completions."""

    code = "judge_garbled"

    def __init__(self, *, url: str, found: str) -> None:
        super().__init__(
            f"the judge at {url} answered with {found}, expected a JSON object with choices. "
            "If this repeats, the address is not that of an OpenAI-compatible endpoint."
        )


class JudgeBudgetSpent(JudgeError, JudgeExhausted):
    """The budget of an iteration is used up."""

    code = "judge_budget_spent"

    def __init__(self, *, what: str, spent: float, budget: float) -> None:
        super().__init__(
            f"the judge's budget of this iteration is spent: {spent:g} of {budget:g} {what}. "
            "Raise judge.vlm in the spec, or let a success classifier judge."
        )


class JudgeDaySpent(JudgeError, JudgeExhausted):
    """The budget of a day is used up, by all iterations together."""

    code = "judge_day_spent"

    def __init__(self, *, spent: float, budget: float) -> None:
        super().__init__(
            f"the judges' budget of today is spent: {spent:g} of {budget:g} dollars. "
            "Wait for tomorrow (UTC), or raise GYMNASTD_JUDGE_USD_PER_DAY."
        )
