"""A policy as the loop uses it: pictures and sentences in, action chunks and their log-probabilities out.

It owns what must travel together, network, tokenizer, binning and what its actions mean, and keeps it in one
checkpoint of kind "policy". Training lives in `sft.py` and `policy_update.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from daemon.learning.devices import autocast
from daemon.learning.errors import BadTensor, LearningError
from daemon.learning.policy.contract import ActionContract
from daemon.learning.policy.nano_vla import NanoVLA, NanoVLAConfig
from daemon.learning.policy.tokenizer import (
    build_tokenizer,
    from_json,
    to_json,
    tokenize,
)
from daemon.learning.policy.tokens import ActionBinning, BinningInvalid, nano_binning
from daemon.learning.state import CheckpointUnreadable, half, load_state, save_state

KIND = "policy"
BRIDGE = ActionContract()
SIZES = (
    "image_size",
    "vocabulary",
    "max_tokens",
    "chunk",
    "action_dims",
    "bins",
    "width",
    "layers",
    "heads",
)


class AdaptersUnknown(LearningError):
    """Adapters were asked for of a policy that has no place for them."""

    code = "adapters_unknown"

    def __init__(self) -> None:
        super().__init__(
            "this policy has no adapters, only one with a vision-language backbone has: all of its weights "
            "learn. Set lora_rank to 0."
        )


class BadTemperature(LearningError):
    """A sampling temperature that no distribution has."""

    code = "bad_temperature"

    def __init__(self, *, temperature: float, expected: str) -> None:
        super().__init__(f"temperature should be {expected}, found {temperature}. Correct the spec.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionChunk:
    """What a policy decided, each [B, L, A]: tokens int64, actions float32, log_probs float32."""

    tokens: Tensor
    actions: Tensor
    log_probs: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTokens:
    """Given tokens seen by the present policy: log_probs and entropy in nats, float32 [B, L, A] each."""

    log_probs: Tensor
    entropy: Tensor


class Policy:
    """Network, tokenizer and binning as one. `precision` is the autocast type of forward passes."""

    takes_adapters: ClassVar[bool] = False

    def __init__(
        self,
        model: NanoVLA,
        tokenizer: PreTrainedTokenizerFast,
        *,
        binning: ActionBinning,
        contract: ActionContract = BRIDGE,
        precision: torch.dtype = torch.float32,
    ) -> None:
        if (model.config.bins, model.config.action_dims) != (binning.bins, binning.dims):
            sizes = f"{model.config.action_dims} dimensions of {model.config.bins} bins"
            raise BinningInvalid(reason=f"the network has {sizes}, it has {binning.dims} of {binning.bins}")
        self.model = model
        self.tokenizer = tokenizer
        self.binning = binning
        self.contract = contract
        self.precision = precision

    @property
    def device(self) -> torch.device:
        return self.model.device  # type: ignore[no-any-return]

    @property
    def chunk(self) -> int:
        """L, the number of actions decided at once."""
        return int(self.model.config.chunk)

    @property
    def image_size(self) -> int:
        """Pixels on a side of the pictures that it decides by."""
        return int(self.model.config.image_size)

    def frozen_copy(self) -> Policy:
        """The policy as it is now, for comparing with later; nobody trains it."""
        model = copy.deepcopy(self.model).requires_grad_(False).eval()
        return type(self)(
            model,
            self.tokenizer,
            binning=self.binning,
            contract=self.contract,
            precision=self.precision,
        )

    def adapt(self, *, rank: int, seed: int) -> None:
        """Train low-rank adapters from now on.

        Raises:
            AdaptersUnknown: a network of this kind has none.
        """
        raise AdaptersUnknown

    @torch.no_grad()
    def act(
        self,
        images: Tensor,
        instructions: Sequence[str],
        *,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> ActionChunk:
        """Decide one chunk of L actions per image; the network is put in evaluation mode.

        Args:
            images: uint8 [B, 3, H, W], or float in [0, 1].
            instructions: B sentences.
            temperature: 0 takes the likeliest bins (log_probs are then those at temperature 1).
            generator: source of the draw, on any device; unused at temperature 0.

        Raises:
            BadTensor: images and instructions differ in number or shape, or logits are not finite.
            BadTemperature: below 0 or not finite.
        """
        if not 0 <= temperature < float("inf"):
            raise BadTemperature(temperature=temperature, expected="0 for greedy, or positive")
        self.model.eval()
        logits = self.logits(images, instructions)  # [B, L, A, bins]
        if not bool(torch.isfinite(logits).all()):
            raise BadTensor(name="policy logits", expected="finite numbers", found="NaN or infinity")
        log_all = F.log_softmax(logits / (temperature or 1.0), dim=-1)
        tokens = log_all.argmax(-1) if temperature == 0 else _draw(log_all, generator)  # [B, L, A]
        chosen = log_all.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return ActionChunk(tokens=tokens, actions=self.binning.decode(tokens), log_probs=chosen)

    def score(
        self, images: Tensor, instructions: Sequence[str], *, tokens: Tensor, temperature: float
    ) -> ScoredTokens:
        """Log-probabilities of given tokens [B, L, A] and the entropy of their distributions, with gradient.

        Raises:
            BadTensor: tokens are not [B, L, A], or images and instructions do not fit each other.
            BadTemperature: not positive and finite.
        """
        if not 0 < temperature < float("inf"):
            raise BadTemperature(temperature=temperature, expected="positive")
        logits = self.logits(images, instructions)  # [B, L, A, bins]
        if tokens.shape != logits.shape[:-1]:
            found, expected = str(list(tokens.shape)), str(list(logits.shape[:-1]))
            raise BadTensor(name="tokens", expected=expected, found=found)
        log_all = F.log_softmax(logits / temperature, dim=-1)
        return ScoredTokens(
            log_probs=log_all.gather(-1, tokens.to(logits.device).unsqueeze(-1)).squeeze(-1),
            entropy=-(log_all.exp() * log_all).sum(-1),
        )

    def log_probs(
        self, images: Tensor, instructions: Sequence[str], tokens: Tensor, *, temperature: float
    ) -> Tensor:
        """`score` without the entropy: float32 [B, L, A]."""
        return self.score(images, instructions, tokens=tokens, temperature=temperature).log_probs

    def logits(self, images: Tensor, instructions: Sequence[str]) -> Tensor:
        """Float32 logits [B, L, A, bins], with gradient.

        Raises:
            BadTensor: the numbers of images and instructions differ, or images have another size.
        """
        if len(images) != len(instructions):
            found = f"{len(instructions)} for {len(images)} images"
            raise BadTensor(name="instructions", expected="one per image", found=found)
        ids, mask = tokenize(self.tokenizer, instructions, device=self.device)
        with autocast(self.device, self.precision):
            logits: Tensor = self.model(images.to(self.device), ids, mask)
        return logits.float()

    def save(self, path: Path, card: Mapping[str, Any]) -> None:
        """Write one checkpoint file with float16 weights."""
        config = {
            "model": {name: getattr(self.model.config, name) for name in SIZES},
            "binning": asdict(self.binning),
            "contract": self.contract.document(),
        }
        extra = {"tokenizer": to_json(self.tokenizer)}
        save_state(path, half(self.model.state_dict()), kind=KIND, config=config, card=card, extra=extra)

    @classmethod
    def load(
        cls, path: Path, *, device: torch.device | None = None, precision: torch.dtype = torch.float32
    ) -> Policy:
        """Read a checkpoint of kind "policy".

        Raises:
            CheckpointUnreadable: not a policy checkpoint, or its parts do not fit together.
        """
        state = load_state(path, kind=KIND)
        try:
            binning = state.config["binning"]
            model = NanoVLA(NanoVLAConfig(**{name: state.config["model"][name] for name in SIZES}))
            model.load_state_dict(state.tensors)
            return cls(
                model.to(device or torch.device("cpu")).eval(),
                from_json(state.extra["tokenizer"]),
                binning=ActionBinning(
                    low=tuple(binning["low"]), high=tuple(binning["high"]), bins=int(binning["bins"])
                ),
                contract=ActionContract.of(state.config.get("contract")),
                precision=precision,
            )
        except (KeyError, TypeError, ValueError, RuntimeError, LearningError) as error:
            expected = "a network, a binning, a contract and a tokenizer that fit together"
            raise CheckpointUnreadable(path=path, expected=expected, found=str(error)) from error


def new_policy(
    corpus: Sequence[str],
    *,
    seed: int,
    binning: ActionBinning | None = None,
    chunk: int = 5,
    width: int = 128,
    layers: int = 4,
) -> Policy:
    """An untrained nano policy, its tokenizer learned from `corpus`; one seed always gives one policy."""
    binning = binning or nano_binning()
    tokenizer = build_tokenizer(corpus)
    config = NanoVLAConfig(
        vocabulary=len(tokenizer),
        bins=binning.bins,
        action_dims=binning.dims,
        chunk=chunk,
        width=width,
        layers=layers,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NanoVLA(config)
    return Policy(model, tokenizer, binning=binning)


def _draw(log_probs: Tensor, generator: torch.Generator | None) -> Tensor:
    """Sample the last dimension of log_probs [B, L, A, bins] on the generator's device."""
    place = generator.device if generator is not None else log_probs.device
    weights = log_probs.exp().flatten(0, 2).to(place)  # [B*L*A, bins]
    drawn = torch.multinomial(weights, 1, generator=generator)
    return drawn.view(log_probs.shape[:-1]).to(log_probs.device)
