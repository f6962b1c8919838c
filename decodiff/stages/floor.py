"""`floor`: anomaly maps by a method without a network, for others to be compared with."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sklearn
from tqdm import tqdm

from decodiff.components import Components, anomaly_map, fit, sampled_patches
from decodiff.data.rows import read_rows, write_positions
from decodiff.data.views import cropped
from decodiff.errors import InputError
from decodiff.files import read_array, write_json, writing_array
from decodiff.provenance import environment
from decodiff.seeds import numpy_generator
from decodiff.settings import Floor

log = logging.getLogger(__name__)

# read at a time
BATCH_IMAGES = 16


def _batches(path: Path, count: int, positions: np.ndarray, crop: int) -> Iterator[np.ndarray]:
    """The central crops of some of an array's ``count`` images, uint8 ``[n,crop,crop,3]``."""
    for start in range(0, len(positions), BATCH_IMAGES):
        # opened for each batch, so that what was read does not stay mapped
        images = read_array(path, (count, None, None, 3))[positions[start : start + BATCH_IMAGES]]
        if images.shape[1] < crop:
            raise InputError(
                f"{path}: images of {images.shape[1]} pixels for maps of {crop}; prepare the data set at {crop} or more"
            )
        yield cropped(images, crop)


def _fitted(prepared: Path, settings: Floor, crop: int) -> dict[str, Components]:
    """Components of every category's training images."""
    rows = read_rows(prepared / "train.csv")
    by_category: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        by_category.setdefault(row.category, []).append(position)
    found = {}
    for category, positions in tqdm(by_category.items(), desc="fit", unit="category"):
        batches = _batches(prepared / "train_images.npy", len(rows), np.array(positions), crop)
        generator = numpy_generator(0, f"floor {category}")
        patches = sampled_patches(batches, len(positions), settings.patch_side, settings.patches, generator)
        found[category] = fit(patches, settings.variance_kept)
        log.info("%s: %d components of %d patches", category, found[category].whitening.shape[1], len(patches))
    return found


def floor(prepared: Path, floor: Floor, crop: int, output: Path) -> None:
    """Compare the patches of each image with those of its category's training images; see `decodiff.components`.

    Writes ``anomaly_maps.npy`` float32 ``[N,H,W]``, at least 0, of all test and validation images, and ``images.csv``, as the
    stage `score` does; ``floor.json`` has the settings, the number of components by category, and versions.

    Args:
        prepared: folder of the prepared data set.
        floor: settings.
        crop: side of the maps in pixels.
        output: folder to write to.

    Raises:
        InputError: files are damaged or do not belong together, or a category has no training image.
    """
    components = _fitted(prepared, floor, crop)
    rows = read_rows(prepared / "test.csv")
    if unknown := [row.image for row in rows if row.category not in components]:
        raise InputError(f"{prepared}: {unknown[0]} is of a category without training images; prepare the data set again")
    with writing_array(output / "anomaly_maps.npy", (len(rows), crop, crop), np.float32) as maps:
        batches = _batches(prepared / "test_images.npy", len(rows), np.arange(len(rows)), crop)
        for batch in tqdm(batches, desc="floor", unit="batch", total=math.ceil(len(rows) / BATCH_IMAGES)):
            # image by image, so that the result does not depend on the batch
            for image in batch:
                maps.append(anomaly_map(image, components[rows[maps.length].category], floor.patch_side))
    write_positions(output / "images.csv", enumerate(rows))
    kept = {category: of.whitening.shape[1] for category, of in components.items()}
    versions = environment() | {"scikit-learn": sklearn.__version__}
    write_json(output / "floor.json", {**floor.model_dump(), "components": kept, "environment": versions})
    log.info("%d anomaly maps of %d×%d pixels", len(rows), crop, crop)
