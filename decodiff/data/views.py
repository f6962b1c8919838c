"""Crops of prepared images, and the finite set of views an augmentation can show of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from decodiff.errors import InputError
from decodiff.files import read_array

if TYPE_CHECKING:
    import torch

# read at a time
BATCH_IMAGES = 16
# of an image in [-1, 1], added to its own, so that the noise of an empty image is not raised to full contrast
LEAST_STD = 0.04


@dataclass(frozen=True)
class View:
    """One way to cut the crop out of an image: moved by ``(dy, dx)`` pixels, turned by 180° or not."""

    dy: int
    dx: int
    half_turn: bool

    @property
    def is_shifted(self) -> bool:
        return (self.dy, self.dx) != (0, 0)


def views(max_shift: int, half_turn: bool) -> list[View]:
    """All views of an augmentation; the first is the central crop as it is."""
    shifts = [(dy, dx) for dy in range(-max_shift, max_shift + 1) for dx in range(-max_shift, max_shift + 1)]
    shifts.sort(key=lambda shift: shift != (0, 0))
    return [View(dy, dx, turn) for turn in ([False, True] if half_turn else [False]) for dy, dx in shifts]


def view_probabilities(of: list[View], shift_probability: float, half_turn_probability: float) -> np.ndarray:
    """Probability of each view: a shift happens with ``shift_probability`` and is then uniform over all, none included."""
    shifts = len({(view.dy, view.dx) for view in of})
    result = np.array([shift_probability / shifts + (1 - shift_probability) * (not view.is_shifted) for view in of])
    if any(view.half_turn for view in of):
        result *= [half_turn_probability if view.half_turn else 1 - half_turn_probability for view in of]
    return result


def cropped(images: np.ndarray, crop: int, view: View = View(0, 0, False)) -> np.ndarray:
    """Cut a view out of arrays ``[N,S,S,…]``: ``[N,crop,crop,…]``."""
    margin = (images.shape[1] - crop) // 2
    top, left = margin + view.dy, margin + view.dx
    result = images[:, top : top + crop, left : left + crop]
    return result[:, ::-1, ::-1] if view.half_turn else result


def central_crops(path: Path, count: int, positions: Sequence[int], crop: int) -> Iterator[np.ndarray]:
    """The central crops of some of a prepared array's ``count`` images, some at a time: uint8 ``[n,crop,crop,3]``.

    Raises:
        InputError: the array is damaged, or its images are smaller.
    """
    for start in range(0, len(positions), BATCH_IMAGES):
        # opened for each batch, so that what was read does not stay mapped
        images = read_array(path, (count, None, None, 3))[list(positions[start : start + BATCH_IMAGES])]
        if images.shape[1] < crop:
            raise InputError(
                f"{path}: images of {images.shape[1]} pixels for maps of {crop}; prepare the data set at {crop} or more"
            )
        yield cropped(images, crop)


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 ``[N,H,W,3]`` to float32 ``[N,3,H,W]`` in [-1, 1]."""
    import torch  # here, so that figures and metrics need not wait for it

    # in the order of the authors' code, so that every bit is the same
    return (torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def network_input(images: np.ndarray, contrast: str) -> torch.Tensor:
    """uint8 ``[N,H,W,3]`` as the networks see them, float32 ``[N,3,H,W]``: `to_tensor`, then `with_contrast`."""
    return with_contrast(to_tensor(images), contrast)


def with_contrast(images: torch.Tensor, contrast: str) -> torch.Tensor:
    """Images float32 ``[N,3,H,W]`` in [-1, 1] in the contrast that the networks see them in.

    ``as_is`` leaves them. ``per_image`` takes each image's mean over all pixels and channels out and divides by three of its
    standard deviations, so that the result nominally lies in [-1, 1] too; colours keep their relation.
    """
    if contrast == "as_is":
        return images
    centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
    # torch.std takes eight times as long
    std = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return centred / (3 * (std + LEAST_STD))


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """float ``[N,3,H,W]`` in [-1, 1] to uint8 ``[N,H,W,3]``, clipped."""
    import torch

    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
