"""What figures and the report draw from: one data set's results under one model, opened and checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from decodiff.data.registry import display_name
from decodiff.data.rows import Row, read_positions
from decodiff.data.views import cropped
from decodiff.files import read_array, read_csv
from decodiff.stages.evaluate import SCORE_COLUMNS, THRESHOLD_COLUMNS


@dataclass(frozen=True)
class Part:
    """One data set under one model: its test images, not those held out for the threshold.

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
    def _images(self) -> tuple[np.ndarray, np.ndarray, list[Row], int]:
        """Of the test images: positions in the results' arrays, in the prepared arrays, rows; the results' length."""
        places, rows = read_positions(self.results / "images.csv")
        tested = [index for index, row in enumerate(rows) if row.split == "test"]
        return np.array(tested), places[tested], [rows[index] for index in tested], len(rows)

    @property
    def rows(self) -> list[Row]:
        return self._images[2]

    def _result(self, name: str, *shape: int) -> np.ndarray:
        array = read_array(self.results / f"{name}.npy", (self._images[3], self.crop, self.crop, *shape))
        return array if len(self.rows) == len(array) else array[self._images[0]]

    @cached_property
    def maps(self) -> np.ndarray:
        """float32 ``[N,H,W]``."""
        return self._result("anomaly_maps")

    @cached_property
    def corrections(self) -> np.ndarray:
        """uint8 ``[N,H,W,3]``."""
        return self._result("corrections", 3)

    @cached_property
    def inputs(self) -> np.ndarray:
        """uint8 ``[N,H,W,3]``."""
        images = read_array(self.prepared / "test_images.npy", (None, None, None, 3))
        return cropped(images, self.crop)[self._images[1]]

    @cached_property
    def masks(self) -> np.ndarray:
        """bool ``[N,H,W]``."""
        masks = read_array(self.prepared / f"test_masks_{self.protocol}.npy", (None, None, None))
        return cropped(masks, self.crop)[self._images[1]].astype(bool)

    @cached_property
    def _scored(self) -> list[dict[str, str]]:
        """What was written of each image."""
        by_image = {row["image"]: row for row in read_csv(self.results / "scores.csv", SCORE_COLUMNS)}
        return [by_image[row.image] for row in self.rows]

    @cached_property
    def scores(self) -> np.ndarray:
        """Image scores, float ``[N]``."""
        return np.array([float(row["image_score"]) for row in self._scored])

    @property
    def alarms(self) -> list[bool | None]:
        """Whether each image is called anomalous; None where there is no threshold."""
        return [row["alarm"] == "1" if row["alarm"] else None for row in self._scored]

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """Image score above which an image is called anomalous, by category; of those that have one."""
        rows = read_csv(self.results / "thresholds.csv", THRESHOLD_COLUMNS)
        return {row["category"]: float(row["threshold"]) for row in rows if row["threshold"]}

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
