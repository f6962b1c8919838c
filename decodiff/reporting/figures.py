"""Grids of images with their corrections and maps: F3, F7 and F8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot

from decodiff.errors import InputError
from decodiff.reporting.drawing import MAP_COLOURS, ground_truth, literal, save, show, use_style
from decodiff.reporting.names import FIGURES
from decodiff.reporting.sources import Part

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
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.03, wspace=0.01, hspace=0.01)
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
    if name not in GRIDS:
        raise InputError(f"no figure {name!r}; choose one of {', '.join(FIGURES)}")
    qualitative_grid(part, GRIDS[name](part), path)
