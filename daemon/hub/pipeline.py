"""A world model as a pipeline of diffusers: pictures and actions in, the pictures that would follow out.

`DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)` reads an exported folder with gymnastd
installed, and so does `WorldModelPipeline.from_pretrained(folder)`, which trusts nothing in the folder.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from torch import Tensor

from daemon.learning.imagine import ImaginedEnv
from daemon.learning.world_model.autoencoder import NanoAutoencoder
from daemon.learning.world_model.model import Sampling, WorldModel
from daemon.learning.world_model.transformer import WorldModelTransformer

MODULE: Final = "pipeline"  # in an exported folder: a file of this name leads diffusers here
CODE: Final = f"""from {__name__} import WorldModelPipeline

__all__ = ["WorldModelPipeline"]
"""


class WorldModelPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Imagines what a camera sees while actions are executed.

    Args:
        sampling: how frames are imagined, the fields of `Sampling`.
        image_size: pixels on a side of the square pictures; the autoencoder's own unless told.

    Raises:
        BadTensor: transformer and autoencoder have different latents.
    """

    def __init__(
        self,
        transformer: WorldModelTransformer,
        autoencoder: NanoAutoencoder | AutoencoderKL,
        *,
        sampling: dict[str, Any] | None = None,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, autoencoder=autoencoder)
        self.register_to_config(sampling=sampling, image_size=image_size)
        self.world_model()  # what does not fit together is told now

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """Its own name in place of the file that stands in a folder: this class is here already."""
        found = super().load_config(*args, **kwargs)
        if isinstance(found, dict):
            found["_class_name"] = cls.__name__
        return found

    def world_model(self) -> WorldModel:
        """The world model of these parts, which are float32 as `from_pretrained` reads them."""
        sampling, size = self.config.sampling, self.config.image_size
        return WorldModel(
            self.transformer.eval(),
            self.autoencoder.eval(),
            sampling=None if sampling is None else Sampling(**sampling),
            image_size=size,
        )

    @torch.no_grad()
    def __call__(self, images: Tensor, actions: Tensor, *, seed: int = 0) -> Tensor:
        """The pictures uint8 [B, T+1, 3, H, W] that these actions lead to; the first are those given.

        Args:
            images: uint8 [B, 3, H, W], what the camera sees now.
            actions: [B, T, 7], bridge_v2 metres and radians.
            seed: of the noise; rollout i has seed + i.

        Raises:
            BadTensor: another dtype, shape or size.
        """
        env = ImaginedEnv(self.world_model(), seed=seed)
        env.reset(images, seeds=range(seed, seed + len(images)))
        env.replay(actions)
        return env.film()[:, : actions.shape[1] + 1]
