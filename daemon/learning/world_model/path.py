"""Where the arm has been told to go: the sum of all moves since the episode began, as a transformer reads it.

A window forgets where its episode began, so errors of the arm's place add up while it imagines; the sum of
what was asked for does not forget. It is six numbers, three of translation and three of rotation, in the
world model's units. Sines and cosines of each make near places look different.

Source: Vaswani et al. 2017 (arXiv:1706.03762) section 3.5 for places as waves of several lengths.
"""

import math

import torch
from torch import Tensor, nn

PATH_DIM = 6  # of an action: translation, then rotation
WAVE_LENGTHS = (24.0, 12.0, 6.0, 3.0)  # world-model units; an episode's sums stay within the longest
FEATURES = PATH_DIM * (1 + 2 * len(WAVE_LENGTHS))


def path_mlp(dim: int) -> nn.Sequential:
    """What is added to the embedding of an action, from `path_features`."""
    return nn.Sequential(nn.Linear(FEATURES, dim), nn.SiLU(), nn.Linear(dim, dim))


def path_features(path: Tensor) -> Tensor:
    """The sums [..., 6] and their sines and cosines at every wave length, float32 [..., 54]."""
    sums = path.float()
    turns = [sums * (2 * math.pi / length) for length in WAVE_LENGTHS]
    return torch.cat((sums, *(wave for turn in turns for wave in (turn.sin(), turn.cos()))), dim=-1)
