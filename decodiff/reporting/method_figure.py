"""F2: the method drawn from real tensors of the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot

from decodiff.content import clean_cells, made_content
from decodiff.data import demo
from decodiff.data.rows import read_rows
from decodiff.data.views import cropped, network_input, to_uint8
from decodiff.files import read_array
from decodiff.masking import sample_mask, sample_noise
from decodiff.objectives import Content, Corruption, corrupted
from decodiff.reporting.course import Course, thinned
from decodiff.reporting.drawing import MAP_COLOURS, save, show, use_style
from decodiff.reporting.figures import median_examples
from decodiff.scheduler import DeviationScheduler
from decodiff.seeds import torch_generator
from decodiff.settings import Masking

SHOWN_TIMESTEP_QUANTILE = 0.5


def _latent_picture(latent: torch.Tensor) -> np.ndarray:
    """The first three channels as colours, float ``[h,w,3]``, grey at zero."""
    return (0.5 + latent[:3].permute(1, 2, 0).numpy() / 5).clip(0, 1)


def _corruption(
    course: Course,
    masking: Masking,
    picture: torch.Tensor,
    latent: torch.Tensor,
    seed: int,
    scheduler: DeviationScheduler,
    timestep: torch.Tensor,
) -> Corruption:
    """What corrupts a training image ``[1,3,H,W]``, or its latent, in training: patches of middle side, or made content."""
    random = torch_generator(seed, "figure F2")
    if masking.corruption == "content":
        changed, opacity = made_content(picture, masking.regions, random)
        content = Content(course.coder.encode(changed)[0], clean_cells(opacity, latent.shape[-2:]))
        return content.blended(scheduler, latent, timestep)
    side = masking.patch_sides[len(masking.patch_sides) // 2]
    height, width = latent.shape[2:]
    mask = sample_mask(1, height, width, side, 1.0, random)
    return Corruption(sample_noise(latent, side, 0.0, random), mask)


def _training_panels(
    course: Course, masking: Masking, picture: torch.Tensor, category: torch.Tensor, seed: int
) -> list[tuple[str, np.ndarray]]:
    """Image, mask, corrupted latent, target, prediction and the estimate they give, of one training image ``[1,3,H,W]``."""
    scheduler = DeviationScheduler(course.diffusion.num_train_timesteps)
    trained = course.diffusion.timesteps
    timestep = torch.tensor([trained[int(SHOWN_TIMESTEP_QUANTILE * len(trained))]])
    latent, _ = course.coder.encode(picture)
    corruption = _corruption(course, masking, picture, latent, seed, scheduler, timestep)
    example = corrupted(scheduler, latent, corruption, timestep)
    with torch.no_grad():
        prediction = course.network(example.noisy, timestep, category)
    estimate = scheduler.step(prediction, timestep[0], example.noisy).pred_original_sample
    return [
        ("image $D(z)$", to_uint8(course.coder.decode(latent))[0]),
        ("mask $M$\n(white: clean)", corruption.mask[0, 0].numpy()),
        (f"corrupted $z_t$\n($t={int(timestep)}$)", _latent_picture(example.noisy[0])),
        ("target $d$", _latent_picture(example.target[0])),
        ("prediction\n$f(z_t, t, c)$", _latent_picture(prediction[0])),
        ("estimate\n$D(\\hat{z}_0)$", to_uint8(course.coder.decode(estimate))[0]),
    ]


def _correction_panels(course: Course, position: int) -> list[tuple[str, np.ndarray]]:
    """Input, the estimate at each step, the map and, where the data set knows it, the defect-free twin."""
    part = course.part
    panels = [("test image", part.inputs[position])]
    panels += [(f"$D(\\hat{{z}}_0)$\nat $t={t}$", image) for t, image in thinned(course.estimates(position), 3)]
    panels.append(("anomaly map", part.maps[position]))
    row = part.rows[position]
    if part.dataset in demo.DATA_SETS:
        twin = demo.render(row.category, "test", row.defect, int(Path(row.image).stem)).twin
        panels.append(("defect-free twin\n(never seen)", twin))
    else:
        panels.append(("ground truth", part.masks[position].astype(float)))
    return panels


def method(course: Course, masking: Masking, contrast: str, seed: int, path: Path) -> None:
    """Draw F2 from a category's first training image and its anomalous test image of median score.

    The category is the first that has anomalous test images; without any, the first test image is drawn.
    """
    use_style()
    part = course.part
    position = next(iter(median_examples(part)), 0)
    train_rows = read_rows(part.prepared / "train.csv")
    first = next(index for index, other in enumerate(train_rows) if other.category == part.rows[position].category)
    images = read_array(part.prepared / "train_images.npy", (len(train_rows), None, None, 3))
    picture = network_input(cropped(images[first : first + 1], part.crop), contrast)
    training = _training_panels(course, masking, picture, course.category(position), seed)
    correcting = _correction_panels(course, position)
    figure, lines = pyplot.subplots(2, 6, figsize=(7.2, 2.9))
    for line, panels, heading in zip(lines, (training, correcting), ("training", "correction")):
        for axes in line[len(panels) :]:
            axes.set_visible(False)
        for axes, (title, image) in zip(line, panels):
            grey = {"cmap": "gray", "vmin": 0, "vmax": 1} if image.ndim == 2 else {}
            show(
                axes,
                image,
                title,
                **({"cmap": MAP_COLOURS, "vmin": 0, "vmax": part.map_limit} if title == "anomaly map" else grey),
            )
        line[0].set_ylabel(heading, fontsize=8)
    save(figure, path)
