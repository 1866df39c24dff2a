"""A vision-language-action policy on any transformers backbone; the same contract as the nano one's.

It owns body, head, processor and binning, and keeps them in one checkpoint of kind "policy": weights as
safetensors, the processor's files as text in the header. All weights learn, or after `adapt` low-rank
adapters (LoRA, through peft) with the queries and the head.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForImageTextToText

from daemon.learning.devices import autocast
from daemon.learning.errors import BadTensor
from daemon.learning.policy.contract import ActionContract
from daemon.learning.policy.policy import KIND, Policy
from daemon.learning.policy.tokens import ActionBinning, BinningInvalid
from daemon.learning.policy.vlm_action import VlmActionConfig, VlmActionModel, body_of
from daemon.learning.state import CheckpointUnreadable, State, half, save_state
from daemon.learning.vlm_inputs import UNREADABLE, inputs_of, prompt_of, read_processor

NETWORK = "vlm"
SIZES = ("body", "image_size", "chunk", "action_dims", "bins")
PROCESSOR = "processor/"  # prefix of its files in the header


class VlmPolicy(Policy):
    """Body, head, processor and binning as one; `tokenizer` is the processor."""

    network: ClassVar[str] = NETWORK
    takes_adapters: ClassVar[bool] = True

    def logits(self, images: Tensor, instructions: Sequence[str]) -> Tensor:
        """Float32 logits [B, L, A, bins] of uint8 images [B, 3, H, W], with gradient.

        Raises:
            BadTensor: the numbers of images and instructions differ, images have another size or type, or an
                instruction holds a control token of the model.
        """
        side = self.image_size
        fits = images.ndim == 4 and images.dtype == torch.uint8 and tuple(images.shape[1:]) == (3, side, side)
        if not fits or len(images) != len(instructions):
            found = f"{images.dtype} {list(images.shape)} for {len(instructions)} instructions"
            expected = f"uint8 [B, 3, {side}, {side}], one instruction each"
            raise BadTensor(name="images", expected=expected, found=found)
        asked = [self.prompt(sentence) for sentence in instructions]
        inputs = inputs_of(self.tokenizer, asked, [[picture] for picture in images], device=self.device)
        with autocast(self.device, self.precision):
            logits: Tensor = self.model(inputs)
        return logits.float()

    def prompt(self, instruction: str) -> str:
        """The question, as the model's own template writes it, or plainly where it has none."""
        asked = f"What should the robot do to {instruction.strip().rstrip('.').lower()}?"
        return prompt_of(self.tokenizer, asked, pictures=1)

    def adapt(self, *, rank: int, seed: int) -> None:
        """Train low-rank adapters of the body from now on, with queries and head; the rest stands still.

        Args:
            seed: of the adapters' first weights.
        """
        adapters = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear")
        with warnings.catch_warnings(), torch.random.fork_rng():
            torch.manual_seed(seed)
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name of before
            self.model.body = get_peft_model(self.model.body, adapters)

    def save(self, path: Path, card: Mapping[str, Any]) -> None:
        """Write one checkpoint file with float16 weights; adapters are merged into them."""
        config = {
            "network": NETWORK,
            "model": {name: getattr(self.model.config, name) for name in SIZES},
            "binning": asdict(self.binning),
            "contract": self.contract.document(),
        }
        with TemporaryDirectory(prefix="gymnastd-") as folder:
            self.tokenizer.save_pretrained(folder)
            extra = {PROCESSOR + file.name: file.read_text() for file in sorted(Path(folder).iterdir())}
        save_state(path, half(self._weights()), kind=KIND, config=config, card=card, extra=extra)

    def _weights(self) -> dict[str, Tensor]:
        """The state of a model without adapters, with what they learned in it."""
        merge = getattr(self.model.body, "merge_adapter", None)
        if merge is None:
            return dict(self.model.state_dict())
        merge()
        try:
            merged = {
                name.replace("body.base_model.model.", "body.").replace(".base_layer.", "."): weight.clone()
                for name, weight in self.model.state_dict().items()
                if ".lora_" not in name
            }
        finally:
            self.model.body.unmerge_adapter()
        return merged

    @classmethod
    def of_folder(
        cls, folder: Path, *, binning: ActionBinning, image_size: int = 224, chunk: int = 5, seed: int = 0
    ) -> VlmPolicy:
        """A backbone and its processor from a transformers folder, with a fresh action head for Bridge V2.

        Raises:
            CheckpointUnreadable: the folder holds no such model in safetensors.
        """
        try:
            processor = read_processor(folder)
            backbone = AutoModelForImageTextToText.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
            body = body_of(backbone)
        except UNREADABLE as error:
            expected = "an image-text-to-text model in safetensors and its processor"
            raise CheckpointUnreadable(path=folder, expected=expected, found=str(error)) from error
        config = VlmActionConfig(
            body=backbone.config.to_dict(),
            image_size=image_size,
            chunk=chunk,
            action_dims=binning.dims,
            bins=binning.bins,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = VlmActionModel(config, body)
        return cls(model.eval(), processor, binning=binning)

    @classmethod
    def of_state(cls, state: State, path: Path, *, device: torch.device, precision: torch.dtype) -> VlmPolicy:
        """Build the policy that a checkpoint holds.

        Raises:
            CheckpointUnreadable: its parts do not fit together.
        """
        try:
            binning = state.config["binning"]
            model = VlmActionModel(VlmActionConfig(**{name: state.config["model"][name] for name in SIZES}))
            model.load_state_dict(state.tensors)
            with TemporaryDirectory(prefix="gymnastd-") as folder:
                for name, text in state.extra.items():
                    (Path(folder) / Path(name.removeprefix(PROCESSOR)).name).write_text(text)
                processor = read_processor(Path(folder))
            return cls(
                model.to(device).eval(),
                processor,
                binning=ActionBinning(
                    low=tuple(binning["low"]), high=tuple(binning["high"]), bins=int(binning["bins"])
                ),
                contract=ActionContract.of(state.config.get("contract")),
                precision=precision,
            )
        except (*UNREADABLE, RuntimeError, BinningInvalid) as error:
            expected = "a body, a head, a binning, a contract and a processor that fit together"
            raise CheckpointUnreadable(path=path, expected=expected, found=str(error)) from error
