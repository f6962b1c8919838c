"""`curves`: pixel precision over recall and region overlap over the false-positive rate, on even grids, by category."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from decodiff.data.maps import Maps
from decodiff.files import write_csv
from decodiff.metrics import MAX_FPR, Batches, pixel_curves
from decodiff.stages.evaluate import MEAN

log = logging.getLogger(__name__)

PRECISION_FILE, OVERLAP_FILE = "precision_recall.csv", "region_overlap.csv"
RECALL, FALSE_POSITIVE_RATE = "recall", "false_positive_rate"
# of each grid, ends included
POINTS = 501


def _curves(batches: Batches, recall: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision at each recall, of the highest threshold that reaches it; overlap at each false-positive rate, in [0, 1]."""
    pieces = list(pixel_curves(batches))
    found = np.concatenate([piece.true_positives for piece in pieces])
    wrong = np.concatenate([piece.false_positives for piece in pieces])
    first = np.searchsorted(found / found[-1], recall - 1e-12)
    # from no pixel called to all of them
    passed = np.concatenate([[0.0], wrong / pieces[0].negatives, [1.0]])
    overlap = np.cumsum(np.concatenate([piece.overlap_steps for piece in pieces])) / pieces[0].regions
    overlap = np.concatenate([[0.0], overlap, overlap[-1:]])
    return (found / (found + wrong))[first], np.interp(rates, passed, overlap)


def write_curves(maps: Maps, output: Path) -> None:
    """Write `PRECISION_FILE` and `OVERLAP_FILE` to the folder ``output``.

    Each has a column with the grid, recall in [0, 1] or the false-positive rate in [0, 0.3], one for each category that has
    anomalous and normal pixels in its test images and lacks no mask, and their mean; with none there are no rows.
    """
    recall, rates = np.linspace(0, 1, POINTS), np.linspace(0, MAX_FPR, POINTS)
    precisions: dict[str, np.ndarray] = {}
    overlaps: dict[str, np.ndarray] = {}
    tested: dict[str, list[int]] = {}
    for position, image in enumerate(maps.images):
        if image.split == "test":
            tested.setdefault(image.category, []).append(position)
    for category, positions in tested.items():
        batches = maps.batches(np.array(positions))
        if not all(maps.images[position].has_mask for position in positions):
            continue
        if any(masks.any() for _, masks in batches) and not all(masks.all() for _, masks in batches):
            precisions[category], overlaps[category] = _curves(batches, recall, rates)
    for file, axis, grid, columns in (
        (PRECISION_FILE, RECALL, recall, precisions),
        (OVERLAP_FILE, FALSE_POSITIVE_RATE, rates, overlaps),
    ):
        values = {axis: grid, MEAN: np.mean([*columns.values()], axis=0), **columns} if columns else {}
        rows = [{name: f"{column[index]:.6f}" for name, column in values.items()} for index in range(POINTS if columns else 0)]
        write_csv(output / file, (axis, MEAN, *columns), rows)
    log.info("curves of %d of %d categories", len(precisions), len(tested))
