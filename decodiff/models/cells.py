"""An autoencoder without training: whitened principal components of square cells.

An image is cut into cells of ``cell`` × ``cell`` pixels, and a cell's latent holds its first principal components over the
normal training images, each divided by its standard deviation there. With enough components it loses next to nothing, takes
seconds to fit, and leaves no blur and no artefact of its own in what it decodes. Structures that normal cells vary little in,
as the edge of a scratch, count as much in such a latent as those that they vary in most.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional

from decodiff.registered import registered

# added to each variance before it divides, as a share of the mean variance of a pixel: a component in which normal images hold
# nothing but the rounding to 8 bits is not raised to the others' level
NOISE_SHARE = 1e-5


class CellComponents(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' own mixins disagree
    """Cells to components and back, both linear.

    Args:
        cell: side of a cell in pixels.
        latent_channels: components kept.
        scaling_factor, posterior_std: as `decodiff.models.autoencoder.Autoencoder` reads them.
    """

    @registered
    def __init__(self, cell: int, latent_channels: int, scaling_factor: float = 1.0, posterior_std: float = 0.0):
        super().__init__()
        self.encoder = nn.Conv2d(3, latent_channels, cell, stride=cell)
        self.decoder = nn.ConvTranspose2d(latent_channels, 3, cell, stride=cell)

    def encode(self, images: torch.Tensor) -> AutoencoderTinyOutput:
        """Latents float ``[B,latent_channels,h,w]`` of images ``[B,3,h·cell,w·cell]``."""
        return AutoencoderTinyOutput(latents=self.encoder(images))

    def decode(self, latents: torch.Tensor) -> DecoderOutput:
        """Images float ``[B,3,h·cell,w·cell]`` of latents ``[B,latent_channels,h,w]``."""
        return DecoderOutput(sample=self.decoder(latents))


def _moments(batches: Iterable[torch.Tensor], cell: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of each channel, float64 ``[3]``, and the covariance about it of all cells, ``[n,n]`` with n = 3·cell²."""
    size = 3 * cell * cell
    count, total, squares = 0, torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    for images in batches:
        cells = functional.unfold(images, cell, stride=cell).transpose(1, 2).reshape(-1, size)
        count, total = count + len(cells), total + cells.sum(dim=0, dtype=torch.float64)
        # float32 within a batch is exact enough, and several times faster
        squares += (cells.T @ cells).double()
    mean = total / count
    # a convolution's bias is one number per channel, so that is what cells are centred on
    channels = mean.reshape(3, -1).mean(dim=1)
    centre = channels.repeat_interleave(cell * cell)
    return channels, squares / count - torch.outer(centre, mean) - torch.outer(mean - centre, centre)


def fit_components(batches: Iterable[torch.Tensor], cell: int, latent_channels: int, whitening: float = 1.0) -> CellComponents:
    """The principal components of the cells of normal images.

    Args:
        batches: images float32 ``[n,3,H,W]`` in [-1, 1], H and W multiples of ``cell``.
        cell: side of a cell in pixels.
        latent_channels: components to keep, at most 3·cell²; grey images have no more than cell² that differ from 0.
        whitening: power of a component's standard deviation that it is divided by, in [0, 1]: with 1 all are equally large, and
            fine structures count as much as coarse ones; with 0 they are as in the image.
    """
    mean, covariance = _moments(batches, cell)
    variances, directions = torch.linalg.eigh(covariance)
    # the largest first; of eigenvectors the sign is free, and is set so that every machine agrees
    variances, directions = variances.flip(0)[:latent_channels].clamp(min=0), directions.flip(1)[:, :latent_channels]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    directions = directions * largest.sign()
    scales = (variances + NOISE_SHARE * covariance.trace() / len(covariance)).clamp(min=1e-12) ** (whitening / 2)
    module = CellComponents(cell, latent_channels)
    shape = (latent_channels, 3, cell, cell)
    forth, back = (directions / scales).T, (directions * scales).T
    module.encoder.load_state_dict({"weight": forth.reshape(shape), "bias": -forth @ mean.repeat_interleave(cell * cell)})
    module.decoder.load_state_dict({"weight": back.reshape(shape), "bias": mean})
    return module
