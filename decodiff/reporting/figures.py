"""Figures drawn from images, maps and scores: F3, F7, F8 (qualitative grids) and F6 (distributions and curves)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot

from decodiff.errors import InputError
from decodiff.files import read_csv
from decodiff.metrics import MAX_FPR
from decodiff.reporting.drawing import (
    ANOMALOUS_COLOUR,
    MAP_COLOURS,
    NORMAL_COLOUR,
    ground_truth,
    literal,
    save,
    show,
    use_style,
)
from decodiff.reporting.names import FIGURES
from decodiff.reporting.sources import Part
from decodiff.stages.curves import FALSE_POSITIVE_RATE, OVERLAP_FILE, PRECISION_FILE, RECALL
from decodiff.stages.evaluate import MEAN

PANELS = ("input", "correction", "ground truth", "anomaly map")


def by_score(part: Part, positions: np.ndarray) -> np.ndarray:
    """The positions, those of the lowest image scores first."""
    return positions[np.argsort(part.scores[positions], kind="stable")]


def median_examples(part: Part) -> list[int]:
    """Of each category that has anomalous images, the position of the one of median score."""
    anomalous = [positions[part.labels[positions]] for positions in part.by_category().values()]
    return [int(by_score(part, positions)[len(positions) // 2]) for positions in anomalous if len(positions)]


def chosen_examples(part: Part) -> list[tuple[str, int]]:
    """Per category the anomalous image of median and the one of lowest score: (caption, position)."""
    examples = []
    for category, positions in part.by_category().items():
        anomalous = positions[part.labels[positions]]
        if len(anomalous):
            order = by_score(part, anomalous)
            for caption, position in (("median", order[len(order) // 2]), ("lowest", order[0])):
                examples.append((f"{category}\n{part.rows[position].defect}\n({caption} score)", int(position)))
    return examples


def examples_by_defect(part: Part) -> list[tuple[str, int]]:
    """Per category and kind of defect the image of median score: (caption, position)."""
    examples = []
    for category, positions in part.by_category().items():
        anomalous = positions[part.labels[positions]]
        for defect in sorted({part.rows[position].defect for position in anomalous}):
            order = by_score(part, np.array([at for at in anomalous if part.rows[at].defect == defect]))
            examples.append((f"{category}\n{defect}", int(order[len(order) // 2])))
    return examples


def normal_examples(part: Part) -> list[tuple[str, int]]:
    """Per category the normal images of highest and of median score: (caption, position)."""
    examples = []
    for category, positions in part.by_category().items():
        order = by_score(part, positions[~part.labels[positions]])
        if len(order):
            examples += [
                (f"{category}\n({name} score)", int(order[at])) for name, at in (("highest", -1), ("median", len(order) // 2))
            ]
    return examples


GRIDS = {"F3": chosen_examples, "F7": examples_by_defect, "F8": normal_examples}


def qualitative_grid(part: Part, examples: list[tuple[str, int]], path: Path) -> None:
    """F3, F7 and F8: a line per chosen image, two blocks of lines side by side."""
    use_style()
    blocks = 2
    lines = max(1, -(-len(examples) // blocks))
    figure = pyplot.figure(figsize=(7.2, 0.3 + 0.74 * lines))
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.03, wspace=0.01, hspace=0.01)
    # a column for the captions before the four panels of each block
    grid = figure.add_gridspec(lines, blocks * 5, width_ratios=([0.85] + [1] * 4) * blocks)
    for index, (caption, position) in enumerate(examples):
        line, block = index % lines, index // lines
        truth = ground_truth(part.inputs[position], part.masks[position])
        images = (part.inputs[position], part.corrections[position], truth, part.maps[position])
        for column, (name, image) in enumerate(zip(PANELS, images)):
            axes = figure.add_subplot(grid[line, block * 5 + 1 + column])
            options = {"cmap": MAP_COLOURS, "vmin": 0, "vmax": part.map_limit} if name == "anomaly map" else {}
            show(axes, image, name if line == 0 else None, **options)
            axes.title.set_fontsize(6.5)
        beside = figure.add_subplot(grid[line, block * 5])
        beside.set_axis_off()
        beside.text(1, 0.5, literal(caption), ha="right", va="center", fontsize=6.5, transform=beside.transAxes)
    save(figure, path)


def draw(name: str, part: Part, path: Path) -> None:
    """Draw the figure of that name. Raises `InputError` for a name there is not."""
    if name in GRIDS:
        qualitative_grid(part, GRIDS[name](part), path)
    elif name == "F6":
        curves(part, path)
    else:
        raise InputError(f"no figure {name!r}; choose one of {', '.join(FIGURES)}")


def _distributions(axes, part: Part) -> None:
    thresholds = part.thresholds
    for row, (category, positions) in enumerate(part.by_category().items()):
        if category in thresholds:
            axes.vlines(thresholds[category], row - 0.32, row + 0.32, colors="black", linewidth=0.9, zorder=3)
        for label, colour, marker, offset in ((False, NORMAL_COLOUR, "o", 0.16), (True, ANOMALOUS_COLOUR, "^", -0.16)):
            scores = part.scores[positions[part.labels[positions] == label]]
            # a fixed pattern of heights instead of random jitter
            heights = row + offset + 0.12 * ((np.arange(len(scores)) * 0.618) % 1 - 0.5)
            name = ("anomalous" if label else "normal") if row == 0 else None
            axes.plot(scores, heights, marker, color=colour, markersize=2.2, alpha=0.7, linestyle="none", label=name)
    axes.set_yticks(range(len(part.by_category())), [literal(category) for category in part.by_category()])
    axes.set_ylim(-0.5, len(part.by_category()) + 0.15)
    axes.set_xlabel("image score (black: threshold)" if thresholds else "image score")
    axes.legend(loc="upper center", ncols=2, handletextpad=0.1)


def curves(part: Part, path: Path) -> None:
    """F6: image scores, and pixel curves per category."""
    use_style()
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(7.2, 2.5), width_ratios=(1.2, 1, 1))
    _distributions(left, part)
    for axes, file, axis in ((middle, PRECISION_FILE, RECALL), (right, OVERLAP_FILE, FALSE_POSITIVE_RATE)):
        rows = read_csv(part.results / file, (axis, MEAN))
        for category in part.by_category():
            if rows and category in rows[0]:
                axes.plot([float(row[axis]) for row in rows], [float(row[category]) for row in rows], label=literal(category))
    middle.set(xlabel="pixel recall", ylabel="pixel precision", xlim=(0, 1), ylim=(0, 1.02))
    right.set(xlabel="pixel false-positive rate", ylabel="region overlap (PRO)", xlim=(0, MAX_FPR), ylim=(0, 1.02))
    if right.get_lines():
        right.legend(loc="lower right")
    else:
        middle.text(0.5, 0.5, "no masks", ha="center")
    save(figure, path)
