"""How much noise each diffusion step holds, and the deterministic walk back from noise.

One thousand steps of a sigmoid schedule, velocity prediction, through diffusers' `DDIMScheduler`; this
module only supplies the betas and the calls with one noise level per frame.

Source: Jabri et al. 2022 (arXiv:2212.11972) section 3.1 for the sigmoid; Salimans and Ho 2022
(arXiv:2202.00512) for the velocity; Song et al. 2020 (arXiv:2010.02502) for DDIM.
"""

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from daemon.learning.errors import LearningError

NOISE_LEVELS = 1000
SIGMOID_START, SIGMOID_END, SIGMOID_TEMPERATURE = -3.0, 3.0, 1.0
MAX_BETA = 0.999


class StepsUneven(LearningError):
    """A number of denoise steps whose strides do not end at the clean frame."""

    code = "steps_uneven"

    def __init__(self, *, steps: int) -> None:
        super().__init__(
            f"{steps} denoise steps would leave noise in the frame: {NOISE_LEVELS} levels do not divide so. "
            "Use 1, 2, 3, 4, 5, 8, 9 or 10."
        )


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


class NoiseSchedule:
    """Adds noise at one level per frame, and removes it in a few deterministic steps."""

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
        """Latents [B, F, C, h, w] with noise at levels [B, F]."""
        mixed = self.scheduler.add_noise(latents.flatten(0, 1), noise.flatten(0, 1), levels.flatten())
        return mixed.unflatten(0, levels.shape)  # type: ignore[no-any-return]

    def velocity(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """What the transformer should predict: sqrt(kept) · noise - sqrt(1 - kept) · latents."""
        flat = self.scheduler.get_velocity(latents.flatten(0, 1), noise.flatten(0, 1), levels.flatten())
        return flat.unflatten(0, levels.shape)  # type: ignore[no-any-return]

    def noise_power(self, levels: Tensor) -> Tensor:
        """1 - kept, the share of noise at each level; also velocity error² to clean latent error²."""
        return 1 - self.kept.to(levels.device)[levels]

    def dimmed(self, latents: Tensor, level: int) -> Tensor:
        """Latents scaled as at this level, with no noise added: how finished frames are shown as context."""
        return latents * self.kept[level].sqrt().to(latents.device)

    def walk(self, steps: int) -> list[int]:
        """The noise levels that a frame passes through, from pure noise down.

        Raises:
            StepsUneven: the last stride would end before the clean frame, or there is no step.
        """
        if not 1 <= steps <= NOISE_LEVELS:
            raise StepsUneven(steps=steps)
        self.scheduler.set_timesteps(steps)
        levels = [int(level) for level in self.scheduler.timesteps]
        if levels[-1] - NOISE_LEVELS // steps >= 0:
            raise StepsUneven(steps=steps)
        return levels

    def stepped(self, velocity: Tensor, level: int, noisy: Tensor) -> Tensor:
        """One step down from `level`; `walk` must have been asked for this number of steps before."""
        return self.scheduler.step(velocity, level, noisy).prev_sample  # type: ignore[no-any-return]
