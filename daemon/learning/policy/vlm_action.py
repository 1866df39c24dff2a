"""A vision-language model with an action head: pictures and sentences in, logits of L·A action tokens out.

Any transformers image-text-to-text model can be the *body*. After the prompt come L·A places that hold a
learned query each; what the body makes of them in one pass is the whole chunk, decoded in parallel (as
OpenVLA-OFT does, Kim et al. 2025, arXiv:2502.19645, section 4.1). The language head is not used and not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from daemon.learning.errors import BadTensor

QUERY_SPREAD = 0.02  # of fresh queries
SAME_LENGTH = 2  # dimensions of inputs that go along the sequence, [B, X]


class VlmActionConfig(PreTrainedConfig):
    """The body's own config, and the sizes of what is put around it."""

    model_type = "vlm_action"

    body: dict[str, Any] | None = None
    image_size: int = 224  # pixels on a side, as the loop hands pictures over; the processor has its own
    chunk: int = 5
    action_dims: int = 7
    bins: int = 31


class VlmActionModel(PreTrainedModel):
    """Body, queries and head."""

    config_class = VlmActionConfig
    main_input_name = "input_ids"
    base_model_prefix = "body"

    def __init__(self, config: VlmActionConfig, body: nn.Module | None = None) -> None:
        super().__init__(config)
        if body is None:
            shape = dict(config.body or {})
            whole = AutoConfig.for_model(shape.pop("model_type"), **shape)
            body = body_of(AutoModelForImageTextToText.from_config(whole))
        self.body = body
        width = self._words().embedding_dim
        self.queries = nn.Parameter(torch.randn(config.chunk * config.action_dims, width) * QUERY_SPREAD)
        self.head = nn.Linear(width, config.bins)
        nn.init.zeros_(self.head.bias)
        self.post_init()

    def init_weights(self) -> None:
        """Nothing: a body comes with its weights, and what is around it has its own from above."""

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits [B, L, A, bins] of a processor's inputs, padded on the left.

        Raises:
            BadTensor: the inputs hold no input_ids [B, X].
        """
        asked = self.with_places(inputs)
        with self._queried():
            hidden = self.body(**asked).last_hidden_state[:, -len(self.queries) :]  # [B, L*A, D]
        logits = self.head(hidden.to(self.head.weight.dtype))
        return logits.unflatten(1, (self.config.chunk, self.config.action_dims))  # type: ignore[no-any-return]

    def with_places(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs with L·A places at the end of every sequence, each like its last: visible, and text."""
        ids = inputs.get("input_ids")
        if ids is None or ids.ndim != SAME_LENGTH:
            found = "none" if ids is None else str(list(ids.shape))
            raise BadTensor(name="input_ids", expected="[B, X]", found=found)
        longer: dict[str, Tensor] = {}
        for name, tensor in inputs.items():
            along = tensor.ndim == SAME_LENGTH and tensor.shape == ids.shape
            if along:
                places = tensor[:, -1:].expand(-1, len(self.queries))
                tensor = torch.cat([tensor, places], dim=1)  # noqa: PLW2901
            longer[name] = tensor
        return longer

    def _words(self) -> nn.Embedding:
        body: Any = self.body
        found: nn.Embedding = body.get_input_embeddings()
        return found

    @contextmanager
    def _queried(self) -> Iterator[None]:
        """While this lasts, the last L·A embeddings of every sequence are the queries."""

        def put(_module: nn.Module, _given: object, words: Tensor) -> Tensor:
            kept = words[:, : -len(self.queries)]
            asked = self.queries.to(words.dtype).expand(len(words), -1, -1)
            return torch.cat([kept, asked], dim=1)

        hook = self._words().register_forward_hook(put)
        try:
            yield
        finally:
            hook.remove()


def body_of(model: Any) -> nn.Module:
    """What an image-text-to-text model is without its language head."""
    body: nn.Module = getattr(model, model.base_model_prefix)
    return body
