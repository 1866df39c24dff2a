"""What vision-language models are shown and asked: frames as pictures, a prompt in the model's own template.

The judge and the policy with such a model share it; which words they ask with is their own. Families differ
in what their processors return (pixel masks, grids, kinds of tokens): all of it is handed to the model.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, ProcessorMixin
from transformers.utils import is_torchvision_available

from daemon.learning.errors import BadTensor

NAMES_ITS_CLASS = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
VIDEOS = "video_processor"
TARGETS = "labels"  # for training to write, which nobody does here
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError)


def read_processor(folder: Path) -> Any:
    """The processor in a folder, without its part for videos where it can do without.

    Nobody shows videos here, and that part wants packages that pictures do not want.

    Raises:
        one of `UNREADABLE`: the folder holds none, or one that wants a package that is not installed.
    """
    kind = _class_in(folder)
    films = kind is not None and VIDEOS in kind.get_attributes()
    if films and inspect.signature(kind).parameters[VIDEOS].default is None:
        parts = [name for name in kind.get_attributes() if name != VIDEOS]
        without: Any = type(kind.__name__, (kind,), {"get_attributes": classmethod(lambda _: list(parts))})
        return without.from_pretrained(folder, local_files_only=True)
    if films and not is_torchvision_available():
        raise ImportError(f"{kind.__name__} cannot do without videos: install the package torchvision")
    return AutoProcessor.from_pretrained(folder, local_files_only=True)


def inputs_of(
    processor: Any, prompts: Sequence[str], films: Sequence[Sequence[Tensor]], *, device: torch.device
) -> dict[str, Tensor]:
    """What the processor makes of prompts and the frames uint8 [3, H, W] of each, padded on the left."""
    made = processor(
        text=list(prompts),
        images=[[picture_of(frame) for frame in film] for film in films],
        return_tensors="pt",
        padding=True,
        padding_side="left",
    )
    tensors = {name: tensor for name, tensor in made.items() if torch.is_tensor(tensor)}
    return {name: tensor.to(device) for name, tensor in tensors.items() if name != TARGETS}


def picture_of(frame: Tensor) -> Image.Image:
    """A frame uint8 [3, H, W], on any device, as a picture."""
    return Image.fromarray(frame.permute(1, 2, 0).contiguous().cpu().numpy())


def prompt_of(processor: Any, text: str, *, pictures: int, ending: str = "") -> str:
    """Pictures and text as the model's own template writes a conversation.

    Args:
        ending: closes the prompt where the model has no template.

    Raises:
        BadTensor: the text holds one of the model's control tokens, which would be read as one.
    """
    control = [token for token in processor.tokenizer.all_special_tokens if token in text]
    if control:
        raise BadTensor(name="what a model is asked", expected="words", found=f"{control[0]!r} in {text!r}")
    if getattr(processor, "chat_template", None):
        content = [*({"type": "image"} for _ in range(pictures)), {"type": "text", "text": text}]
        turns = [{"role": "user", "content": content}]
        return str(processor.apply_chat_template(turns, add_generation_prompt=True))
    return f"{processor.image_token * pictures}\n{text}\n{ending}"


def _class_in(folder: Path) -> Any:
    """The processor's class, by the name that the folder gives; None where it gives none of this library."""
    for file in NAMES_ITS_CLASS:
        known = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
        found = getattr(transformers, str(known.get("processor_class")), None)
        if inspect.isclass(found) and issubclass(found, ProcessorMixin):
            return found
    return None
