"""SuccessClassifier: one frame and an instruction in, one logit of success out, and where it looks.

Convolutions bring the frame to 8×8 places, the instruction scales and shifts their channels (FiLM, Perez et
al. 2018, arXiv:1709.07871, section 2), and the decision reads every place on its own: the camera stands
still, so where something is says more than whether it is there. From the same places another head tells
which of them show what the instruction is about: the eggplant, the drawer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from daemon.learning.errors import BadTensor

STRIDE = 8  # pixels per place and side
LOOK_WIDTH = 48  # channels between the places and what is told of them


class SuccessClassifierConfig(PreTrainedConfig):
    """Sizes of a SuccessClassifier; `vocabulary` is the tokenizer's."""

    model_type = "success_classifier"

    image_size: int = 64  # pixels on a side
    vocabulary: int = 384
    width: int = 64
    channels_per_place: int = 8
    looks: bool = False  # whether it has learned where the subject of an instruction is


class SuccessClassifier(PreTrainedModel):
    """Frame and instruction tokens in, logit of success out."""

    config_class = SuccessClassifierConfig
    main_input_name = "frames"

    def __init__(self, config: SuccessClassifierConfig) -> None:
        super().__init__(config)
        width, side = config.width, config.image_size // STRIDE
        self.conv1 = nn.Conv2d(3, width // 2, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width // 2, width, 4, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(4, width)
        self.conv3 = nn.Conv2d(width, width, 4, stride=2, padding=1)
        self.norm3 = nn.GroupNorm(4, width)
        self.words = nn.Embedding(config.vocabulary, width)
        self.film = nn.Linear(width, 2 * width)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.narrow = nn.Conv2d(width, config.channels_per_place, 1)
        self.decide = nn.Sequential(
            nn.Linear(config.channels_per_place * side * side, width), nn.GELU(), nn.Linear(width, 1)
        )
        self.look = looking_head(width) if config.looks else None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.5)

    def forward(self, frames: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of success [B] for frames [B, 3, H, W] (uint8, or float in [0, 1]).

        Args:
            input_ids: instruction tokens int64 [B, W].
            attention_mask: true where a token is not padding, [B, W].

        Raises:
            BadTensor: frames are not [B, 3, image_size, image_size].
        """
        x, mixed = self._places(frames, input_ids, attention_mask)
        return self.decide(self.narrow(x + mixed).flatten(1)).squeeze(1)  # type: ignore[no-any-return]

    def shares(self, frames: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [B, H/8, W/8] of the share of each place that shows what the instruction is about.

        Args and errors as in `forward`; gradients reach the head alone, so that verdicts stay as they are.
        """
        if self.look is None:
            raise BadTensor(name="judge", expected="one that has learned to look", found="one without")
        places = torch.cat(self._places(frames, input_ids, attention_mask), dim=1).detach()
        return self.look(places).squeeze(1)  # type: ignore[no-any-return]

    def _places(self, frames: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """What each place shows, and what it shows with its neighbours, [B, D, H/8, W/8] each."""
        side = self.config.image_size
        if frames.ndim != 4 or tuple(frames.shape[1:]) != (3, side, side):
            raise BadTensor(name="frames", expected=f"[B, 3, {side}, {side}]", found=str(list(frames.shape)))
        dtype = self.words.weight.dtype
        pixels = frames.to(dtype) / 255 if frames.dtype == torch.uint8 else frames.to(dtype)
        x = F.gelu(self.conv1(pixels * 2 - 1))  # [B, D/2, H/2, W/2]
        x = F.gelu(self.norm2(self.conv2(x)))  # [B, D, H/4, W/4]
        x = F.gelu(self._film(self.norm3(self.conv3(x)), input_ids, attention_mask))  # [B, D, H/8, W/8]
        return x, F.gelu(self.mix(x))

    def _film(self, x: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Scale and shift channels of x [B, D, h, w] by the mean word of each instruction."""
        present = attention_mask.to(x.dtype).unsqueeze(2)  # [B, W, 1]
        sentence = (self.words(input_ids) * present).sum(1) / present.sum(1)  # [B, D]
        gain, shift = self.film(sentence)[:, :, None, None].chunk(2, dim=1)  # [B, D, 1, 1] each
        return x * (1 + gain) + shift  # type: ignore[no-any-return]


def looking_head(width: int) -> nn.Sequential:
    """From what a place of `width` channels shows, alone and with its neighbours, to one logit."""
    return nn.Sequential(
        nn.Conv2d(2 * width, LOOK_WIDTH, 3, padding=1), nn.GELU(), nn.Conv2d(LOOK_WIDTH, 1, 1)
    )


def register_success_classifier() -> None:
    """Teach transformers' AutoConfig and AutoModel the model type; calling it again changes nothing."""
    AutoConfig.register(SuccessClassifierConfig.model_type, SuccessClassifierConfig, exist_ok=True)
    AutoModel.register(SuccessClassifierConfig, SuccessClassifier, exist_ok=True)
