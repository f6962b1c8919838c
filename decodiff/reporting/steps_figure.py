"""F5: accuracy against the number of correction steps, and against speed."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot

from decodiff.files import read_csv
from decodiff.reporting.drawing import save, use_style
from decodiff.reporting.measured import DEVIATION
from decodiff.reporting.tables import HEADINGS, HIGH, LOW, MEASURED

SHOWN = ("image_auroc", "pixel_ap", "pixel_aupro")
MARKERS = ("o", "s", "^")


def _error(row: dict[str, str], metric: str) -> tuple[float, float]:
    """How far an interval, or a standard deviation over seeds, reaches below and above a value, in percent."""
    value = float(row[metric])
    if row.get(LOW + metric):
        return 100 * max(0.0, value - float(row[LOW + metric])), 100 * max(0.0, float(row[HIGH + metric]) - value)
    deviation = 100 * float(row.get(DEVIATION + metric) or 0)
    return deviation, deviation


def accuracy_by_steps(table: Path, path: Path) -> None:
    """Draw three metrics over S and over images per second, a line of panels for every data set and scope.

    Args:
        table: CSV of the table of correction steps.
        path: the PNG to write; the PDF goes beside it.

    Raises:
        InputError: the table cannot be read.
    """
    use_style()
    rows = [row for row in read_csv(table, ("dataset", "scope", "kind", "S", "images/s", *SHOWN)) if row["kind"] == MEASURED]
    parts = list(dict.fromkeys((row["dataset"], row["scope"]) for row in rows))
    figure, grid = pyplot.subplots(len(parts), 2, figsize=(7.2, 2.4 * len(parts)), squeeze=False)
    for (left, right), part in zip(grid, parts):
        own = sorted((row for row in rows if (row["dataset"], row["scope"]) == part), key=lambda row: int(row["S"]))
        for metric, marker in zip(SHOWN, MARKERS):
            known = [row for row in own if row[metric]]
            values = [100 * float(row[metric]) for row in known]
            errors = list(zip(*(_error(row, metric) for row in known))) or None
            for axes, column in ((left, "S"), (right, "images/s")):
                axes.errorbar(
                    [float(row[column]) for row in known],
                    values,
                    yerr=errors,
                    marker=marker,
                    markersize=3.5,
                    linewidth=1,
                    elinewidth=0.6,
                    capsize=1.5,
                    label=HEADINGS[metric],
                )
        left.set(xlabel="correction steps S", ylabel="percent", title=" / ".join(part))
        left.set_xticks([int(row["S"]) for row in own])
        right.set(xlabel="correction, images per second", xscale="log")
        right.legend(loc="best")
    save(figure, path)
