"""Turning pictures of loose parts to one pose: the long axis level, the heavier end to the right, the part in the middle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from decodiff.settings import Pose

# longest side in pixels of the picture that a part is looked for in
LOOKED_AT = 256
# of the shorter side: how broad the border is that background is told by
BORDER = 0.02
LEVELS = 256
# side in pixels of the square that a part is turned into: of a picture with a longer side the square would not fit in memory
MOST_SIDE = 8192
# of parts that are worth turning: how much longer than wide, which share of all, and how far at most their directions agree
LEAST_ELONGATION, LEAST_SHARE, MOST_AGREEMENT = 2.0, 0.9, 0.9


@dataclass(frozen=True)
class Placement:
    """How a part lies in its picture.

    Attributes:
        centre: of its length, x and y from the upper left corner of the picture, in units of the picture's longer side.
        angle: from level to the end that is heavier, clockwise in radians.
        elongation: how much further its pixels spread along its axis than across, at least 1; infinite of a line.
        is_whole: whether it touches no border of the picture.
    """

    centre: tuple[float, float]
    angle: float
    elongation: float
    is_whole: bool


def _at_most(picture: Image.Image, side: int, resample: Image.Resampling) -> Image.Image:
    """A picture, made smaller if its longer side has more pixels."""
    if max(picture.size) <= side:
        return picture
    width, height = (max(1, round(side * length / max(picture.size))) for length in picture.size)
    return picture.resize((width, height), resample)


def _distances(picture: Image.Image) -> np.ndarray:
    """How far each pixel's colour is from the background's, the border's median: float64 ``[H,W]``."""
    values = np.asarray(picture, dtype=np.float64)
    width = max(1, round(BORDER * min(values.shape[:2])))
    inner = np.zeros(values.shape[:2], bool)
    inner[width:-width, width:-width] = True
    return np.linalg.norm(values - np.median(values[~inner], axis=0), axis=2)


def _parted(values: np.ndarray) -> float:
    """The threshold that parts values best into two groups (Otsu, IEEE Transactions on Systems, Man, and Cybernetics, 1979)."""
    counts, edges = np.histogram(values, LEVELS)
    middles = (edges[:-1] + edges[1:]) / 2
    below, sums = np.cumsum(counts)[:-1], np.cumsum(counts * middles)[:-1]
    above, all_sums = values.size - below, float((counts * middles).sum())
    # the first and the last level are never empty
    variances = below * above * (sums / below - (all_sums - sums) / above) ** 2
    return float(edges[1 + int(np.argmax(variances))])


def placement(image: Image.Image) -> Placement:
    """How the largest thing that differs from the background lies in an RGB picture.

    Its long axis is the first principal axis of its area; the heavier end is that towards which the third moment along the axis
    is negative, as the head of a screw. A picture of one colour stays as it is.
    """
    small = _at_most(image, LOOKED_AT, Image.Resampling.BOX)
    # pixels of a thin picture may be no squares in it
    scale = np.divide(image.size, small.size) / max(image.size)
    distances = _distances(small) if min(small.size) > 2 else np.zeros((1, 1))
    if distances.min() == distances.max():
        return Placement((image.width / max(image.size) / 2, image.height / max(image.size) / 2), 0.0, 1.0, False)
    labels, count = ndimage.label(distances > _parted(distances))
    areas = ndimage.sum_labels(np.ones_like(labels), labels, np.arange(1, count + 1))
    part = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(areas)))
    points = (np.argwhere(part)[:, ::-1] + 0.5) * scale
    middle = points.mean(axis=0)
    spreads, axes = np.linalg.eigh(np.cov((points - middle).T, bias=True))
    axis = axes[:, 1]
    along = (points - middle) @ axis
    if (along**3).mean() > 0:
        axis, along = -axis, -along
    x, y = middle + axis * (along.min() + along.max()) / 2
    elongation = math.sqrt(spreads[1] / spreads[0]) if spreads[0] > 0 else math.inf
    is_whole = not (part[[0, -1]].any() or part[:, [0, -1]].any())
    return Placement((float(x), float(y)), math.atan2(axis[1], axis[0]), elongation, is_whole)


def lie_in_any_direction(parts: Sequence[Placement]) -> bool:
    """Whether pictures show loose, elongated parts whose axes differ, so that turning them makes them alike."""
    loose = [part for part in parts if part.is_whole and part.elongation >= LEAST_ELONGATION]
    # of axes, which are the same after half a turn
    agreement = abs(sum(complex(math.cos(2 * part.angle), math.sin(2 * part.angle)) for part in loose))
    return len(loose) >= max(1, LEAST_SHARE * len(parts)) and agreement <= MOST_AGREEMENT * len(loose)


def _matrix(to: Placement, side: int, moved: tuple[int, int] = (0, 0)) -> tuple[float, ...]:
    """From a square's coordinates to those of a picture that was moved to the right and down: a to f of Pillow's transform."""
    cosine, sine = math.cos(to.angle), math.sin(to.angle)
    x = side * (to.centre[0] - (cosine - sine) / 2) + moved[0]
    y = side * (to.centre[1] - (sine + cosine) / 2) + moved[1]
    return (cosine, -sine, x, sine, cosine, y)


def turned(image: Image.Image, to: Placement) -> Image.Image:
    """An RGB picture, turned and moved so that a part which lies as said lies level in the middle of a square.

    The square is as wide as the picture's longer side, or `MOST_SIDE`. What lies outside the picture has the colour of its
    nearest border.
    """
    image = _at_most(image, MOST_SIDE, Image.Resampling.BICUBIC)
    side = max(image.size)
    a, b, x, d, e, y = _matrix(to, side)
    # bicubic interpolation takes in two pixels more
    xs = [2 + x + a * u + b * v for u in (0, side) for v in (0, side)]
    ys = [2 + y + d * u + e * v for u in (0, side) for v in (0, side)]
    left, top = (max(0, 4 - math.floor(min(ends))) for ends in (xs, ys))
    right, bottom = (max(0, math.ceil(max(ends)) - size) for ends, size in zip((xs, ys), image.size))
    wider = Image.fromarray(np.pad(np.asarray(image), [(top, bottom), (left, right), (0, 0)], mode="edge"))
    return wider.transform((side, side), Image.Transform.AFFINE, _matrix(to, side, (left, top)), Image.Resampling.BICUBIC)


def turned_mask(picture: Image.Image, to: Placement) -> Image.Image:
    """A picture of a mask as `turned` has its image, each pixel with the value that is nearest; 0 outside."""
    picture = _at_most(picture, MOST_SIDE, Image.Resampling.NEAREST)
    side = max(picture.size)
    return picture.transform((side, side), Image.Transform.AFFINE, _matrix(to, side), Image.Resampling.NEAREST)


def posed(image: Image.Image, pose: Pose) -> Image.Image:
    """An RGB picture in the pose that a data set asks for: as it is, or turned by its `placement`."""
    return image if pose == "as_is" else turned(image, placement(image))
