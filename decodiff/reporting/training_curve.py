"""The course of a training: loss over epochs, of every seed, and by timestep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps, pyplot

from decodiff.files import read_csv
from decodiff.reporting.drawing import save, use_style

TIMESTEP_COLOURS = "viridis"


def training_curve(logs: list[Path], path: Path) -> None:
    """Draw the loss of all seeds, and that of the first one by timestep.

    Args:
        logs: ``log.csv`` of one network for each seed.
        path: the PNG to write; the PDF goes beside it.

    Raises:
        InputError: a log cannot be read.
    """
    use_style()
    tables = [read_csv(log, ("epoch", "loss")) for log in logs]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(7.2, 2.5))
    for log, rows in zip(logs, tables):
        left.plot([int(row["epoch"]) for row in rows], [float(row["loss"]) for row in rows], label=log.parent.name)
    left.set(xlabel="epoch", ylabel="loss (mean squared error)", yscale="log")
    if len(logs) > 1:
        left.legend()
    columns = [name for name in tables[0][0] if name.startswith("loss_t")]
    for column, shade in zip(columns, np.linspace(0, 0.92, len(columns))):
        known = [(int(row["epoch"]), float(row[column])) for row in tables[0] if row[column]]
        right.plot(*zip(*known), color=colormaps[TIMESTEP_COLOURS](shade), label=f"$t={column.removeprefix('loss_t')}$")
    right.set(xlabel="epoch", ylabel="loss by timestep", yscale="log")
    right.legend(ncols=2, fontsize=6)
    save(figure, path)
