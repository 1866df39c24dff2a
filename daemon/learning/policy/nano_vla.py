"""NanoVLA: the smallest vision-language-action network that this loop can run on two CPU cores.

A convolutional stem turns a 64×64 image into 64 tokens; instruction tokens and L·A action queries join
them; a few bidirectional transformer blocks later every query yields the logits of one action token, all
decoded in parallel (as OpenVLA-OFT does, Kim et al. 2025, arXiv:2502.19645, section 4.1). Each query starts
from a glance at the whole image, because finding by attention alone where things are takes many more updates
than a night at this scale has. It knows nothing of metres or sentences: `policy.py` puts binning and
tokenizer around it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from daemon.learning.activations import gelu
from daemon.learning.errors import BadTensor

STEM_STRIDE = 8  # pixels per image token and side
GLANCE_CHANNELS = 8  # of every place, in the glance
WORD_SPREAD = 0.5  # of fresh word embeddings; with less, instructions are told apart only after long training


class NanoVLAConfig(PreTrainedConfig):
    """Sizes of a NanoVLA; `vocabulary` is the tokenizer's, `bins` the action binning's."""

    model_type = "nano_vla"

    image_size: int = 64  # pixels on a side
    vocabulary: int = 384
    max_tokens: int = 32
    chunk: int = 5
    action_dims: int = 7
    bins: int = 31
    width: int = 128
    layers: int = 4
    heads: int = 4


class Stem(nn.Module):
    """Image to tokens: three strided convolutions and a residual one, float [B, 3, H, W] -> [B, S, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width // 4, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width // 4, width // 2, 4, stride=2, padding=1)
        self.refine = nn.Conv2d(width // 2, width // 2, 3, padding=1)
        self.conv3 = nn.Conv2d(width // 2, width, 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, width // 2)

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.gelu(self.conv1(pixels))  # [B, D/4, H/2, W/2]
        x = F.gelu(self.conv2(x))  # [B, D/2, H/4, W/4]
        x = x + F.gelu(self.refine(self.norm(x)))
        return self.conv3(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]  # [B, S, D]


class Glance(nn.Module):
    """What is where, and what of it matters for this instruction, in one vector.

    Every place is read on its own: the camera stands still.
    """

    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.narrow = nn.Linear(width, GLANCE_CHANNELS)
        self.gather = nn.Linear(GLANCE_CHANNELS * places, width)
        self.ask = nn.Linear(width, width)
        self.answer = nn.Linear(width, width)

    def forward(self, tokens: Tensor, sentence: Tensor) -> Tensor:
        """Image tokens [B, S, D] and mean words [B, D] -> [B, 1, D]."""
        seen = F.gelu(self.narrow(self.norm(tokens)))  # [B, S, GLANCE_CHANNELS]
        mixed = F.gelu(self.gather(seen.flatten(1)) + self.ask(sentence))  # [B, D]
        return self.answer(mixed).unsqueeze(1)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm transformer block, bidirectional; padding is never attended to."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.queries = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, visible: Tensor | None, *, tail: int) -> Tensor:
        """The last `tail` tokens of x [B, X, D] after attending to all; [B, tail, D].

        `visible` is bool [B, 1, 1, X], or None when every token is. Computing only the tail is what makes the
        last block cheap: nobody reads its other tokens.
        """
        keys, values = (
            self.keys_values(self.norm1(x)).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        x = x[:, -tail:]
        queries = self.queries(self.norm1(x)).unflatten(2, (self.heads, -1)).transpose(1, 2)
        mixed = attend(queries, keys, values, visible=visible)  # [B, heads, tail, D/heads]
        x = x[:, -tail:] + self.out(mixed.transpose(1, 2).flatten(2))  # [B, tail, D]
        return x + self.narrow(gelu(self.widen(self.norm2(x))))  # type: ignore[no-any-return]


def attend(queries: Tensor, keys: Tensor, values: Tensor, *, visible: Tensor | None) -> Tensor:
    """Attention of queries [B, heads, Q, d] to keys and values [B, heads, X, d]; [B, heads, Q, d].

    The fused kernel where it is fast. On a processor its backward pass takes four times as long as that of
    plain matrix products (benchmarks/policy_speed.py), so there the products are written out.
    """
    if queries.device.type != "cpu":
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
    scores = queries @ keys.transpose(2, 3) * queries.shape[-1] ** -0.5  # [B, heads, Q, X]
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    mixed: Tensor = scores.softmax(dim=-1).to(values.dtype) @ values
    return mixed


class NanoVLA(PreTrainedModel):
    """Image and instruction tokens in, logits of L·A action tokens out."""

    config_class = NanoVLAConfig
    main_input_name = "images"

    def __init__(self, config: NanoVLAConfig) -> None:
        super().__init__(config)
        width = config.width
        side = config.image_size // STEM_STRIDE
        self.stem = Stem(width)
        self.glance = Glance(width, side * side)
        self.words = nn.Embedding(config.vocabulary, width)
        self.image_places = nn.Parameter(torch.zeros(side * side, width))
        self.word_places = nn.Parameter(torch.zeros(config.max_tokens, width))
        self.queries = nn.Parameter(torch.zeros(config.chunk * config.action_dims, width))
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.bins)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=max(0.02, 0.5 * module.in_features**-0.5))
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=WORD_SPREAD)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, NanoVLA):
            for places in (module.image_places, module.word_places, module.queries):
                nn.init.normal_(places, std=0.02)

    def forward(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [B, L, A, bins] for images [B, 3, H, W] (uint8, or float in [0, 1]).

        Args:
            input_ids: instruction tokens int64 [B, W].
            attention_mask: true where a token is not padding, [B, W].

        Raises:
            BadTensor: images are not [B, 3, image_size, image_size], or W is above max_tokens.
        """
        self._check(images, input_ids)
        seen = self.stem(_centred(images, self.image_places.dtype))  # [B, S, D]
        words = self.words(input_ids)  # [B, W, D]
        queries = self.queries + self.glance(seen, _mean_word(words, attention_mask))  # [B, L*A, D]
        image_tokens = seen + self.image_places
        word_tokens = words + self.word_places[: input_ids.shape[1]]
        x = torch.cat([image_tokens, word_tokens, queries], dim=1)  # [B, S+W+L*A, D]
        visible = _visible(attention_mask.bool(), image_tokens.shape[1], queries.shape[1])
        asked = queries.shape[1]
        for block in self.blocks[:-1]:
            x = block(x, visible, tail=x.shape[1])
        logits = self.head(self.norm(self.blocks[-1](x, visible, tail=asked)))  # [B, L*A, bins]
        return logits.unflatten(1, (self.config.chunk, self.config.action_dims))  # type: ignore[no-any-return]

    def _check(self, images: Tensor, input_ids: Tensor) -> None:
        side = self.config.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, side, side):
            raise BadTensor(name="images", expected=f"[B, 3, {side}, {side}]", found=str(list(images.shape)))
        if input_ids.shape[1] > self.config.max_tokens:
            expected = f"[B, W] with W up to {self.config.max_tokens}"
            raise BadTensor(name="input_ids", expected=expected, found=str(list(input_ids.shape)))


def _centred(images: Tensor, dtype: torch.dtype) -> Tensor:
    scaled = images.to(dtype) / 255 if images.dtype == torch.uint8 else images.to(dtype)
    return scaled * 2 - 1


def _mean_word(words: Tensor, attention_mask: Tensor) -> Tensor:
    present = attention_mask.to(words.dtype).unsqueeze(2)  # [B, W, 1]
    return (words * present).sum(dim=1) / present.sum(dim=1)  # [B, D]


def _visible(words: Tensor, before: int, after: int) -> Tensor | None:
    if bool(words.all()):
        return None
    return F.pad(F.pad(words, (before, 0), value=True), (0, after), value=True)[:, None, None, :]


def register_nano_vla() -> None:
    """Teach transformers' AutoConfig and AutoModel the model type; calling it again changes nothing."""
    AutoConfig.register(NanoVLAConfig.model_type, NanoVLAConfig, exist_ok=True)
    AutoModel.register(NanoVLAConfig, NanoVLA, exist_ok=True)
