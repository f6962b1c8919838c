"""The deviation scheduler: masked forward process, training target and deterministic correction.

Notation (Beizaee et al., CVPR 2025): ``z`` clean latent, ``M`` mask (1 = left clean, 0 = corrupted), ``ᾱ_t`` cumulative
schedule, ``ε`` noise. The scheduler owns the maths alone and follows diffusers' scheduler conventions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from decodiff.registered import registered
from decodiff.timesteps import strided_timesteps

MAX_BETA = 0.999


@dataclass
class DeviationSchedulerOutput(BaseOutput):
    """Result of one correction step.

    Attributes:
        prev_sample: latent at the next timestep of the correction, same shape and dtype as the input latent.
        pred_original_sample: the corrected latent ``ẑ0`` as estimated at this step, same shape and dtype.
    """

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


class DeviationScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' own mixins disagree
    """Cosine schedule (``squaredcos_cap_v2``, β ≤ 0.999) with DeCo-Diff's target and correction step.

    Args:
        num_train_timesteps: T, the number of timesteps of the forward process.
    """

    order = 1

    @registered
    def __init__(self, num_train_timesteps: int = 10):
        steps = torch.arange(num_train_timesteps + 1, dtype=torch.float64) / num_train_timesteps
        alpha_bar = torch.cos((steps + 0.008) / 1.008 * torch.pi / 2) ** 2
        betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=MAX_BETA)
        self.alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self.set_timesteps(num_train_timesteps)

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Choose the S timesteps of the correction, in the order they are used (descending), as ``self.timesteps``.

        Raises:
            ValueError: no stride over T gives exactly S timesteps.
        """
        ascending = strided_timesteps(self.config["num_train_timesteps"], num_inference_steps)
        self.timesteps = torch.tensor(ascending[::-1], dtype=torch.int64, device=device)

    def _coefficients(self, timestep: torch.Tensor | int, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``√ᾱ_t`` and ``√(1−ᾱ_t)`` in the latent's dtype, shaped to broadcast over ``[B,C,h,w]``."""
        timestep = torch.as_tensor(timestep, dtype=torch.int64)
        alpha_bar = self.alphas_cumprod.to(timestep.device)[timestep].reshape(-1, 1, 1, 1)
        return alpha_bar.sqrt().to(latent), (1 - alpha_bar).sqrt().to(latent)

    def add_noise(
        self, latent: torch.Tensor, noise: torch.Tensor, mask: torch.Tensor, timestep: torch.Tensor | int
    ) -> torch.Tensor:
        """Masked forward process ``z_t = M·z + (1−M)·(√ᾱ_t·z + √(1−ᾱ_t)·ε)``.

        Args:
            latent: ``z``, float ``[B,C,h,w]``.
            noise: ``ε``, same shape.
            mask: ``M`` in {0, 1}, broadcastable to ``[B,C,h,w]``; 1 leaves a cell clean.
            timestep: int64 ``[B]`` or one int, in ``[0, T)``.

        Returns:
            ``z_t``, same shape and dtype as ``latent``.
        """
        signal, sigma = self._coefficients(timestep, latent)
        return mask * latent + (1 - mask) * (signal * latent + sigma * noise)

    def target(
        self, latent: torch.Tensor, noise: torch.Tensor, mask: torch.Tensor, timestep: torch.Tensor | int
    ) -> torch.Tensor:
        """Direction of deviation ``d = (1−M)·(ε − (1−√ᾱ_t)/√(1−ᾱ_t)·z)``, so that ``z_t − √(1−ᾱ_t)·d = z`` exactly.

        Arguments as for `add_noise`; the result has the latent's shape and dtype.
        """
        signal, sigma = self._coefficients(timestep, latent)
        return (1 - mask) * (noise - (1 - signal) / sigma * latent)

    def blending_noise(self, latent: torch.Tensor, content: torch.Tensor, timestep: torch.Tensor | int) -> torch.Tensor:
        """The ``ε`` that makes the forward process of a corrupted cell a blend of two latents, and ``d`` their difference.

        With ``ε = z' + ((1−√ᾱ_t)/√(1−ᾱ_t) − 1)·z`` a corrupted cell holds ``z_t = (1−√(1−ᾱ_t))·z + √(1−ᾱ_t)·z'``, and the
        direction of deviation is ``d = z' − z``. With ``ε = z'`` its weights would sum to as much as 1.41, a gain in contrast
        that tells corrupted cells from clean ones and that no defect has.

        Args:
            latent: ``z``, float ``[B,C,h,w]``.
            content: ``z'``, same shape.
            timestep: int64 ``[B]`` or one int, in ``[0, T)``.

        Returns:
            ``ε``, same shape and dtype as ``latent``.
        """
        signal, sigma = self._coefficients(timestep, latent)
        return content + ((1 - signal) / sigma - 1) * latent

    def step(self, deviation: torch.Tensor, timestep: torch.Tensor | int, latent: torch.Tensor) -> DeviationSchedulerOutput:
        """One correction step: ``ẑ0 = z_i − √(1−ᾱ_{t_i})·d``, ``z_{i−1} = ẑ0 + √(1−ᾱ_{t_{i−1}})·d``; the last returns ``ẑ0``.

        Args:
            deviation: the network's prediction ``d``, ``[B,C,h,w]``.
            timestep: ``t_i``, one of ``self.timesteps``.
            latent: ``z_i``, ``[B,C,h,w]``.

        Raises:
            ValueError: ``timestep`` is not one that `set_timesteps` chose.
        """
        chosen = self.timesteps.tolist()
        if int(timestep) not in chosen:
            raise ValueError(f"timestep {int(timestep)} is not one of the chosen timesteps {chosen}")
        _, sigma = self._coefficients(int(timestep), latent)
        original = latent - sigma * deviation
        following = chosen.index(int(timestep)) + 1
        if following == len(chosen):
            return DeviationSchedulerOutput(prev_sample=original, pred_original_sample=original)
        _, next_sigma = self._coefficients(chosen[following], latent)
        return DeviationSchedulerOutput(prev_sample=original + next_sigma * deviation, pred_original_sample=original)


Scheduler = DeviationScheduler | DDIMScheduler


def build_scheduler(objective: str, num_train_timesteps: int) -> Scheduler:
    """The scheduler of an objective, both on the same cosine schedule and with the same spacing of their steps.

    ``deviation`` is DeCo-Diff's; ``noise`` is standard diffusion (Song et al., DDIM, ICLR 2021), as diffusers has it.
    """
    if objective == "deviation":
        return DeviationScheduler(num_train_timesteps)
    return DDIMScheduler(
        num_train_timesteps,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="epsilon",
        timestep_spacing="leading",
        clip_sample=False,
    )
