"""Figures of image scores: F6 (by category, beside pixel curves) and F10 (by kind of defect)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import seaborn
from matplotlib import pyplot
from matplotlib.axes import Axes
from pandas import DataFrame

from decodiff.files import read_csv
from decodiff.metrics import MAX_FPR
from decodiff.reporting.drawing import ANOMALOUS_COLOUR, NORMAL_COLOUR, legend, save, use_style, wrapped
from decodiff.reporting.sources import Part
from decodiff.seeds import derived_seed
from decodiff.stages.curves import FALSE_POSITIVE_RATE, OVERLAP_FILE, PRECISION_FILE, RECALL
from decodiff.stages.evaluate import MEAN

COLOURS = {"normal": NORMAL_COLOUR, "anomalous": ANOMALOUS_COLOUR}
BY_KIND = {"hue": "kind", "hue_order": list(COLOURS), "palette": COLOURS}
# F10: lines in a column before there is a further one, columns at most, and inches of a line
COLUMN_LINES, COLUMNS, LINE_HEIGHT = 55, 3, 0.15


@contextmanager
def _jitter_seeded(name: str) -> Iterator[None]:
    """Seaborn jitters by NumPy's global generator: seed it, so that a figure drawn again is the same, and put it back."""
    state = np.random.get_state()
    np.random.seed(derived_seed(0, name) % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)


def _on_lines(axes: Axes, part: Part, positions: np.ndarray, lines: list[int], count: int) -> dict[str, Any]:
    """What seaborn's categorical plots are given, for images on lines from the top.

    Lines are told apart by number, as their names are the data's: two may be the same, and any may mean something to seaborn.

    Args:
        axes: to draw on.
        part: the results.
        positions: int ``[N]`` of the images.
        lines: of each image, in [0, count).
        count: of lines.
    """
    kinds = np.where(part.labels[positions], "anomalous", "normal")
    frame = DataFrame({"score": part.scores[positions], "line": lines, "kind": kinds})
    return {"data": frame, "x": "score", "y": "line", "order": range(count), "orient": "y", "ax": axes}


def _named_lines(axes: Axes, names: dict[int, str], count: int) -> None:
    """Names at lines, and room for ``count`` of them."""
    axes.set_yticks(list(names), list(names.values()))
    axes.set(xlabel="image score", ylabel="", ylim=(count - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")


def _threshold(axes: Axes, part: Part, category: str, first: float, last: float) -> None:
    """A mark from line to line, where the category has a threshold."""
    if category in part.thresholds:
        axes.vlines(part.thresholds[category], first, last, colors="black", linewidth=0.9, zorder=3, label="threshold")


def _distributions(axes: Axes, part: Part) -> None:
    """A line per category: normal images above, anomalous below it, each a point, with their density behind."""
    categories = part.by_category()
    positions = np.concatenate(list(categories.values()))
    lines = [line for line, own in enumerate(categories.values()) for _ in own]
    given = _on_lines(axes, part, positions, lines, len(categories))
    seaborn.violinplot(
        **given,
        **BY_KIND,
        split=True,
        inner=None,
        cut=0,
        bw_adjust=0.6,
        density_norm="width",
        width=0.9,
        linewidth=0,
        saturation=1,
        alpha=0.3,
        legend=False,
    )
    with _jitter_seeded("figure F6"):
        seaborn.stripplot(**given, **BY_KIND, dodge=True, jitter=0.2, size=1.7, alpha=0.6)
    for line, category in enumerate(categories):
        _threshold(axes, part, category, line - 0.45, line + 0.45)
    _named_lines(axes, {line: wrapped(category, 18) for line, category in enumerate(categories)}, len(categories))
    legend(axes, [axes], markerscale=2, loc="lower center", bbox_to_anchor=(0.5, 1))


def scores_and_curves(part: Part, path: Path) -> None:
    """F6: image scores, and pixel curves per category.

    Args:
        part: the results.
        path: the PNG to write; the PDF goes beside it.

    Raises:
        InputError: a file of the results is missing or damaged.
    """
    use_style()
    categories = {category: wrapped(category, 18) for category in part.by_category()}
    widest = max(len(line) for name in categories.values() for line in name.split("\n"))
    columns = int(7 / (0.45 + 0.06 * widest))
    height = max(3.6, 0.8 + 0.33 * len(categories)) + 0.14 * -(-len(categories) // columns)
    figure, panels = pyplot.subplot_mosaic([["scores", RECALL], ["scores", FALSE_POSITIVE_RATE]], figsize=(7.2, height))
    _distributions(panels["scores"], part)
    for file, axis in ((PRECISION_FILE, RECALL), (OVERLAP_FILE, FALSE_POSITIVE_RATE)):
        rows = read_csv(part.results / file, (axis, MEAN))
        curves = {category: name for category, name in categories.items() if rows and category in rows[0]}
        for category, name in curves.items():
            panels[axis].plot([float(row[axis]) for row in rows], [float(row[category]) for row in rows], label=name)
        if not curves:
            panels[axis].text(0.5, 0.5, "no masks", ha="center", transform=panels[axis].transAxes)
    panels[RECALL].set(xlabel="pixel recall", ylabel="pixel precision", xlim=(0, 1), ylim=(0, 1.02))
    panels[FALSE_POSITIVE_RATE].set(
        xlabel="pixel false-positive rate", ylabel="region overlap (PRO)", xlim=(0, MAX_FPR), ylim=(0, 1.02)
    )
    if lines := panels[RECALL].get_lines():
        figure.legend(lines, [str(line.get_label()) for line in lines], loc="outside lower center", ncols=columns, fontsize=6.5)
    save(figure, path)


# of a category: what a kind of defect, or the normal images, are called, and the positions of their images
Groups = list[tuple[str, np.ndarray]]


def _groups(part: Part, positions: np.ndarray) -> Groups:
    """A category's images by kind, the normal ones first; kinds that have images."""
    anomalous = positions[part.labels[positions]]
    defects = np.array([part.rows[position].defect for position in anomalous])
    kinds = [("normal", positions[~part.labels[positions]])]
    kinds += [(name, anomalous[defects == name]) for name in sorted(set(defects.tolist()))]
    return [(wrapped(f"{name} ({len(own)})", 26), own) for name, own in kinds if len(own)]


def _defect_column(axes: Axes, part: Part, categories: dict[str, Groups]) -> int:
    """Draw categories below each other, a heading and a line per group each; returns how many lines that takes."""
    names, positions, lines, count = {}, [], [], 0
    for category, groups in categories.items():
        heading = wrapped(category, 40)
        rows = heading.count("\n") + 1
        axes.axhline(count - 0.5, color="0.8", linewidth=0.6)
        axes.text(0.01, count + (rows - 1) / 2, heading, va="center", weight="bold", transform=axes.get_yaxis_transform())
        count += rows
        _threshold(axes, part, category, count - 0.5, count + len(groups) - 0.5)
        for name, own in groups:
            names[count] = name
            positions.append(own)
            lines += [count] * len(own)
            count += 1
    given = _on_lines(axes, part, np.concatenate(positions), lines, count)
    seaborn.stripplot(**given, **BY_KIND, jitter=0.28, size=2.2, alpha=0.6)
    seaborn.pointplot(
        **given,
        estimator="median",
        errorbar=None,
        linestyle="none",
        color="0.1",
        marker="|",
        markersize=6,
        markeredgewidth=1.2,
        zorder=4,
        label="median",
    )
    _named_lines(axes, names, count)
    return count


def scores_by_defect(part: Part, path: Path) -> None:
    """F10: image scores of each kind of defect below those of the category's normal images.

    Args:
        part: the results.
        path: the PNG to write; the PDF goes beside it.

    Raises:
        InputError: a file of the results is missing or damaged.
    """
    use_style()
    categories = {category: _groups(part, positions) for category, positions in part.by_category().items()}
    ends = np.cumsum([0, *(len(groups) + 1 for groups in categories.values())])
    columns = min(COLUMNS, -(-int(ends[-1]) // COLUMN_LINES))
    # a category stands in the column that its middle falls into when all lines are spread evenly; none stays empty
    _, places = np.unique((ends[:-1] + ends[1:]) * columns // (2 * ends[-1]), return_inverse=True)
    figure, (grid,) = pyplot.subplots(1, places.max() + 1, sharex=True, squeeze=False)
    counts = []
    with _jitter_seeded("figure F10"):
        for place, axes in enumerate(grid):
            own = {name: groups for (name, groups), of in zip(categories.items(), places) if of == place}
            counts.append(_defect_column(axes, part, own))
    for axes in grid:
        axes.set_ylim(max(counts) - 0.5, -0.5)
        axes.get_legend().remove()
    rows = max(name.count("\n") + 1 for groups in categories.values() for name, _ in groups)
    figure.set_size_inches(7.2, 0.8 + LINE_HEIGHT * max(1, 0.75 * rows) * max(counts))
    legend(figure, grid, markerscale=1.5, loc="outside lower center")
    save(figure, path)
