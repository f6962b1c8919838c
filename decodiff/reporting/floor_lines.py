"""The floor in the tables: what it is called, its lines, and which others are not above it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from decodiff.config import FLOOR
from decodiff.files import read_json
from decodiff.metrics import METRICS
from decodiff.reporting.measured import drawn_by_seed, mean_over_categories
from decodiff.reporting.tables import HEADINGS, PAIRED, csv_cells, difference_line, printed
from decodiff.stages.compare import differences
from decodiff.stages.evaluate import MEAN

# those in which a line that is not above the floor says so
WATCHED = ("image_auroc", "pixel_ap")

Rows = list[dict[str, str]]
# data set, scope and category
Key = tuple[str, str, str]


def floor_method(folder: Path) -> str:
    """What the floor in a folder of results is. Raises `InputError` when its record is missing or damaged."""
    side = read_json(folder / "floor.json", ("patch_side",))["patch_side"]
    return f"principal components of {side}×{side} patches"


def covered(floor: Rows, rows: Rows) -> Rows:
    """The floor's rows of those categories that some scope holds, and of their mean by data set, which says what it is over."""
    held = {(row["dataset"], row["category"]) for row in rows}
    of_categories = [row for row in floor if row["category"] != MEAN]
    found = [row for row in of_categories if (row["dataset"], row["category"]) in held]
    means = []
    for mean in mean_over_categories(found, FLOOR):
        every, chosen = ([row["category"] for row in of if row["dataset"] == mean["dataset"]] for of in (of_categories, found))
        over = f"over {'all categories' if chosen == every else ', '.join(chosen)}"
        means.append({**mean, "note": "; ".join(filter(None, (over, mean["note"])))})
    return [*found, *means]


def _not_above(found: list[dict[str, str]], category: str, metrics: tuple[str, ...], seeds: int) -> str:
    """What is said of a line by its paired differences to the floor; empty where their intervals are above 0."""
    line = difference_line({}, [found], category, "", ())
    cells = csv_cells(line, METRICS)
    below = [metric for metric in metrics if metric in line.intervals and line.intervals[metric][0] <= 0]
    shown = [f"{HEADINGS[metric]} ({printed(cells, metric, PAIRED).replace('-', '−')})" for metric in below]
    of_seeds = f", in the mean of {seeds} seeds" if seeds > 1 else ""
    return f"not above the floor in {' and '.join(shown)}{of_seeds}" if shown else ""


def not_above_floor(rows: Rows, floor: Rows, metrics: tuple[str, ...]) -> dict[Key, str]:
    """The note of every data set, scope and category, or mean, that is not above the floor; by the paired bootstrap.

    Args:
        rows: of every seed; the resamples lie beside their files.
        floor: rows of the floor, likewise. Data sets without one have no notes.
        metrics: of these, those in `WATCHED` are looked at.

    Raises:
        InputError: resamples are missing or damaged, or of other images than the floor's.
    """
    watched = tuple(metric for metric in WATCHED if metric in metrics)
    parts: dict[tuple[str, str], Rows] = {}
    for row in rows:
        if row["category"] != MEAN:
            parts.setdefault((row["dataset"], row["scope"]), []).append(row)
    notes = {}
    for (dataset, scope), own in parts.items():
        categories = list(dict.fromkeys(row["category"] for row in own))
        if below := [row for row in floor if row["dataset"] == dataset and row["category"] in categories]:
            drawn = list(drawn_by_seed(own, categories).values())
            (of_floor,) = drawn_by_seed(below, categories).values()
            # all seeds were resampled alike, so their mean has an interval over images too
            means = {name: np.mean([getattr(of, name) for of in drawn], axis=0) for name in ("measured", "resamples")}
            found = differences(replace(drawn[0], **means), of_floor)
            for category in (*categories, MEAN):
                notes[dataset, scope, category] = _not_above(found, category, watched, len(drawn))
    return notes
