"""`evaluate`: the seven metrics of every category and their mean."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np

from decodiff.data.manifest import read_positions
from decodiff.data.views import cropped
from decodiff.errors import InputError
from decodiff.files import read_array, write_csv
from decodiff.metrics import METRICS
from decodiff.metrics import evaluate as evaluate_maps
from decodiff.settings import Evaluation, Image

log = logging.getLogger(__name__)

MEAN = "mean"
METRIC_COLUMNS = ("dataset", "scope", "seed", "protocol", "category", "images", "anomalous", *METRICS, "note")


def _note(labels: np.ndarray, with_masks: bool, masks: np.ndarray) -> str:
    """Why some metrics are missing, if they are."""
    reasons = []
    if not labels.any():
        return "no anomalous test image, so no metric"
    if labels.all():
        reasons.append("no normal test image, so no image metrics")
    if not with_masks:
        reasons.append("not every anomalous image has a mask, so no pixel metrics")
    elif not masks.any():
        reasons.append("no anomalous pixel inside the crop, so no pixel metrics")
    return "; ".join(reasons)


def _cells(values: dict[str, float]) -> dict[str, str]:
    return {name: "" if math.isnan(value) else f"{value:.6f}" for name, value in values.items()}


def evaluate(
    results: Path, prepared: Path, image: Image, evaluation: Evaluation, identity: dict[str, str], output: Path
) -> None:
    """Write the metrics of one data set under one model.

    Args:
        results: folder with ``images.csv`` and ``anomaly_maps.npy``.
        prepared: folder of the prepared data set.
        image: sides of the prepared images and of the crop.
        evaluation: the protocol.
        identity: ``dataset``, ``scope`` and ``seed``, written into every row.
        output: the CSV: one row per category in order of appearance and one for their mean; an empty cell has a note.

    Raises:
        InputError: the maps do not belong to the images, or hold NaN.
    """
    positions, rows = read_positions(results / "images.csv")
    maps = read_array(results / "anomaly_maps.npy", (len(rows), image.crop, image.crop))
    side = image.resize
    masks = read_array(prepared / f"test_masks_{evaluation.protocol}.npy", (None, side, side))
    masks = cropped(masks[positions], image.crop).astype(bool)
    labels, categories = np.array([row.label for row in rows], dtype=bool), np.array([row.category for row in rows])
    common = {**identity, "protocol": evaluation.protocol}
    table, measured = [], []
    for category in dict.fromkeys(categories.tolist()):
        inside = categories == category
        with_masks = all(row.mask for row, here in zip(rows, inside) if here and row.label)
        try:
            values = evaluate_maps(maps[inside], masks[inside], evaluation.protocol, labels[inside])
        except ValueError as error:
            raise InputError(f"{results / 'anomaly_maps.npy'}: category {category}: {error}; score it again") from error
        if not with_masks:
            values |= {name: float("nan") for name in METRICS if name.startswith("pixel")}
        measured.append(values)
        note = _note(labels[inside], with_masks, masks[inside])
        counts = {"images": int(inside.sum()), "anomalous": int(labels[inside].sum())}
        table.append({**common, "category": category, **counts, **_cells(values), "note": note})
    mean = {name: float(np.mean([values[name] for values in measured])) for name in METRICS}
    incomplete = any(math.isnan(value) for value in mean.values())
    note = "a metric that some category lacks has no mean" if incomplete else ""
    counts = {"images": len(rows), "anomalous": int(labels.sum())}
    table.append({**common, "category": MEAN, **counts, **_cells(mean), "note": note})
    write_csv(output, METRIC_COLUMNS, table)
    log.info("; ".join(f"{name} {value:.3f}" for name, value in mean.items()))
