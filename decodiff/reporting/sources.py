"""What figures and the report draw from: one data set's results under one model, opened and checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from decodiff.data.manifest import Row, read_positions
from decodiff.data.registry import display_name
from decodiff.data.views import cropped
from decodiff.files import read_array


@dataclass(frozen=True)
class Part:
    """One data set under one model.

    Attributes:
        dataset: its name.
        results: folder of its results (images, maps, corrections).
        prepared: folder of its prepared images.
        crop: side of the maps in pixels.
        protocol: which masks to show.
    """

    dataset: str
    results: Path
    prepared: Path
    crop: int
    protocol: str

    @property
    def title(self) -> str:
        return display_name(self.dataset)

    @cached_property
    def _images(self) -> tuple[np.ndarray, list[Row]]:
        return read_positions(self.results / "images.csv")

    @property
    def rows(self) -> list[Row]:
        return self._images[1]

    @cached_property
    def maps(self) -> np.ndarray:
        """float32 ``[N,H,W]``."""
        return read_array(self.results / "anomaly_maps.npy", (len(self.rows), self.crop, self.crop))

    @cached_property
    def corrections(self) -> np.ndarray:
        """uint8 ``[N,H,W,3]``."""
        return read_array(self.results / "corrections.npy", (len(self.rows), self.crop, self.crop, 3))

    @cached_property
    def inputs(self) -> np.ndarray:
        """uint8 ``[N,H,W,3]``."""
        images = read_array(self.prepared / "test_images.npy", (None, None, None, 3))
        return cropped(images, self.crop)[self._images[0]]

    @cached_property
    def masks(self) -> np.ndarray:
        """bool ``[N,H,W]``."""
        masks = read_array(self.prepared / f"test_masks_{self.protocol}.npy", (None, None, None))
        return cropped(masks, self.crop)[self._images[0]].astype(bool)

    @cached_property
    def scores(self) -> np.ndarray:
        """Image scores, float ``[N]``."""
        return self.maps.reshape(len(self.maps), -1).max(axis=1)

    @cached_property
    def labels(self) -> np.ndarray:
        """Whether each image is anomalous, bool ``[N]``."""
        return np.array([row.label for row in self.rows], dtype=bool)

    def by_category(self) -> dict[str, np.ndarray]:
        """Positions of each category's images, categories in order of appearance."""
        categories = np.array([row.category for row in self.rows])
        return {name: np.flatnonzero(categories == name) for name in dict.fromkeys(categories.tolist())}

    @cached_property
    def map_limit(self) -> float:
        """Upper end of the colour scale shared by all maps of the data set."""
        return max(float(np.quantile(self.maps, 0.999)), 1e-6)
