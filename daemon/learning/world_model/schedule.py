"""How much noise each level holds, and the deterministic walk back from noise: two diffusions, one contract.

Both have one thousand levels, 0 nearly clean and 999 noise, one per frame, and both leave the arithmetic to a
scheduler of diffusers. Which one a transformer was trained for stands in its config.

* `VPrediction`: variance-preserving, sigmoid betas, the velocity as target, DDIM back.
* `FlowMatching`: a straight line between frame and noise, its direction as target, Euler back.

Source: Jabri et al. 2022 (arXiv:2212.11972) section 3.1 for the sigmoid; Salimans and Ho 2022
(arXiv:2202.00512) for the velocity; Song et al. 2020 (arXiv:2010.02502) for DDIM; Lipman et al. 2022
(arXiv:2210.02747) equation 22 for the straight line.
"""

from typing import Literal, Protocol, TypeAlias

import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from daemon.learning.errors import LearningError

NOISE_LEVELS = 1000
SIGMOID_START, SIGMOID_END, SIGMOID_TEMPERATURE = -3.0, 3.0, 1.0
MAX_BETA = 0.999

Diffusion: TypeAlias = Literal["v_prediction", "flow_matching"]


class StepsUneven(LearningError):
    """A number of denoise steps whose strides do not end at the clean frame."""

    code = "steps_uneven"

    def __init__(self, *, steps: int) -> None:
        super().__init__(
            f"{steps} denoise steps would leave noise in the frame: {NOISE_LEVELS} levels do not divide so. "
            "Use 1, 2, 3, 4, 5, 8, 9 or 10."
        )


class NoiseSchedule(Protocol):
    """Adds noise at one level per frame, and removes it in a few deterministic steps."""

    def noised(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Latents [B, F, C, h, w] with noise at levels [B, F]."""

    def target(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """What the transformer should predict, [B, F, C, h, w]."""

    def error_weight(self, levels: Tensor) -> Tensor:
        """Factor from the target's squared error to that of the clean latent it implies, [B, F]."""

    def dimmed(self, latents: Tensor, level: int) -> Tensor:
        """Latents scaled as at this level, with no noise added: how finished frames are shown as context."""

    def walk(self, steps: int) -> list[int]:
        """The levels that a frame passes through, from noise down.

        Raises:
            StepsUneven: the last stride would end before the clean frame, or there is no step.
        """

    def stepped(self, predicted: Tensor, level: int, noisy: Tensor) -> Tensor:
        """One step down from `level`; `walk` must have been asked for this number of steps before."""


def noise_schedule(diffusion: Diffusion) -> NoiseSchedule:
    """The schedule of this name."""
    return VPrediction() if diffusion == "v_prediction" else FlowMatching()


def sigmoid_betas() -> Tensor:
    """Betas of the sigmoid schedule, float64 [1000], clipped to 0.999."""
    time = torch.linspace(0, 1, NOISE_LEVELS + 1, dtype=torch.float64)
    low, high = (
        torch.tensor(edge / SIGMOID_TEMPERATURE, dtype=torch.float64).sigmoid()
        for edge in (SIGMOID_START, SIGMOID_END)
    )
    at = ((time * (SIGMOID_END - SIGMOID_START) + SIGMOID_START) / SIGMOID_TEMPERATURE).sigmoid()
    kept = (high - at) / (high - low)  # cumulated alphas, 1 at time 0
    return (1 - kept[1:] / kept[:-1]).clamp(0, MAX_BETA)


class VPrediction:
    """Sigmoid betas and velocities; obeys `NoiseSchedule`."""

    def __init__(self) -> None:
        self.scheduler = DDIMScheduler(
            num_train_timesteps=NOISE_LEVELS,
            trained_betas=sigmoid_betas().numpy(),
            prediction_type="v_prediction",
            clip_sample=False,
            timestep_spacing="trailing",
        )
        self.kept: Tensor = self.scheduler.alphas_cumprod.float()  # share of signal power per level, [1000]

    def noised(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        mixed = self.scheduler.add_noise(latents.flatten(0, 1), noise.flatten(0, 1), levels.flatten())
        return mixed.unflatten(0, levels.shape)  # type: ignore[no-any-return]

    def target(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """sqrt(kept) · noise - sqrt(1 - kept) · latents."""
        flat = self.scheduler.get_velocity(latents.flatten(0, 1), noise.flatten(0, 1), levels.flatten())
        return flat.unflatten(0, levels.shape)  # type: ignore[no-any-return]

    def error_weight(self, levels: Tensor) -> Tensor:
        return 1 - self.kept.to(levels.device)[levels]

    def dimmed(self, latents: Tensor, level: int) -> Tensor:
        return latents * float(self.kept[level].sqrt())

    def walk(self, steps: int) -> list[int]:
        _require_some(steps)
        self.scheduler.set_timesteps(steps)
        levels = [int(level) for level in self.scheduler.timesteps]
        if levels[-1] - NOISE_LEVELS // steps >= 0:
            raise StepsUneven(steps=steps)
        return levels

    def stepped(self, predicted: Tensor, level: int, noisy: Tensor) -> Tensor:
        return self.scheduler.step(predicted, level, noisy).prev_sample  # type: ignore[no-any-return]


class FlowMatching:
    """A straight line to noise: level k holds the share (k + 1) / 1000 of it; obeys `NoiseSchedule`."""

    def __init__(self) -> None:
        self.scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=NOISE_LEVELS)
        self.levels: list[int] = []

    def noised(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        share = _share(levels)[..., None, None, None]
        return (1 - share) * latents + share * noise

    def target(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """noise - latents, at every level."""
        return noise - latents

    def error_weight(self, levels: Tensor) -> Tensor:
        return _share(levels).square()

    def dimmed(self, latents: Tensor, level: int) -> Tensor:
        return latents * (1 - (level + 1) / NOISE_LEVELS)

    def walk(self, steps: int) -> list[int]:
        _require_some(steps)
        levels = [round(NOISE_LEVELS * (steps - done) / steps) - 1 for done in range(steps)]
        self.scheduler.set_timesteps(sigmas=[(level + 1) / NOISE_LEVELS for level in levels])
        self.levels = levels
        return levels

    def stepped(self, predicted: Tensor, level: int, noisy: Tensor) -> Tensor:
        self.scheduler._step_index = None  # frames of a chunk are at different levels: found, never counted
        self.scheduler.set_begin_index(self.levels.index(level))
        return self.scheduler.step(predicted, float(level + 1), noisy).prev_sample  # type: ignore[no-any-return]


def _share(levels: Tensor) -> Tensor:
    """Share of noise at each level."""
    return (levels + 1).float() / NOISE_LEVELS


def _require_some(steps: int) -> None:
    if not 1 <= steps <= NOISE_LEVELS:
        raise StepsUneven(steps=steps)
