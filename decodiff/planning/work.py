"""How much each job has to do: operations of networks, counted by PyTorch, or images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers.models import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from decodiff.config import Config
from decodiff.data.layouts import Entry, find_root, left_out, read_layout
from decodiff.data.made_defects import KINDS, held_out
from decodiff.data.rows import read_rows
from decodiff.data.views import views
from decodiff.errors import InputError
from decodiff.models.autoencoder import STABLE_DIFFUSION, Module, build_autoencoder
from decodiff.models.cells import CellComponents
from decodiff.models.unet import build_unet, prediction_operations
from decodiff.settings import Augmentation, ComponentAutoencoder, PretrainedAutoencoder, TrainedAutoencoder
from decodiff.variants import sweep_variants

# a step of training, in predictions: backward takes twice as many operations as forward
STEP = 3
# splits
TRAINED, OTHERS = ("train",), ("test", "validation")


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


class Work:
    """How much the jobs of a run have to do.

    Args:
        config: of the run.
        data: folder of the data sets, whose manifests say how many images they have; without one the registry does, or the
            user's own folder or list.

    Attributes:
        unknown: data sets whose number of images is not known yet; their jobs count as nothing.
    """

    def __init__(self, config: Config, data: Path = Path("data")):
        self._config, self._data = config, data
        self._counted: dict[tuple[str, tuple[str, ...]], Mapping[str, float]] = {}
        self.unknown: set[str] = set()
        # the size of the network behind each variant's name
        self._sizes = {
            variant.names["model"]: variant.changes.get("training.unet", config.training.unet)
            for lines in sweep_variants(config.sweeps).values()
            for variant in lines
        }

    def _count(self, dataset: str, splits: tuple[str, ...]) -> Mapping[str, float]:
        """Images of a data set in some splits, by category."""
        manifest = self._data / dataset / "manifest.csv"
        if manifest.is_file():
            return Counter(row.category for row in read_rows(manifest) if row.split in splits)
        if of := self._config.data[dataset].of:
            normal = self._count(of, TRAINED)
            kept_out = {category: held_out(count) for category, count in normal.items()}
            if splits == TRAINED:
                return {category: count - kept_out[category] for category, count in normal.items()}
            validation = self._count(of, ("validation",))
            return {category: validation.get(category, 0) + count * (1 + len(KINDS)) for category, count in kept_out.items()}
        entry = self._config.entry(dataset)
        if entry.origin == "own":
            return Counter(image.category for image in self._own(dataset) if image.split in splits)
        if entry.counts is None:
            self.unknown.add(dataset)
            return {}
        counts = entry.counts
        numbers = {"train": counts.train, "test": counts.test_normal + counts.test_anomalous, "validation": counts.validation}
        total = sum(numbers[split] for split in splits)
        return dict.fromkeys(entry.categories, total / len(entry.categories))

    def _own(self, dataset: str) -> list[Entry]:
        """Own images that are not fetched yet; none of an archive, or of what `fetch` will refuse."""
        settings, layout = self._config.data[dataset], self._config.entry(dataset).layout
        try:
            # without a source there is nothing, not even in the folder that this is started in
            entries = read_layout(layout, find_root(layout, Path(settings.source or os.devnull)), ())
        except InputError:
            self.unknown.add(dataset)
            return []
        return left_out(entries, settings.hold_out, f"{settings.kind or dataset} hold_out") if settings.hold_out else entries

    def images(self, dataset: str, is_trained: bool, categories: Iterable[str] = ()) -> float:
        """Number of images of some categories, or of all; of those that are trained on, or of the others."""
        key = dataset, TRAINED if is_trained else OTHERS
        if key not in self._counted:
            self._counted[key] = self._count(*key)
        found = self._counted[key]
        return sum((found.get(category, 0.0) for category in categories or found), 0.0)

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
                augmentation = Augmentation(**settings["augmentation"])
                turns = augmentation.half_turn_probability > 0
                seen = len(views(augmentation.max_shift, turns)) if augmentation.is_finite else 0
                return self.images(dataset, True) * seen * self._coder()[0]
            case "encode_test":
                return self.images(dataset, False) * self._coder()[0]
            case "train":
                members = self._config.members(scope)
                images = sum(self.images(name, True, categories) for name, categories in members.items())
                training = settings["training"]
                return (training["epoch_images"] or images) * training["epochs"] * STEP * self._unet(training["unet"])
            case "correct":
                images = self.images(dataset, False, self._config.members(scope)[dataset])
                size = self._sizes.get(wildcards.get("model", ""), self._config.training.unet)
                return images * settings["correction"]["steps"] * self._unet(size)
            case "score":
                return self.images(dataset, False, self._config.members(scope)[dataset]) * 2 * self._coder()[1]
            case "over_compute":
                once = self.of("correct", wildcards, settings) + self.of("score", wildcards, settings)
                return once * len(self._config.training.kept_epochs)
            case "fetch" | "make_defects" | "prepare":
                return self.images(dataset, True) + self.images(dataset, False)
            case "method":
                return 60 * settings["minutes"]
            case "evaluate_method":
                return self.images(dataset, False, self._config.members(scope)[dataset])
            case "floor" | "evaluate_floor":
                return self.images(dataset, False)
            case "evaluate" | "curves":
                return self.images(dataset, False, self._config.members(scope)[dataset])
        return 1
