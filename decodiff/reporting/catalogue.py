"""The catalogue of data sets: `docs/datasets.md` with contact sheets, and the short list on the screen."""

from __future__ import annotations

import logging
from pathlib import Path

import jinja2
from matplotlib import pyplot
from rich.console import Console
from rich.table import Column, Table

from decodiff.data.archives import MAX_RATIO
from decodiff.data.images import MAX_PIXELS, SUFFIXES
from decodiff.data.layouts import TRAIN_FRACTION
from decodiff.data.made_defects import HELD_OUT, HELD_OUT_SHARE, TRIES
from decodiff.data.registry import REGISTRY, DataSet
from decodiff.data.rows import Row, read_rows
from decodiff.files import read_array, write_text
from decodiff.reporting.drawing import save, show, use_style

log = logging.getLogger(__name__)

TEMPLATE = "datasets.md"
SHEETS = "datasets"
NORMAL_TILES, ANOMALOUS_TILES = 3, 6


def _counts(dataset: DataSet) -> tuple[str, str, str]:
    """Training, normal and anomalous test images, for a table."""
    counts = dataset.counts
    if counts is None:
        return ("", "", "")
    return f"{counts.train:,}", f"{counts.test_normal:,}", f"{counts.test_anomalous:,}"


def show_list() -> None:
    """Print the data sets that are known by name."""
    headings = ("name", "title", "origin", "categories", "train", "normal", "anomalous")
    table = Table(*(Column(heading, no_wrap=True) for heading in headings), box=None)
    for name, dataset in REGISTRY.items():
        table.add_row(name, dataset.title, dataset.origin, str(len(dataset.categories) or ""), *_counts(dataset))
    Console().print(table)


def _varied(rows: list[Row], count: int) -> list[int]:
    """Positions of ``count`` rows, kinds of defect in turn, each kind's rows in order."""
    by_kind: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        by_kind.setdefault(row.defect, []).append(position)
    turns = sorted((turn, kind, position) for kind, found in by_kind.items() for turn, position in enumerate(found))
    return [position for _, _, position in turns[:count]]


def contact_sheet(prepared: Path, path: Path) -> None:
    """Draw some images of every category of a prepared data set: normal ones, then anomalous ones with their masks' outlines.

    ``path`` is the PNG to write.
    """
    train, test = read_rows(prepared / "train.csv"), read_rows(prepared / "test.csv")
    train_images = read_array(prepared / "train_images.npy", (len(train), None, None, 3))
    test_images = read_array(prepared / "test_images.npy", (len(test), None, None, 3))
    masks = read_array(prepared / "test_masks_standard.npy", (len(test), None, None))
    categories = list(dict.fromkeys(row.category for row in train))
    columns = NORMAL_TILES + ANOMALOUS_TILES
    use_style()
    figure, grid = pyplot.subplots(
        len(categories), columns, figsize=(1.1 * columns, 1.25 * len(categories)), squeeze=False, layout="constrained"
    )
    for axes, category in zip(grid, categories):
        normal = [position for position, row in enumerate(train) if row.category == category]
        anomalous = [position for position, row in enumerate(test) if row.category == category and row.label]
        chosen = [anomalous[position] for position in _varied([test[position] for position in anomalous], ANOMALOUS_TILES)]
        for axis in axes:
            axis.set_axis_off()
        for axis, position in zip(axes, normal):
            if axis in axes[:NORMAL_TILES]:
                show(axis, train_images[position], "normal")
        for axis, position in zip(axes[NORMAL_TILES:], chosen):
            show(axis, test_images[position], test[position].defect.replace("_", " "))
            if masks[position].any():
                axis.contour(masks[position], [0.5], colors="#ff2828", linewidths=0.7)
        axes[0].text(-0.08, 0.5, category, rotation=90, va="center", ha="right", transform=axes[0].transAxes)
    save(figure, path)
    path.with_suffix(".pdf").unlink()


def write(path: Path, prepared: list[Path]) -> None:
    """Write the catalogue as Markdown, and contact sheets beside it, in a folder ``datasets``.

    Args:
        path: the file to write.
        prepared: folders ``data/<name>/prepared-<side>`` of data sets to draw; sheets that exist already are kept.
    """
    for folder in prepared:
        contact_sheet(folder, path.parent / SHEETS / f"{folder.parent.name}.png")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("decodiff", "reporting"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template(TEMPLATE).render(
        registry=REGISTRY,
        counts=_counts,
        sheets={file.stem for file in (path.parent / SHEETS).glob("*.png")},
        suffixes=sorted(SUFFIXES),
        max_pixels=MAX_PIXELS,
        max_ratio=MAX_RATIO,
        train_percent=round(100 * TRAIN_FRACTION),
        held_out=HELD_OUT,
        held_out_percent=round(100 * HELD_OUT_SHARE),
        tries=TRIES,
    )
    write_text(path, text)
    log.info("%s: %d data sets", path, len(REGISTRY))
