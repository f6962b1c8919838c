"""The course of a correction: what the network takes the image for at each step. F1 and F4, which show it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from matplotlib import pyplot

from decodiff.correction import correct
from decodiff.data.rows import read_rows
from decodiff.data.views import to_uint8
from decodiff.files import read_array, read_json
from decodiff.models.autoencoder import Autoencoder, load_autoencoder
from decodiff.models.unet import DeviationUNet, load_unet
from decodiff.reporting.drawing import MAP_COLOURS, ground_truth, literal, save, show, use_style
from decodiff.reporting.figures import median_examples
from decodiff.reporting.sources import Part
from decodiff.settings import Correction, Diffusion
from decodiff.stages.correct import correction_scheduler, noised

Item = TypeVar("Item")

# steps and images shown at most
STEPS, EXAMPLES = 5, 6


@dataclass(frozen=True)
class Course:
    """The networks behind a part's results, to correct single images again.

    Attributes:
        part: the results.
        latents, unet, autoencoder: folders.
        diffusion, correction: settings.
    """

    part: Part
    latents: Path
    unet: Path
    autoencoder: Path
    diffusion: Diffusion
    correction: Correction

    @cached_property
    def network(self) -> DeviationUNet:
        return load_unet(self.unet)

    @cached_property
    def coder(self) -> Autoencoder:
        return load_autoencoder(self.autoencoder)

    @cached_property
    def record(self) -> dict[str, Any]:
        """``training.json`` of the network."""
        return read_json(self.unet / "training.json")

    @cached_property
    def rows(self) -> dict[str, int]:
        """Positions in the prepared arrays by image."""
        return {row.image: place for place, row in enumerate(read_rows(self.part.prepared / "test.csv"))}

    def category(self, position: int) -> torch.Tensor:
        """Category index of a part's image, int64 ``[1]``."""
        return torch.tensor([self.record["categories"].index(f"{self.part.dataset}/{self.part.rows[position].category}")])

    def latent(self, position: int) -> torch.Tensor:
        """Scaled latent of a part's image, float32 ``[1,C,h,w]``."""
        means = read_array(self.latents / "test_mean.npy", (len(self.rows), None, None, None))
        return torch.from_numpy(np.array(means[self.rows[self.part.rows[position].image]]))[None]

    def estimates(self, position: int) -> list[tuple[int, np.ndarray]]:
        """What the network takes the corrected image for at each step: (timestep, uint8 ``[H,W,3]``), the first step first."""
        scheduler, row = correction_scheduler(self.diffusion, self.correction), self.part.rows[position]
        start = noised(self.latent(position), [row], self.record["seed"], scheduler, self.correction)
        found: list[tuple[int, np.ndarray]] = []

        def keep(_step: int, timestep: int, _latent: torch.Tensor, original: torch.Tensor) -> None:
            found.append((timestep, to_uint8(self.coder.decode(original))[0]))

        correct(self.network, start, self.category(position), scheduler, keep)
        return found


def thinned(items: list[Item], most: int) -> list[Item]:
    """At most so many of a list, evenly spread, first and last among them."""
    if not items:
        return []
    return [items[index] for index in np.unique(np.linspace(0, len(items) - 1, most).round().astype(int))]


def step_by_step(course: Course, path: Path) -> None:
    """F4: per category the anomalous image of median score, the estimate after each step, ground truth and map."""
    use_style()
    part = course.part
    chosen = thinned(median_examples(part), EXAMPLES)
    lines = [(position, thinned(course.estimates(position), STEPS)) for position in chosen]
    columns = max((len(estimates) for _, estimates in lines), default=1) + 3
    figure, grid = pyplot.subplots(
        max(1, len(lines)), columns, figsize=(7.2, 0.35 + 0.95 * max(1, len(lines))), squeeze=False, layout="constrained"
    )
    for number, (axes, (position, estimates)) in enumerate(zip(grid, lines)):
        truth = ground_truth(part.inputs[position], part.masks[position])
        panels = [("test image", part.inputs[position])]
        panels += [(f"$t={timestep}$", image) for timestep, image in estimates]
        for axis, (title, image) in zip(axes, [*panels, ("ground truth", truth)]):
            show(axis, image, title if number == 0 else None)
        show(axes[-1], part.maps[position], "map" if number == 0 else None, cmap=MAP_COLOURS, vmin=0, vmax=part.map_limit)
        row = part.rows[position]
        axes[0].set_ylabel(literal(f"{row.category}\n{row.defect}"), fontsize=6.5)
    if not lines:
        grid[0][0].text(0.5, 0.5, "no anomalous image", ha="center")
    save(figure, path)


def side_by_side(courses: dict[str, Course], path: Path) -> None:
    """F1: one image under several networks, a line each: the estimate at every step and the map it ends in.

    The image is the anomalous one of median score, of the first category that has one, under the first network.

    Args:
        courses: by what a line is called; of one data set.
        path: the PNG to write; the PDF goes beside it.
    """
    use_style()
    first = next(iter(courses.values()))
    image = first.part.rows[next(iter(median_examples(first.part)), 0)].image
    lines = []
    for label, course in courses.items():
        position = next(index for index, row in enumerate(course.part.rows) if row.image == image)
        lines.append((label, course.part, position, thinned(course.estimates(position), STEPS)))
    columns = max(len(estimates) for *_, estimates in lines) + 2
    figure, grid = pyplot.subplots(len(lines), columns, figsize=(7.2, 0.3 + 1.25 * len(lines)), squeeze=False)
    for axes, (label, part, position, estimates) in zip(grid, lines):
        for axis in axes[len(estimates) + 1 : -1]:
            axis.set_visible(False)
        show(axes[0], part.inputs[position], "test image")
        for axis, (timestep, estimate) in zip(axes[1:], estimates):
            show(axis, estimate, f"$t={timestep}$")
        show(axes[-1], part.maps[position], "map", cmap=MAP_COLOURS, vmin=0, vmax=part.map_limit)
        axes[0].set_ylabel(literal(label), fontsize=6.5)
    save(figure, path)
