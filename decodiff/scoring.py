"""Anomaly maps from an image, its correction and both latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from skimage.transform import resize

FUSIONS = ("pixel", "latent", "geometric", "arithmetic")


@dataclass(frozen=True)
class ScoringSettings:
    """Constants of the two discrepancies (defaults: the released recipe at 256 px).

    Attributes:
        pixel_clip: pixel differences are clipped to ``[0, pixel_clip]`` and divided by it (images in [-1, 1]).
        pixel_sigma: Gaussian blur of the pixel discrepancy, in image pixels; 0 for none.
        latent_clip: latent differences are clipped to ``[0, latent_clip]`` and divided by it (scaled latents).
        latent_sigma: Gaussian blur of the latent discrepancy, in latent cells; 0 for none.
        fused_sigma: Gaussian blur of the fused maps, in image pixels; 0 for none.
    """

    pixel_clip: float = 0.4
    pixel_sigma: float = 3.0
    latent_clip: float = 0.2
    latent_sigma: float = 1.0
    fused_sigma: float = 0.0


@dataclass(frozen=True)
class AnomalyMaps:
    """The four maps of a batch, each float32 ``[B,H,W]`` in [0, 1]; higher is more anomalous."""

    pixel: torch.Tensor
    latent: torch.Tensor
    geometric: torch.Tensor
    arithmetic: torch.Tensor


# Blur and resize are linear and separable, so each is a pair of small matrices, made once by the reference routine itself
# (scipy's Gaussian, skimage's bilinear resize) and applied to a whole batch at a time.
@lru_cache(maxsize=32)
def _gaussian_matrix(size: int, sigma: float) -> torch.Tensor:
    return torch.from_numpy(gaussian_filter1d(np.eye(size), sigma, axis=0) if sigma > 0 else np.eye(size)).float()


@lru_cache(maxsize=32)
def _resize_matrix(size: int, target: int) -> torch.Tensor:
    return torch.from_numpy(resize(np.eye(size), (target, size), order=1, anti_aliasing=False)).float()


def _separable(maps: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return rows.to(maps.device) @ maps @ columns.to(maps.device).T


def _blur(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    if sigma == 0:
        return maps
    return _separable(maps, _gaussian_matrix(maps.shape[1], sigma), _gaussian_matrix(maps.shape[2], sigma))


def pixel_discrepancy(image: torch.Tensor, reconstruction: torch.Tensor, settings: ScoringSettings) -> torch.Tensor:
    """``|xc − x0|``, maximum over channels, clipped, scaled to [0, 1] and blurred: float32 ``[B,H,W]``."""
    difference = (reconstruction.float() - image.float()).abs().amax(dim=1)
    return _blur(difference.clamp(max=settings.pixel_clip) / settings.pixel_clip, settings.pixel_sigma)


def latent_discrepancy(
    latent: torch.Tensor, corrected_latent: torch.Tensor, size: Sequence[int], settings: ScoringSettings
) -> torch.Tensor:
    """``|zc − z|``, mean over channels, clipped, scaled to [0, 1], blurred and resized to the image: float32 ``[B,H,W]``."""
    difference = (corrected_latent.float() - latent.float()).abs().mean(dim=1)
    blurred = _blur(difference.clamp(max=settings.latent_clip) / settings.latent_clip, settings.latent_sigma)
    return _separable(blurred, _resize_matrix(blurred.shape[1], size[0]), _resize_matrix(blurred.shape[2], size[1]))


def anomaly_maps(
    image: torch.Tensor,
    reconstruction: torch.Tensor,
    latent: torch.Tensor,
    corrected_latent: torch.Tensor,
    settings: ScoringSettings = ScoringSettings(),
) -> AnomalyMaps:
    """Pixel and latent discrepancy and their two fusions (geometric ``√(pixel·latent)``, arithmetic mean).

    Args:
        image: ``x0 = D(z)``, the decoded latent (not the input image), float ``[B,3,H,W]`` in [-1, 1].
        reconstruction: ``xc = D(zc)``, the decoded corrected latent, same shape.
        latent: ``z``, scaled, float ``[B,C,h,w]``.
        corrected_latent: ``zc``, same shape.
        settings: clips and blurs.
    """
    pixel = pixel_discrepancy(image, reconstruction, settings)
    latent_map = latent_discrepancy(latent, corrected_latent, image.shape[-2:], settings)
    geometric = _blur((pixel * latent_map).clamp(min=0).sqrt(), settings.fused_sigma)
    arithmetic = _blur((pixel + latent_map) / 2, settings.fused_sigma)
    return AnomalyMaps(pixel=pixel, latent=latent_map, geometric=geometric, arithmetic=arithmetic)


def decoded_maps(
    decode: Callable[[torch.Tensor], torch.Tensor],
    latent: torch.Tensor,
    corrected_latent: torch.Tensor,
    settings: ScoringSettings,
    fusion: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode latents and their corrections, in one batch, and compare them.

    Args:
        decode: gives images float32 ``[2B,3,H,W]`` of latents ``[2B,C,h,w]``.
        latent, corrected_latent: see `anomaly_maps`.
        settings: clips and blurs.
        fusion: which of the maps, one of `FUSIONS`.

    Returns:
        The anomaly maps float32 ``[B,H,W]`` in [0, 1], and the corrected images float32 ``[B,3,H,W]``, nominally in [-1, 1].
    """
    image, reconstruction = decode(torch.cat([latent, corrected_latent])).chunk(2)
    return getattr(anomaly_maps(image, reconstruction, latent, corrected_latent, settings), fusion), reconstruction
