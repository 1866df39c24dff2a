"""What vision-language models are shown and asked: frames as pictures, a prompt in the model's own template.

The judge and the policy with such a model share it; which words they ask with is their own.
"""

from __future__ import annotations

from typing import Any

from PIL import Image
from torch import Tensor


def picture_of(frame: Tensor) -> Image.Image:
    """A frame uint8 [3, H, W], on any device, as a picture."""
    return Image.fromarray(frame.permute(1, 2, 0).contiguous().cpu().numpy())


def prompt_of(processor: Any, text: str, *, pictures: int, ending: str = "") -> str:
    """Pictures and text as the model's own template writes a conversation.

    Args:
        ending: closes the prompt where the model has no template.
    """
    if getattr(processor, "chat_template", None):
        content = [*({"type": "image"} for _ in range(pictures)), {"type": "text", "text": text}]
        turns = [{"role": "user", "content": content}]
        return str(processor.apply_chat_template(turns, add_generation_prompt=True))
    return f"{processor.image_token * pictures}\n{text}\n{ending}"
