"""Which starts the next groups begin from: all in turn, or those whose groups will tell most apart.

A group teaches by the differences between its rollouts, so one whose rollouts all succeed, or all fail, was
imagined for nothing. What a start did before predicts that, and so does what the others of its instruction
did: its success rate p has the prior Beta(4 m, 4 (1 - m)), m being the success rate of the instruction, and
after a successes and b failures the posterior Beta(4 m + a, 4 (1 - m) + b). The posterior mean of p(1 - p),
the variance of one verdict, is the start's *promise*. So a task that hardly ever fails any more leaves the
groups to those that do. Counts fade, because the policy moves on; no start is given up for good.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FADING = 0.8  # of what a start's earlier groups said, each time that it is drawn again
OF_OTHERS = 4.0  # verdicts that the others of its instruction are worth to a start


class StartDraws:
    """Draws numbers of starts; all of its memory is in `counts`, int64 [M], and `outcomes`, float64 [M, 2].

    Args:
        instructions: of each of the M starts.
        by_promise: draw by promise; otherwise instructions take turns, and within an instruction every start
            comes once before any comes again.
    """

    def __init__(
        self, instructions: Sequence[str], *, generator: torch.Generator, by_promise: bool = False
    ) -> None:
        sentences = list(dict.fromkeys(instructions))
        self._of = torch.tensor([sentences.index(sentence) for sentence in instructions])  # [M]
        self._sentences = len(sentences)
        self._generator = generator
        self._by_promise = by_promise
        self.counts = torch.zeros(len(instructions), dtype=torch.int64)
        self.outcomes = torch.zeros(len(instructions), 2, dtype=torch.float64)  # successes, failures

    def draw(self, groups: int) -> list[int]:
        """The starts of the next so many groups."""
        return self._by_promises(groups) if self._by_promise else self._in_turn(groups)

    def learn(self, rows: Sequence[int], successes: Sequence[int], known: Sequence[int]) -> None:
        """What became of a group from each of these starts: so many successes of so many known verdicts."""
        for row, good, judged in zip(rows, successes, known, strict=True):
            if judged:
                self.outcomes[row] *= FADING
                self.outcomes[row] += torch.tensor([good, judged - good], dtype=torch.float64)

    def promises(self) -> Tensor:
        """Expected variance of one verdict at each start, float64 [M]."""
        every = torch.ones(self._sentences, 2, dtype=torch.float64).index_add_(0, self._of, self.outcomes)
        rates = every / every.sum(1, keepdim=True)  # of success and failure, by instruction
        a, b = (OF_OTHERS * rates[self._of] + self.outcomes).unbind(1)
        return a * b / ((a + b) * (a + b + 1))

    def _in_turn(self, groups: int) -> list[int]:
        drawn: list[int] = []
        for _ in range(groups):
            of_sentence = torch.zeros(self._sentences, dtype=torch.int64).index_add_(0, self._of, self.counts)
            own = (self._of == int(of_sentence.argmin())).nonzero().squeeze(1)  # the first with the fewest
            fewest = own[self.counts[own] == self.counts[own].min()]
            drawn.append(int(fewest[self._chosen(torch.ones(len(fewest), dtype=torch.float64))]))
            self.counts[drawn[-1]] += 1
        return drawn

    def _by_promises(self, groups: int) -> list[int]:
        """One that comes twice at once is worth half: its outcome would have told already."""
        drawn: list[int] = []
        times = torch.zeros(len(self.counts), dtype=torch.float64)
        promises = self.promises()
        for _ in range(groups):
            drawn.append(self._chosen(promises / (1 + times)))
            times[drawn[-1]] += 1
            self.counts[drawn[-1]] += 1
        return drawn

    def _chosen(self, weights: Tensor) -> int:
        return int(torch.multinomial(weights, 1, generator=self._generator))
