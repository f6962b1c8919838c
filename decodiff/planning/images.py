"""How many images the jobs of a run have before them, whether or not the data sets are here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decodiff.config import Config
from decodiff.data.rows import read_rows
from decodiff.data.views import views
from decodiff.errors import InputError
from decodiff.settings import Augmentation
from decodiff.variants import sweep_variants

if TYPE_CHECKING:
    from decodiff.data.layouts import Entry

# splits
TRAINED, OTHERS = ("train",), ("test", "validation")


class Images:
    """The images of a run's data sets.

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
            from decodiff.data.made_defects import KINDS, held_out  # it loads SciPy, which few runs need for their plan

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
        from decodiff.data.layouts import find_root, left_out, read_layout

        settings, layout = self._config.data[dataset], self._config.entry(dataset).layout
        try:
            # without a source there is nothing, not even in the folder that this is started in
            entries = read_layout(layout, find_root(layout, Path(settings.source or os.devnull)), ())
        except InputError:
            self.unknown.add(dataset)
            return []
        return left_out(entries, settings.hold_out, f"{settings.kind or dataset} hold_out") if settings.hold_out else entries

    def by_category(self, dataset: str, is_trained: bool) -> Mapping[str, float]:
        """Number of images of each category, of those that are trained on or of the others."""
        key = dataset, TRAINED if is_trained else OTHERS
        if key not in self._counted:
            self._counted[key] = self._count(*key)
        return self._counted[key]

    def images(self, dataset: str, is_trained: bool, categories: Iterable[str] = ()) -> float:
        """Number of images of some categories, or of all; of those that are trained on, or of the others."""
        found = self.by_category(dataset, is_trained)
        return sum((found.get(category, 0.0) for category in categories or found), 0.0)

    def trained(self, scope: str) -> float:
        """Number of images that a scope's network is trained on."""
        return sum(self.images(name, True, categories) for name, categories in self._config.members(scope).items())

    def tested(self, dataset: str, scope: str) -> float:
        """Number of images that a scope's network is tested on."""
        return self.images(dataset, False, self._config.members(scope)[dataset])

    def encoded(self, dataset: str, settings: Mapping[str, Any]) -> float:
        """Number of views of a data set's training images that are encoded beforehand, by the sections that `encode` reads."""
        augmentation = Augmentation(**settings["augmentation"])
        turns = augmentation.half_turn_probability > 0
        return self.images(dataset, True) * (len(views(augmentation.max_shift, turns)) if augmentation.is_finite else 0)

    def size(self, wildcards: Mapping[str, str]) -> str:
        """Name of the size of the network that a job computes with."""
        return self._sizes.get(wildcards.get("model", ""), self._config.training.unet)
