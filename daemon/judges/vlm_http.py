"""The judge that asks a vision-language model at any OpenAI-compatible endpoint. Obeys `Judge`.

Every third frame of a rollout goes as a JPEG with one question; so many votes are asked for at once. A
question that was answered before is not asked again. No failure is a verdict: what cannot be read, or is
refused where other questions are answered, is no vote, and while the endpoint is away the phase waits, says
so, and goes on.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from daemon.judges.chat import Answers, ChatEndpoint
from daemon.judges.errors import JudgeGarbled, JudgeQuestionRefused, JudgeRefused, JudgeUnreachable
from daemon.judges.ledger import Ledger
from daemon.learning.reward.judge import Verdicts, require_films
from daemon.learning.reward.vlm import (
    PROMPT_VERSION,
    Rubric,
    Tally,
    question,
    read_answer,
    readable,
    shown,
    tally,
)
from daemon.learning.vlm_inputs import picture_of
from robot_bridge.station.durable import replace_file

log = logging.getLogger(__name__)

SHORTEST_SIDE = 256  # pixels; smaller pictures are enlarged, because models see little in 64
QUALITY = 90
OUTAGE_S = 3600.0  # how long an endpoint that is away is waited for
PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0  # between two tries; each pause is twice the one before
JITTER = 0.25  # of a pause, so that threads do not come back in step
MOST_ASKS = 3  # for the votes of one rollout, where an endpoint gives fewer choices than asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class VlmConfig:
    """What is asked, and how.

    Attributes:
        frames: of a rollout that the judge wants to see, the last ones.
        rubrics: by instruction; an instruction without one is its own.
        agreement: share of the votes that must say the same.
        at_once: rollouts that are asked about at the same time.
    """

    model: str
    frames: int
    votes: int = 5
    temperature: float = 1.0
    agreement: float = 0.6
    max_tokens: int = 300
    at_once: int = 8
    rubrics: Mapping[str, Rubric] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who is told how the asking goes; what they raise ends it.

    Attributes:
        waiting: told why while the endpoint is away, and None when it answers again.
        answered: told after every verdict how many there are, and of how many.
    """

    waiting: Callable[[str | None], None] = lambda text: None
    answered: Callable[[int, int], None] = lambda done, total: None


class VlmHttpJudge:
    """Asks; remembers; waits.

    Args:
        cache: folder of answers, by what was asked.
    """

    def __init__(
        self,
        endpoint: ChatEndpoint,
        ledger: Ledger,
        *,
        config: VlmConfig,
        cache: Path,
        listeners: Listeners = Listeners(),
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._endpoint, self._ledger, self._config = endpoint, ledger, config
        self._cache, self._listeners, self._sleep = cache, listeners, sleep
        self._telling, self._retrying = threading.Lock(), threading.Lock()
        self._answers = False  # whether it has answered anything yet
        cache.mkdir(parents=True, exist_ok=True)

    @property
    def frames(self) -> int:
        return self._config.frames

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        """Verdicts on uint8 [B, F, 3, H, W].

        Raises:
            BadTensor: frames of another type or shape, or not one instruction each.
            JudgeUnreachable: the endpoint stayed away for longer than an hour.
            JudgeRefused: it does not want our questions; JudgeQuestionRefused: none of these, nor any before.
            JudgeBudgetSpent, JudgeDaySpent: the iteration, or anybody today, may not ask any more.
        """
        require_films(frames, instructions)
        with ThreadPoolExecutor(self._config.at_once, thread_name_prefix="judge") as pool:
            asked = [
                pool.submit(self._verdict_or_refusal, *one)
                for one in zip(frames.cpu(), instructions, strict=True)
            ]
            try:
                for done, one in enumerate(as_completed(asked), start=1):
                    one.result()
                    self._listeners.answered(done, len(asked))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # nobody wants the rest any more
                raise
            tallies = self._all_but_refused([one.result() for one in asked])
        return Verdicts(
            success=torch.tensor([one.success for one in tallies], dtype=torch.bool),
            known=torch.tensor([one.known for one in tallies], dtype=torch.bool),
            probability=torch.tensor([one.probability for one in tallies], dtype=torch.float32),
            votes=torch.tensor([one.votes for one in tallies], dtype=torch.int64),
        )

    def _verdict_or_refusal(self, frames: Tensor, instruction: str) -> Tally | JudgeQuestionRefused:
        try:
            return self._verdict(frames, instruction)
        except JudgeQuestionRefused as refused:
            log.warning("judge refuses a question reason=%s", refused)
            return refused

    def _all_but_refused(self, given: Sequence[Tally | JudgeQuestionRefused]) -> list[Tally]:
        """The verdicts, with no vote where a question was refused that others were not.

        Raises:
            JudgeQuestionRefused: nothing was answered yet, so it is hardly the question.
        """
        refused = [one for one in given if isinstance(one, JudgeQuestionRefused)]
        self._answers = self._answers or len(refused) < len(given)
        if refused and not self._answers:
            raise refused[0]
        nothing = self._counted((), Rubric())
        return [nothing if isinstance(one, JudgeQuestionRefused) else one for one in given]

    def _verdict(self, frames: Tensor, instruction: str) -> Tally:
        config = self._config
        rubric = config.rubrics.get(instruction, Rubric())
        pictures = [jpeg_of(frames[place]) for place in shown(len(frames))]
        text = question(instruction, rubric, pictures=len(pictures))
        key = self._key(text, pictures)
        texts = self._remembered(key)
        if texts is not None:
            self._ledger.note_cached()
            return self._counted(texts, rubric)
        texts = self._asked(body_of(text, pictures, config=config))[: config.votes]
        found = self._counted(texts, rubric)
        if found.known or (len(texts) == config.votes and all(readable(one, rubric) for one in texts)):
            replace_file(self._cache / f"{key}.json", json.dumps({"texts": texts}).encode())
        return found

    def _counted(self, texts: Sequence[str], rubric: Rubric) -> Tally:
        """The votes that can be read."""
        scores = [read_answer(answer, rubric) for answer in texts]
        missing = self._config.votes - len(scores)
        return tally(scores + [None] * missing, agreement=self._config.agreement)

    def _asked(self, body: dict[str, Any]) -> list[str]:
        """All votes on one rollout; fewer, or none, where the endpoint gives nothing readable."""
        texts: list[str] = []
        for _ in range(MOST_ASKS):
            missing = self._config.votes - len(texts)
            if missing <= 0:
                break
            try:
                texts += self._patiently({**body, "n": missing}).texts
            except JudgeGarbled as garbled:
                log.warning("judge answer unreadable reason=%s", garbled)
        return texts

    def _patiently(self, body: dict[str, Any]) -> Answers:
        """One request, sent again and again while the endpoint is away.

        One that falls silent may charge for every question, so it is asked again about one rollout at a time.
        The wait for a turn is no outage: somebody else is being answered, or waits.
        """
        waited, pause, may_cost = 0.0, PAUSE_S, False
        while True:
            try:
                with self._retrying if may_cost else nullcontext():
                    begun = time.monotonic()
                    answers = self._paid(body)
            except JudgeUnreachable as away:
                waited, may_cost = waited + time.monotonic() - begun, away.may_cost
                if waited >= OUTAGE_S:
                    raise
                with self._telling:
                    self._listeners.waiting(f"waiting for the judge since {waited:.0f} s: {away}")
                wait_s = min(LONGEST_PAUSE_S, away.after_s or pause) * (1 + JITTER * random.random())
                self._sleep(wait_s)
                waited, pause = waited + wait_s, 2 * pause
            else:
                if waited:
                    with self._telling:
                        self._listeners.waiting(None)
                return answers

    def _paid(self, body: dict[str, Any]) -> Answers:
        """One request that the budget allows; what may have cost stays entered."""
        reserved = self._ledger.reserve(completion_tokens=self._config.max_tokens * body["n"])
        try:
            answers = self._endpoint.ask(body)
        except JudgeRefused:
            self._ledger.refund(reserved)
            raise
        except JudgeUnreachable as away:
            if not away.may_cost:
                self._ledger.refund(reserved)
            raise
        if answers.tokens is not None:  # who does not say what it cost has cost the most it could
            prompt, completion = answers.tokens
            self._ledger.settle(reserved, prompt_tokens=prompt, completion_tokens=completion)
        return answers

    def _key(self, text: str, pictures: Sequence[bytes]) -> str:
        """sha256 of everything that an answer depends on."""
        config = self._config
        how = [config.model, config.votes, config.temperature, config.max_tokens]
        digest = hashlib.sha256(json.dumps([PROMPT_VERSION, self._endpoint.url, *how, text]).encode())
        for picture in pictures:
            digest.update(hashlib.sha256(picture).digest())
        return digest.hexdigest()

    def _remembered(self, key: str) -> list[str] | None:
        file = self._cache / f"{key}.json"
        try:
            return [str(text) for text in json.loads(file.read_text())["texts"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None


def body_of(text: str, pictures: Sequence[bytes], *, config: VlmConfig) -> dict[str, Any]:
    """The request, without the number of choices."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    for picture in pictures:
        url = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
        content.append({"type": "image_url", "image_url": {"url": url}})
    return {
        "model": config.model,
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "messages": [{"role": "user", "content": content}],
    }


def jpeg_of(frame: Tensor) -> bytes:
    """A frame uint8 [3, H, W] as JPEG, enlarged without smoothing where it is small."""
    picture = picture_of(frame)
    times = -(-SHORTEST_SIDE // min(picture.size))
    if times > 1:
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()
