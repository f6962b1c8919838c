"""The autoencoder behind the latents: a pretrained ``AutoencoderKL``, one trained in the pipeline, or principal components.

The trained one is diffusers' ``AutoencoderTiny``: plain convolutions without normalisation. The group normalisation of a small
``AutoencoderKL`` takes away the absolute colours of an image, which it then learns only slowly to give back. The posterior is
a Gaussian of one fixed standard deviation, kept as ``posterior_std`` in its configuration.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from diffusers.models import AutoencoderKL, AutoencoderTiny

from decodiff.errors import InputError
from decodiff.files import replacing
from decodiff.models.cells import CellComponents
from decodiff.models.storage import checked_config, load_network, save_network

# the shape of Stable Diffusion's autoencoders
STABLE_DIFFUSION: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}
CLASSES = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny, "CellComponents": CellComponents}
Module = AutoencoderKL | AutoencoderTiny | CellComponents
# images that the benchmark encodes at a time; in other batches the last bits may differ
ENCODED_TOGETHER = 32


class Autoencoder:
    """Images to scaled latents and back, whichever network does it.

    Attributes:
        module: the diffusers network.
        scaling_factor: latents are multiplied by it, so that their standard deviation is about 1.
        posterior_std: standard deviation of the posterior in scaled units, where the network does not predict one.
    """

    def __init__(self, module: Module, posterior_std: float = 0.0):
        self.module = module.eval().requires_grad_(False)
        self.scaling_factor = float(module.config["scaling_factor"])
        self.posterior_std = posterior_std

    @property
    def latent_channels(self) -> int:
        return self.module.config["latent_channels"]

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the scaled posterior, float32 ``[B,C,h,w]``, of images ``[B,3,H,W]`` in [-1, 1]."""
        images = images.to(self.device)
        if not isinstance(self.module, AutoencoderKL):
            mean = self.module.encode(images).latents * self.scaling_factor
            return mean, torch.full_like(mean, self.posterior_std)
        posterior = self.module.encode(images).latent_dist
        return posterior.mean * self.scaling_factor, posterior.std * self.scaling_factor

    @torch.no_grad()
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Images float32 ``[B,3,H,W]``, nominally in [-1, 1], of scaled latents ``[B,C,h,w]``."""
        return self.module.decode(latent.to(self.device) / self.scaling_factor).sample.float()


def build_autoencoder(channels: int, downsampling: int, blocks: int, latent_channels: int) -> AutoencoderTiny:
    """A fresh small autoencoder with ``downsampling`` pixels a latent cell (a power of two)."""
    levels = downsampling.bit_length()
    return AutoencoderTiny(
        encoder_block_out_channels=(channels,) * levels,
        decoder_block_out_channels=(channels,) * levels,
        num_encoder_blocks=(blocks,) * levels,
        num_decoder_blocks=(blocks,) * levels,
        latent_channels=latent_channels,
        upsampling_scaling_factor=2,
    )


def save_autoencoder(autoencoder: Autoencoder, folder: Path) -> None:
    """Write the network in diffusers' own format: ``config.json`` and safetensors."""
    module = autoencoder.module
    module.register_to_config(scaling_factor=autoencoder.scaling_factor, posterior_std=autoencoder.posterior_std)
    with replacing(folder) as temporary:
        save_network(module, temporary)


def channels_last(module: Module) -> Module:
    """Lay the weights out so that convolutions run faster; AutoencoderKL's decoder would run slower in float32, so not that."""
    module.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's overloads leave it out
    if isinstance(module, AutoencoderTiny):
        module.decoder.to(memory_format=torch.channels_last)
    return module


def load_autoencoder(path: str | Path, device: torch.device | str = "cpu") -> Autoencoder:
    """Load an autoencoder from a folder in diffusers' format, or an ``AutoencoderKL`` from the hub by its id.

    Only safetensors are read. Raises `InputError` when it cannot be found, loaded, or is of another kind.
    """
    folder = Path(path)
    config = checked_config(folder) if folder.is_dir() else {"_class_name": "AutoencoderKL"}
    kind = CLASSES.get(str(config.get("_class_name")))
    if kind is None:
        raise InputError(
            f"{folder / 'config.json'}: _class_name {config.get('_class_name')!r}, expected {' or '.join(CLASSES)}"
        )
    try:
        module = channels_last(load_network(kind, path, config))
        module.to(device)  # type: ignore[arg-type]  # mypy takes what diffusers wraps for no method
        result = Autoencoder(module, posterior_std=float(config.get("posterior_std", 0.0)))
        if not (result.scaling_factor > 0 and 0 <= result.posterior_std < math.inf > result.scaling_factor):
            raise ValueError(f"scaling_factor {result.scaling_factor}, posterior_std {result.posterior_std}")
    except Exception as error:  # whatever a damaged or malicious folder makes of the reader
        raise InputError(
            f"{path}: cannot load an autoencoder ({' '.join(str(error).split())[:200]}); give the id of one on the hub that "
            "can be reached, or a local folder with config.json and safetensors"
        ) from error
    return result
