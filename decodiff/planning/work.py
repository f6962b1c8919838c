"""How much each job has to do: operations of networks, counted by PyTorch, or images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from diffusers.models import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from decodiff.models.autoencoder import STABLE_DIFFUSION, Module, build_autoencoder
from decodiff.models.cells import CellComponents
from decodiff.models.unet import build_unet, prediction_operations
from decodiff.planning.images import Images
from decodiff.settings import ComponentAutoencoder, PretrainedAutoencoder, TrainedAutoencoder

# a step of training, in predictions: backward takes twice as many operations as forward
STEP = 3


def _operations(compute: Callable[[], Any]) -> int:
    """Operations of a computation on tensors without memory, two per multiply-add."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops()


@cache
def unet_operations(name: str, channels: int, side: int) -> int:
    """Operations of one prediction of a network for one latent ``[channels,side,side]``."""
    with torch.device("meta"):
        network = build_unet(name, 1, channels)
    return prediction_operations(network, (channels, side, side))


@cache
def autoencoder_operations(
    settings: PretrainedAutoencoder | TrainedAutoencoder | ComponentAutoencoder, crop: int
) -> tuple[int, int]:
    """Operations to encode and to decode an image of ``crop`` pixels; a pretrained one counts as Stable Diffusion's."""
    network: Module
    with torch.device("meta"):
        if isinstance(settings, PretrainedAutoencoder):
            network, channels = AutoencoderKL(**STABLE_DIFFUSION), STABLE_DIFFUSION["latent_channels"]
        elif isinstance(settings, ComponentAutoencoder):
            channels = settings.latent_channels
            network = CellComponents(settings.downsampling, channels)
        else:
            channels = settings.latent_channels
            network = build_autoencoder(settings.channels, settings.downsampling, settings.blocks, channels)
        image, cells = torch.zeros(1, 3, crop, crop), crop // settings.downsampling
        latent = torch.zeros(1, channels, cells, cells)
        return _operations(lambda: network.encode(image)), _operations(lambda: network.decode(latent))


class Work(Images):
    """How much the jobs of a run have to do; see `decodiff.planning.images.Images`."""

    def _unet(self, name: str) -> int:
        settings = self._config.autoencoder
        channels = getattr(settings, "latent_channels", STABLE_DIFFUSION["latent_channels"])
        return unet_operations(name, channels, self._config.image.crop // settings.downsampling)

    def _coder(self) -> tuple[int, int]:
        return autoencoder_operations(self._config.autoencoder, self._config.image.crop)

    def _autoencoder(self) -> float:
        settings = self._config.autoencoder
        if not isinstance(settings, TrainedAutoencoder):
            return 0
        per_image = STEP * sum(autoencoder_operations(settings, settings.crop))
        return settings.steps * settings.batch_size * per_image

    def of(self, rule: str, wildcards: Mapping[str, str], settings: Mapping[str, Any]) -> float:
        """What a job of a rule has to do: operations, images, or 1; comparable within the rule.

        Args:
            rule: its name.
            wildcards: of the job.
            settings: the sections that its stage may read.
        """
        dataset, scope = wildcards.get("dataset", ""), wildcards.get("scope", "")
        match rule.removesuffix("_variant"):
            case "autoencoder":
                return self._autoencoder()
            case "encode":
                return self.encoded(dataset, settings) * self._coder()[0]
            case "encode_test":
                return self.images(dataset, False) * self._coder()[0]
            case "train":
                training = settings["training"]
                return (
                    (training["epoch_images"] or self.trained(scope)) * training["epochs"] * STEP * self._unet(training["unet"])
                )
            case "correct":
                return self.tested(dataset, scope) * settings["correction"]["steps"] * self._unet(self.size(wildcards))
            case "score":
                return self.tested(dataset, scope) * 2 * self._coder()[1]
            case "over_compute":
                once = self.of("correct", wildcards, settings) + self.of("score", wildcards, settings)
                return once * len(self._config.training.kept_epochs)
            case "fetch" | "make_defects" | "prepare":
                return self.images(dataset, True) + self.images(dataset, False)
            case "method":
                return 60 * settings["minutes"]
            case "floor" | "evaluate_floor":
                return self.images(dataset, False)
            case "evaluate" | "evaluate_method" | "curves":
                return self.tested(dataset, scope)
        return 1
