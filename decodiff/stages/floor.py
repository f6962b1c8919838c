"""`floor`: anomaly maps by a method without a network, for others to be compared with."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import sklearn
from tqdm import tqdm

from decodiff.components import Components, anomaly_map, fit, sampled_patches
from decodiff.data.rows import read_rows, write_positions
from decodiff.data.views import BATCH_IMAGES, central_crops
from decodiff.errors import InputError
from decodiff.files import write_json, writing_array
from decodiff.provenance import environment
from decodiff.seeds import numpy_generator
from decodiff.settings import Floor

log = logging.getLogger(__name__)


def _fitted(prepared: Path, settings: Floor, crop: int) -> dict[str, Components]:
    """Components of every category's training images."""
    rows = read_rows(prepared / "train.csv")
    by_category: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        by_category.setdefault(row.category, []).append(position)
    found = {}
    for category, positions in tqdm(by_category.items(), desc="fit", unit="category"):
        batches = central_crops(prepared / "train_images.npy", len(rows), positions, crop)
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
        batches = central_crops(prepared / "test_images.npy", len(rows), range(len(rows)), crop)
        for batch in tqdm(batches, desc="floor", unit="batch", total=math.ceil(len(rows) / BATCH_IMAGES)):
            # image by image, so that the result does not depend on the batch
            for image in batch:
                maps.append(anomaly_map(image, components[rows[maps.length].category], floor.patch_side))
    write_positions(output / "images.csv", enumerate(rows))
    kept = {category: of.whitening.shape[1] for category, of in components.items()}
    versions = environment() | {"scikit-learn": sklearn.__version__}
    write_json(output / "floor.json", {**floor.model_dump(), "components": kept, "environment": versions})
    log.info("%d anomaly maps of %d×%d pixels", len(rows), crop, crop)
