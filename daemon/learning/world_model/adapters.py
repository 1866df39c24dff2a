"""Low-rank adapters: training a large transformer by a few numbers beside its weights.

Source: Hu et al. 2021 (arXiv:2106.09685) section 4.1; through peft.
"""

from collections.abc import Callable
from typing import cast

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from daemon.learning.world_model.transformer import WorldModelTransformer

TARGETS = ("qkv_proj", "out_proj", "ffwd.0", "ffwd.2", "adaLN_modulation.1", "action_embedder")
PATH_TARGETS = ("path_mlp.0", "path_mlp.2")  # of models that are told the path


def with_adapters(transformer: WorldModelTransformer, *, rank: int, seed: int) -> nn.Module:
    """The module to train: the transformer itself for rank 0, else the same one with adapters put into it.

    Args:
        seed: of their first weights.
    """
    if not rank:
        return transformer
    targets = [*TARGETS, *(PATH_TARGETS if transformer.config.told_path else ())]
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted: nn.Module = get_peft_model(transformer, config)
    return adapted


def without_adapters(module: nn.Module) -> WorldModelTransformer:
    """The transformer with what its adapters learned in its weights, and no adapter left."""
    if isinstance(module, WorldModelTransformer):
        return cast(WorldModelTransformer, module)
    merge: Callable[[], WorldModelTransformer] = module.merge_and_unload  # type: ignore[assignment]
    merged = merge()
    for weight in merged.parameters():
        weight.requires_grad_(True)
    return merged
