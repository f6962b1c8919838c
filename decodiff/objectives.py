"""What a network is trained to predict: the direction of deviation, or, for comparison, the noise of standard diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from decodiff.masking import sample_mask, sample_noise, sample_patch_side
from decodiff.scheduler import DeviationScheduler


@dataclass(frozen=True)
class Example:
    """What the network sees of a batch and what it should answer.

    Attributes:
        noisy: ``z_t``, float ``[B,C,h,w]``.
        timestep: int64 ``[B]``.
        target: same shape as ``noisy``.
    """

    noisy: torch.Tensor
    timestep: torch.Tensor
    target: torch.Tensor


def _drawn(timesteps: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return timesteps[torch.randint(len(timesteps), (count,), generator=generator)]


@dataclass(frozen=True)
class Corruption:
    """What a batch is corrupted by, and where.

    Attributes:
        noise: ``ε``, float ``[B,C,h,w]``.
        mask: ``M``, float32 ``[B,1,h,w]`` in {0, 1}: 1 = left clean, 0 = corrupted.
    """

    noise: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class Content:
    """Made content of a batch, as latents (see `decodiff.content`).

    Attributes:
        latent: ``z'``, of the images with the content, float ``[B,C,h,w]``.
        mask: ``M``, as of a `Corruption`.
    """

    latent: torch.Tensor
    mask: torch.Tensor

    def blended(self, scheduler: DeviationScheduler, latent: torch.Tensor, timestep: torch.Tensor) -> Corruption:
        """The corruption that blends the content into ``latent`` as far as ``timestep`` says."""
        return Corruption(scheduler.blending_noise(latent, self.latent, timestep), self.mask)


def corrupted(scheduler: DeviationScheduler, latent: torch.Tensor, corruption: Corruption, timestep: torch.Tensor) -> Example:
    """Latents corrupted up to ``timestep``, int64 ``[B]``, and the direction of deviation."""
    noisy = scheduler.add_noise(latent, corruption.noise, corruption.mask, timestep)
    return Example(noisy, timestep, scheduler.target(latent, corruption.noise, corruption.mask, timestep))


def content_example(
    scheduler: DeviationScheduler,
    latent: torch.Tensor,
    content: Content,
    timesteps: torch.Tensor,
    generator: torch.Generator,
) -> Example:
    """A batch into which made content is blended, and the direction of deviation ``z' − z``.

    Args:
        scheduler: a `decodiff.scheduler.DeviationScheduler`.
        latent: clean latents ``z``, float ``[B,C,h,w]``.
        content: made content of the same batch.
        timesteps: those to draw from, int64; the higher, the more opaque the content.
        generator: CPU generator of timesteps.
    """
    timestep = _drawn(timesteps, len(latent), generator).to(latent.device)
    return corrupted(scheduler, latent, content.blended(scheduler, latent, timestep), timestep)


def deviation_example(
    scheduler: DeviationScheduler,
    latent: torch.Tensor,
    timesteps: torch.Tensor,
    generator: torch.Generator,
    *,
    patch_sides: Sequence[int],
    patch_probabilities: Sequence[float],
    max_ratio: float,
    max_foreign_ratio: float,
) -> Example:
    """Masked corruption and the direction of deviation (Beizaee et al., CVPR 2025).

    Args:
        scheduler: a `decodiff.scheduler.DeviationScheduler`.
        latent: clean latents ``z``, float ``[B,C,h,w]``; the whole batch, as foreign patches come from any image of it.
        timesteps: those to draw from, int64.
        generator: CPU generator of masks, noise and timesteps.
        patch_sides, patch_probabilities, max_ratio, max_foreign_ratio: see `decodiff.masking`.
    """
    batch, _, height, width = latent.shape
    side = sample_patch_side(patch_sides, patch_probabilities, generator)
    mask = sample_mask(batch, height, width, side, max_ratio, generator).to(latent.device)
    noise = sample_noise(latent, side, max_foreign_ratio, generator)
    timestep = _drawn(timesteps, batch, generator).to(latent.device)
    return corrupted(scheduler, latent, Corruption(noise, mask), timestep)


def noise_example(
    scheduler: DDIMScheduler, latent: torch.Tensor, timesteps: torch.Tensor, generator: torch.Generator
) -> Example:
    """Gaussian noise on the whole latent, to be predicted: standard diffusion (Ho et al., NeurIPS 2020, equation 14).

    The other arguments are those of `deviation_example`.
    """
    noise = torch.randn(latent.shape, generator=generator).to(latent)
    timestep = _drawn(timesteps, len(latent), generator).to(latent.device)
    noisy = scheduler.add_noise(latent, noise, timestep)  # type: ignore[arg-type]  # declared for int32 alone
    return Example(noisy, timestep, noise)


def squared_errors(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each image over all positions and channels, float32 ``[B]``."""
    return (prediction.float() - target.float()).square().flatten(1).mean(dim=1)
