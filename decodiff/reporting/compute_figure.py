"""F9: accuracy over compute, what a training gives after a part of its epochs."""

from __future__ import annotations

from pathlib import Path

import seaborn
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator
from pandas import DataFrame

from decodiff.errors import InputError
from decodiff.files import csv_rows
from decodiff.reporting.drawing import legend, literal, save, use_style
from decodiff.reporting.sweep_figures import MARKERS, SHOWN, metric_colours
from decodiff.reporting.tables import HEADINGS

COLUMNS = ("dataset", "scope", "seconds", *SHOWN)
PANELS_IN_LINE = 3
# the last point lies at so many times the minutes of the first or more
LOGARITHMIC_FROM = 10


def _panel(axes: Axes, rows: list[dict[str, str]]) -> None:
    """One data set and scope: a line for each metric that there is."""
    points = DataFrame(
        [
            (HEADINGS[metric], float(row["seconds"]) / 60, 100 * float(row[metric]))
            for metric in SHOWN
            for row in rows
            if row[metric]
        ],
        columns=("metric", "minutes", "percent"),
    )
    axes.set_title(literal(f"{rows[0]['dataset']} / {rows[0]['scope']}"))
    if points.empty:
        axes.text(0.5, 0.5, "no metric", ha="center", transform=axes.transAxes)
        return
    colours = metric_colours(points["metric"])
    seaborn.lineplot(
        points,
        x="minutes",
        y="percent",
        hue="metric",
        palette=colours,
        style="metric",
        markers=MARKERS[: len(colours)],
        dashes=False,
        estimator=None,
        ax=axes,
        linewidth=1,
        markersize=4,
    )
    if own := axes.get_legend():
        own.remove()
    if points["minutes"].max() >= LOGARITHMIC_FROM * points["minutes"].min() > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:.3g}")


def accuracy_by_minutes(measured: list[Path], path: Path) -> None:
    """F9: three metrics over the minutes of training, a panel for every data set and scope.

    Args:
        measured: what `decodiff.stages.over_compute` wrote, a file for each of them.
        path: the PNG to write; the PDF goes beside it.

    Raises:
        InputError: a file cannot be read.
    """
    use_style()
    tables = [list(csv_rows(file, COLUMNS, "\t")) for file in measured]
    if empty := [file for file, rows in zip(measured, tables) if not rows]:
        raise InputError(f"{empty[0]}: no row in it; measure the networks again")
    columns = min(PANELS_IN_LINE, len(tables))
    lines = -(-len(tables) // columns)
    figure, grid = pyplot.subplots(
        lines, columns, figsize=(7.2 if columns > 1 else 3.6, 0.3 + 2.3 * lines), squeeze=False, sharey=True
    )
    for axes, rows in zip(grid.flat, tables):
        _panel(axes, rows)
        axes.set(xlabel="training, minutes", ylabel="percent" if axes in grid[:, 0] else "")
    for axes in grid.flat[len(tables) :]:
        axes.set_visible(False)
    legend(figure, grid.flat, loc="outside lower center")
    save(figure, path)
