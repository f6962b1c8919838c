"""The training images of a scope as latents: sampled from moments that are stored, or encoded as they are drawn.

Images are encoded as they are drawn where no finite set of views holds their augmentation, and where what corrupts them is made
in the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather

from decodiff.content import clean_cells, made_content
from decodiff.data.augment import augmented
from decodiff.data.rows import Row, read_rows
from decodiff.data.views import View, view_probabilities
from decodiff.errors import InputError
from decodiff.files import read_array, read_json
from decodiff.models.autoencoder import Autoencoder
from decodiff.objectives import Content
from decodiff.settings import Augmentation, Image, Masking

Moments = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class TrainingSet:
    """Where one data set's encoded training images lie, and how they are drawn; no category stands for all."""

    name: str
    latents: Path
    prepared: Path
    augmentation: Augmentation
    categories: tuple[str, ...]

    def fingerprint(self) -> list[Any]:
        """What tells its latents and their use from another's, cheaply: size and time of the file, augmentation."""
        status = (self.latents / "train_mean.npy").stat()
        return [self.name, status.st_size, status.st_mtime_ns, self.augmentation.model_dump()]


class StoredMoments:
    """Moments of every view of every image, memory-mapped (see `decodiff.stages.encode`)."""

    def __init__(self, item: TrainingSet, count: int):
        self.mean = read_array(item.latents / "train_mean.npy", (count, None, None, None, None))
        self.std = read_array(item.latents / "train_std.npy", self.mean.shape)
        views = [View(**view) for view in read_json(item.latents / "views.json")]
        augmentation = item.augmentation
        self.probabilities = torch.from_numpy(
            view_probabilities(views, augmentation.shift_probability, augmentation.half_turn_probability)
        )

    def draw(self, chosen: list[int], generator: torch.Generator) -> Moments:
        """Mean and standard deviation, float32 ``[n,C,h,w]``, of a random view of each chosen image."""
        views = torch.multinomial(self.probabilities, len(chosen), replacement=True, generator=generator).tolist()
        mean = np.stack([self.mean[index, view] for index, view in zip(chosen, views)])
        std = np.stack([self.std[index, view] for index, view in zip(chosen, views)])
        return torch.from_numpy(mean), torch.from_numpy(std)


class EncodedImages:
    """Images changed and encoded as they are drawn.

    Every process changes all images of a batch, which is cheap and keeps them the same whatever their number, and encodes its
    part of them.
    """

    def __init__(self, item: TrainingSet, count: int, image: Image, autoencoder: Autoencoder):
        self.images = read_array(item.prepared / "train_images.npy", (count, image.resize, image.resize, 3))
        self.augmentation, self.image, self.autoencoder = item.augmentation, image, autoencoder

    def _encoded(self, images: torch.Tensor) -> Moments:
        state = PartialState()
        share = math.ceil(len(images) / state.num_processes)
        first = state.process_index * share
        # processes must give back equally many; what is encoded twice is cut off
        own = [min(first + position, len(images) - 1) for position in range(share)]
        moments = gather(self.autoencoder.encode(images[own]))
        return tuple(values[: len(images)].cpu() for values in moments)

    def _drawn(self, chosen: list[int], generator: torch.Generator) -> torch.Tensor:
        return augmented(np.stack([self.images[index] for index in chosen]), self.augmentation, self.image, generator)

    def draw(self, chosen: list[int], generator: torch.Generator) -> Moments:
        """As `StoredMoments.draw`."""
        return self._encoded(self._drawn(chosen, generator))

    def draw_corrupted(self, chosen: list[int], generator: torch.Generator, regions: int) -> tuple[Moments, Content]:
        """Moments of the images, and made content in their place: its latent is the mean."""
        images = self._drawn(chosen, generator)
        changed, opacity = made_content(images, regions, generator)
        clean, made = self._encoded(images), self._encoded(changed)
        return clean, Content(made[0], clean_cells(opacity, made[0].shape[-2:]))


Source = StoredMoments | EncodedImages


class TrainingData:
    """All training images of a scope.

    Attributes:
        categories: ``<data set>/<category>`` in the order of the category index.
        files: image file of each item, for messages.

    Args:
        sets: the scope's data sets.
        image: how images are cut and seen.
        masking: what corrupts them.
        autoencoder: encodes images as they are drawn; None where all latents are stored.

    Raises:
        InputError: files are missing or do not belong together, or there is no training image.
    """

    def __init__(self, sets: list[TrainingSet], image: Image, masking: Masking, autoencoder: Autoencoder | None):
        self._masking = masking
        self.sources: list[Source] = []
        self.categories: list[str] = []
        self.files: list[str] = []
        self._items: list[tuple[int, int, int]] = []
        for position, item in enumerate(sets):
            rows = read_rows(item.prepared / "train.csv")
            if item.augmentation.is_finite and masking.corruption == "patches":
                self.sources.append(StoredMoments(item, len(rows)))
            elif autoencoder is None:
                why = "masking.corruption content" if masking.corruption == "content" else "its augmentation"
                raise InputError(f"{item.name}: {why} needs the autoencoder while training; give --autoencoder")
            else:
                self.sources.append(EncodedImages(item, len(rows), image, autoencoder))
            self._add(position, item, rows)
        if not self._items:
            raise InputError(f"{sets[0].prepared / 'train.csv'}: no training image for this scope; at least one is needed")
        shapes = {tuple(source.draw([0], torch.Generator())[0].shape[1:]) for source in self.sources}
        if len(shapes) != 1:
            raise InputError("the data sets of a scope have latents of different shapes; encode them with one autoencoder")
        self.channels = shapes.pop()[0]

    def _add(self, position: int, item: TrainingSet, rows: list[Row]) -> None:
        known = item.categories or tuple(dict.fromkeys(row.category for row in rows))
        first = len(self.categories)
        self.categories += [f"{item.name}/{category}" for category in known]
        for index, row in enumerate(rows):
            if row.category in known:
                self._items.append((position, index, first + known.index(row.category)))
                self.files.append(row.image)

    def __len__(self) -> int:
        return len(self._items)

    def _gathered(self, chosen: list[int], draw: Callable[[Source, list[int]], tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
        """What ``draw`` gives of each source's share of the chosen items, in their order."""
        gathered: list[torch.Tensor] = []
        for position, source in enumerate(self.sources):
            here = [place for place, item in enumerate(chosen) if self._items[item][0] == position]
            if not here:
                continue
            drawn = draw(source, [self._items[chosen[place]][1] for place in here])
            gathered = gathered or [torch.empty(len(chosen), *values.shape[1:]) for values in drawn]
            for whole, part in zip(gathered, drawn):
                whole[here] = part
        return gathered

    def batch(self, chosen: list[int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents sampled from the posteriors, float32 ``[B,C,h,w]``, and categories int64 ``[B]``, of the chosen items."""
        mean, std = self._gathered(chosen, lambda source, items: source.draw(items, generator))
        return mean + std * torch.randn(mean.shape, generator=generator), self._categories(chosen)

    def batch_with_content(self, chosen: list[int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, Content]:
        """As `batch`, and the made content that corrupts it.

        Raises:
            ValueError: latents are stored, as ``masking.corruption`` is not ``content``.
        """

        def draw(source: Source, items: list[int]) -> tuple[torch.Tensor, ...]:
            if isinstance(source, StoredMoments):
                raise ValueError("content is made in images, and these latents are stored")
            clean, content = source.draw_corrupted(items, generator, self._masking.regions)
            return *clean, content.latent, content.mask

        mean, std, made, mask = self._gathered(chosen, draw)
        latent = mean + std * torch.randn(mean.shape, generator=generator)
        return latent, self._categories(chosen), Content(made, mask)

    def _categories(self, chosen: list[int]) -> torch.Tensor:
        return torch.tensor([self._items[item][2] for item in chosen])
