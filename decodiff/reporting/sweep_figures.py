"""Figures of the sweeps' tables: F5 (accuracy over correction steps and speed) and F11 (what each setting changes)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import seaborn
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from pandas import DataFrame, Series, concat

from decodiff.config import FLOOR
from decodiff.errors import InputError
from decodiff.files import read_csv
from decodiff.reporting.drawing import legend, literal, save, use_style, wrapped
from decodiff.reporting.measured import DEVIATION
from decodiff.reporting.sweep_tables import difference_name
from decodiff.reporting.tables import HEADINGS, HIGH, LOW, MEASURED, PAIRED

SHOWN = ("image_auroc", "pixel_ap", "pixel_aupro")
MARKERS = ["o", "s", "^"]
IDENTITY = ("dataset", "scope", "setting", "kind")
Rows = list[dict[str, str]]


def _error(row: dict[str, str], metric: str) -> tuple[float, float]:
    """How far an interval, or a standard deviation over seeds, reaches below and above a value, in percent."""
    value = float(row[metric])
    if row.get(LOW + metric):
        return 100 * max(0.0, value - float(row[LOW + metric])), 100 * max(0.0, float(row[HIGH + metric]) - value)
    deviation = 100 * float(row.get(DEVIATION + metric) or 0)
    return deviation, deviation


def _settings(table: Path, columns: tuple[str, ...]) -> Rows:
    """A table's rows but those of the floor: it has no steps and no speed, and lies too far from what settings change."""
    rows = read_csv(table, columns)
    floor = {FLOOR, *(difference_name(FLOOR, row["setting"]) for row in rows)}
    return [row for row in rows if row["setting"] not in floor]


def _parts(rows: Rows) -> dict[tuple[str, str], Rows]:
    """A table's rows by data set and scope, in the table's order."""
    parts: dict[tuple[str, str], Rows] = {}
    for row in rows:
        parts.setdefault((row["dataset"], row["scope"]), []).append(row)
    return parts


def _points(rows: Rows, *columns: str) -> DataFrame:
    """A line for every metric that a row has: its name, value and error in percent, and the row's ``columns``."""
    names = ("metric", "percent", "below", "above", *columns)
    return DataFrame(
        [
            (HEADINGS[metric], 100 * float(row[metric]), *_error(row, metric), *(row[column] for column in columns))
            for metric in SHOWN
            for row in rows
            if row[metric]
        ],
        columns=names,
    )


def metric_colours(metrics: Series) -> dict[str, str]:
    """The metrics there are, always in the same colours, the first ones of the style."""
    colours = dict(zip((HEADINGS[metric] for metric in SHOWN), seaborn.color_palette()))
    return {name: colour for name, colour in colours.items() if name in set(metrics)}


def accuracy_by_steps(table: Path, path: Path) -> None:
    """F5: three metrics over S and over images per second, a line of panels for every data set and scope.

    Args:
        table: CSV of the table of correction steps.
        path: the PNG to write; the PDF goes beside it.

    Raises:
        InputError: the table cannot be read.
    """
    use_style()
    rows = _settings(table, (*IDENTITY, "S", "images/s", *SHOWN))
    parts = _parts([row for row in rows if row["kind"] == MEASURED])
    figure, grid = pyplot.subplots(len(parts), 2, figsize=(7.2, 0.3 + 2.3 * len(parts)), squeeze=False)
    for (left, right), (part, own) in zip(grid, parts.items()):
        points = _points(own, "S", "images/s").astype({"S": float, "images/s": float})
        colours = metric_colours(points["metric"])
        for axes, column in ((left, "S"), (right, "images/s")):
            seaborn.lineplot(
                points,
                x=column,
                y="percent",
                hue="metric",
                palette=colours,
                style="metric",
                markers=MARKERS[: len(colours)],
                dashes=False,
                # two settings may have the same S or speed
                estimator=None,
                ax=axes,
                linewidth=1,
                markersize=4,
            )
            axes.errorbar(
                points[column],
                points["percent"],
                yerr=points[["below", "above"]].T,
                fmt="none",
                ecolor=points["metric"].map(colours),
                elinewidth=0.7,
            )
        left.set(xlabel="correction steps S", ylabel="percent", title=literal(" / ".join(part)))
        left.set_xticks(sorted(set(points["S"])))
        right.set(xlabel="correction, images per second", ylabel="", xscale="log")
        speeds = sorted(set(points["images/s"]))
        # those that would not be written over each other
        right.set_xticks([speed for before, speed in zip([0, *speeds], speeds) if speed > 1.15 * before], minor=False)
        right.xaxis.set_major_formatter("{x:.3g}")
        right.xaxis.set_minor_locator(NullLocator())
        for axes in (left, right):
            axes.get_legend().remove()
    legend(figure, grid.flat, loc="outside lower center")
    save(figure, path)


@dataclass(frozen=True)
class Changes:
    """What the settings of one table change.

    Attributes:
        name: of the table.
        baseline: label of the line that others are compared with.
        labels: of all lines, in the table's order.
        parts: by data set and scope the rows of differences, by the label of the line that differs.
    """

    name: str
    baseline: str
    labels: list[str]
    parts: dict[tuple[str, str], dict[str, dict[str, str]]]


def _changes(table: Path) -> Changes | None:
    """Read a sweep's table; None where it has one line alone."""
    rows = _settings(table, (*IDENTITY, *SHOWN))
    labels = list(dict.fromkeys(row["setting"] for row in rows if row["kind"] == MEASURED))
    paired = _parts([row for row in rows if row["kind"] == PAIRED])
    if not paired:
        return None
    found = {row["setting"] for own in paired.values() for row in own}
    for baseline in labels:
        named = {difference_name(label, baseline): label for label in labels if label != baseline}
        if found == named.keys():
            parts = {part: {named[row["setting"]]: row for row in own} for part, own in paired.items()}
            return Changes(table.stem, baseline, labels, parts)
    raise InputError(f"{table}: its differences are not those of its lines to one of them; make the table again")


def _value(values: Series) -> float:
    return values.iloc[0]


def _ends(values: Series) -> tuple[float, float]:
    return values.min(), values.max()


def _differences(axes: Axes, changes: Changes, part: tuple[str, str]) -> None:
    """Draw the differences of a table on one data set and scope, a line for each label."""
    rows = changes.parts.get(part, {})
    points = _points([{"line": str(changes.labels.index(label)), **row} for label, row in rows.items()], "line")
    points["line"] = points["line"].astype(int)
    colours = metric_colours(points["metric"])
    # The table has the intervals. So of a point seaborn gets three values, first the difference itself, and computes nothing.
    ends = [points.assign(percent=points["percent"] + reach) for reach in (0, -points["below"], points["above"])]
    axes.axvline(0, zorder=0.9, color="0.4", linewidth=0.8)
    seaborn.pointplot(
        concat(ends),
        x="percent",
        y="line",
        order=range(len(changes.labels)),
        orient="y",
        hue="metric",
        palette=colours,
        markers=MARKERS[: len(colours)],
        dodge=0.225 * (len(colours) - 1),
        linestyle="none",
        estimator=_value,
        errorbar=_ends,
        markersize=3.5,
        err_kws={"linewidth": 0.9, "linestyle": "-"},
        ax=axes,
    )
    if own := axes.get_legend():
        own.remove()
    axes.plot(0, changes.labels.index(changes.baseline), "D", markersize=3.5, color="white", markeredgecolor="0.4")
    names = [f"{label} (baseline)" if label == changes.baseline else label for label in changes.labels]
    axes.set_yticks(range(len(names)), [wrapped(name, 28) for name in names])
    axes.set(xlabel="", ylabel="", ylim=(len(names) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)


def what_settings_change(tables: list[Path], path: Path) -> None:
    """F11: for every sweep's table a line of panels, a panel for every data set and scope: differences to the baseline.

    Args:
        tables: CSVs of tables of settings.
        path: the PNG to write; the PDF goes beside it.

    Raises:
        InputError: a table cannot be read, or its differences are not to one of its lines.
    """
    use_style()
    swept = [changes for table in tables if (changes := _changes(table))]
    parts = list(dict.fromkeys(part for changes in swept for part in changes.parts))
    heights = [len(changes.labels) + 0.6 for changes in swept]
    figure, grid = pyplot.subplots(
        max(1, len(swept)),
        max(1, len(parts)),
        sharex="row",
        sharey="row",
        squeeze=False,
        height_ratios=heights or None,
        figsize=(max(7.2, 2 + 1.4 * len(parts)), 1 + 0.32 * sum(heights)),
    )
    for line, changes in zip(grid, swept):
        for axes, part in zip(line, parts):
            _differences(axes, changes, part)
        line[0].set_ylabel(changes.name, weight="bold", rotation=0, ha="right", va="center", labelpad=8)
    for axes, part in zip(grid[0], parts):
        axes.set_title(literal(" / ".join(part)))
    figure.align_ylabels(grid[:, 0])
    if swept:
        legend(figure, grid.flat, loc="outside lower center")
        for axes in grid[-1]:
            axes.set_xlabel("difference to baseline,\npercentage points")
    else:
        grid[0][0].text(0.5, 0.5, "no two settings to compare", ha="center")
    save(figure, path)
