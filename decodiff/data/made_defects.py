"""Defects made in normal images, each with its mask: what settings can be compared on without a labelled defect.

There are eight kinds, each a function of an image, a place in it and a generator. None of them shares code or random numbers
with what a network is trained to undo (`decodiff.content`), and ``texture`` and ``missing`` have no counterpart there: a
setting that does well on all of them has not merely learnt to find what it was trained on.

Within this module images are float32 ``[H,W,C]`` of zero mean and unit standard deviation, all channels together, so that a
defect is as visible in a pale image as in a contrasty one. Lengths are shares of the shorter side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_closing, distance_transform_edt, gaussian_filter, map_coordinates
from skimage.transform import resize

# the held-out images and the defects in them are part of a data set's definition, so no run's seed changes them
SEED = 0
# of a category's training images, at most
HELD_OUT, HELD_OUT_SHARE = 80, 0.2
# sides of a defect, drawn evenly on a logarithmic scale
SMALLEST, LARGEST = 0.03, 0.5
# probability that a defect is put where the image has detail: pictures of an object have it there, and little on the ground
FOCUS = 0.7
# cells whose standard deviation is the image's detail
CELL = 1 / 32
# a pixel is part of a defect when a channel differs by more than this many standard deviations
VISIBLE = 0.1
# gaps in a defect up to about twice this length belong to it, as where a pasted pixel happens to equal the one below
GAP = 0.01
# a defect covers at least this share of a square of the shorter side
LEAST_AREA = 2e-4
# beyond its mask a defect fades out within this length
MARGIN = 0.02
# grey levels: an image's standard deviation counts as this much at least, so that one of a single tone can have defects
LEAST_CONTRAST = 10.0
TRIES = 20

# gives another image of the category, uint8 ``[H,W,C]``
Others = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Area:
    """A rectangle within an image, in pixels; ``side`` is the image's shorter one."""

    top: int
    left: int
    height: int
    width: int
    side: int

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def offsets(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Rows ``[H,1]`` and columns ``[1,W]`` of an image, counted from the centre of the area."""
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        return rows - (self.top + self.height / 2), columns - (self.left + self.width / 2)

    def softened(self, shape: tuple[int, ...], sigma: float) -> np.ndarray:
        """1 within the area and 0 outside, blurred by ``sigma`` pixels: float32 ``[H,W,1]``."""
        inside = np.zeros(shape[:2], np.float32)
        inside[self.window] = 1
        return gaussian_filter(inside, sigma)[..., None]


Kind = Callable[[np.ndarray, Area, np.random.Generator, Others], np.ndarray]


def held_out(images: float) -> int:
    """How many of a category's training images are held out."""
    return int(min(HELD_OUT, HELD_OUT_SHARE * images))


def margin(side: int) -> int:
    """Pixels around a mask within which an image may still differ, by what is not visible; ``side`` is its shorter one."""
    return max(2, round(MARGIN * side))


def _log_uniform(random: np.random.Generator, low: float, high: float, size: int | None = None) -> np.ndarray | float:
    return np.exp(random.uniform(np.log(low), np.log(high), size))


def _strength(random: np.random.Generator, low: float, high: float, dark: float = 0.5) -> float:
    """A change of brightness in standard deviations; ``dark`` is the probability that it is negative."""
    return float(_log_uniform(random, low, high)) * (-1 if random.random() < dark else 1)


def _contrast(image: np.ndarray) -> float:
    """What one standard deviation counts as, in grey levels."""
    return max(float(image.std()), LEAST_CONTRAST)


def _standardised(image: np.ndarray) -> np.ndarray:
    return ((image - image.mean()) / _contrast(image)).astype(np.float32)


def _area(image: np.ndarray, height: int, width: int, random: np.random.Generator) -> Area:
    """A rectangle of that size or, in a smaller image, of the image's: around detail or anywhere, see `FOCUS`."""
    rows, columns = image.shape[:2]
    side = min(rows, columns)
    height, width = min(height, rows), min(width, columns)
    middle = random.uniform(size=2) * (rows, columns)
    cell = min(max(2, round(CELL * side)), side)
    if random.random() < FOCUS:
        down, across = rows // cell, columns // cell
        grey = image[: down * cell, : across * cell].mean(axis=2).reshape(down, cell, across, cell)
        detail = grey.std(axis=(1, 3), dtype=np.float64).ravel() + 1e-6
        chosen = random.choice(detail.size, p=detail / detail.sum())
        middle = (np.array(divmod(chosen, across)) + random.uniform(size=2)) * cell
    top, left = (int(round(place - length / 2)) for place, length in zip(middle, (height, width)))
    return Area(min(max(top, 0), rows - height), min(max(left, 0), columns - width), height, width, side)


def _paste(image: np.ndarray, area: Area, random: np.random.Generator, others: Others) -> np.ndarray:
    """A rectangle of another image."""
    other = _standardised(others(random))
    found = other[_area(other, area.height, area.width, random).window]
    changed = image.copy()
    changed[area.window][: found.shape[0], : found.shape[1]] = found
    return changed


def _moved(image: np.ndarray, area: Area, random: np.random.Generator, _others: Others) -> np.ndarray:
    """A rectangle of the same image from a few pixels beside it."""
    shift = np.maximum(1, np.rint(random.uniform(0.015, 0.06, 2) * area.side)) * random.choice([-1, 1], 2)
    top, left = (
        int(min(max(start + by, 0), whole - length))
        for start, by, whole, length in zip((area.top, area.left), shift, image.shape, (area.height, area.width))
    )
    changed = image.copy()
    changed[area.window] = image[top : top + area.height, left : left + area.width]
    return changed


def _spot(image: np.ndarray, area: Area, random: np.random.Generator, _others: Others) -> np.ndarray:
    """A Gaussian bump, dark or bright; the area's longer side is four standard deviations of it."""
    down, across = area.offsets(image.shape)
    sigma = max(area.height, area.width) / 4
    bump = np.exp(-(down**2 + across**2) / (2 * sigma**2))[..., None]
    return image + _strength(random, 0.3, 2) * bump


def _line(image: np.ndarray, area: Area, random: np.random.Generator, _others: Others) -> np.ndarray:
    """A straight thin line, more often dark; twice as long as the area's longer side."""
    down, across = area.offsets(image.shape)
    angle = random.uniform(0, np.pi)
    aside = np.abs(down * np.cos(angle) - across * np.sin(angle))
    along = np.abs(down * np.sin(angle) + across * np.cos(angle))
    half = max(0.5, random.uniform(0.0025, 0.0065) * area.side)
    inside = np.clip(half + 0.5 - aside, 0, 1) * (along < max(area.height, area.width))
    return image + _strength(random, 0.25, 1.5, dark=0.7) * inside[..., None]


def _missing(image: np.ndarray, area: Area, random: np.random.Generator, _others: Others) -> np.ndarray:
    """A rectangle filled with the median of its rim and little noise, with a soft edge."""
    rows, columns = area.window
    around = image[max(rows.start - 1, 0) : rows.stop + 1, max(columns.start - 1, 0) : columns.stop + 1]
    rim = np.concatenate([around[0], around[-1], around[:, 0], around[:, -1]])
    filling = np.median(rim, axis=0) + 0.05 * random.standard_normal((*image.shape[:2], 1))
    opacity = area.softened(image.shape, 0.006 * area.side)
    return image * (1 - opacity) + filling * opacity


def _texture(image: np.ndarray, area: Area, random: np.random.Generator, _others: Others) -> np.ndarray:
    """What lies there, at half or twice its size."""
    scale = random.choice([0.5, 2])
    tall, wide = (max(1, round(length / scale)) for length in (area.height, area.width))
    tall, wide = min(tall, image.shape[0]), min(wide, image.shape[1])
    top = min(max(area.top + (area.height - tall) // 2, 0), image.shape[0] - tall)
    left = min(max(area.left + (area.width - wide) // 2, 0), image.shape[1] - wide)
    changed = image.copy()
    changed[area.window] = resize(
        image[top : top + tall, left : left + wide], (area.height, area.width), order=1, anti_aliasing=scale < 1
    )
    return changed


def _shade(image: np.ndarray, area: Area, random: np.random.Generator, _others: Others) -> np.ndarray:
    """A change of brightness with soft edges."""
    return image + _strength(random, 0.2, 1) * area.softened(image.shape, MARGIN * area.side)


def _bend(image: np.ndarray, area: Area, random: np.random.Generator, _others: Others) -> np.ndarray:
    """A local warp: what lies in the area is drawn to one side, most in its middle."""
    down, across = area.offsets(image.shape)
    reach = np.exp(-2 * ((down / area.height) ** 2 + (across / area.width) ** 2)) * random.uniform(0.012, 0.031) * area.side
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.indices(image.shape[:2], dtype=np.float32)
    place = [rows + reach * np.sin(angle), columns + reach * np.cos(angle)]
    return np.stack([map_coordinates(channel, place, order=1, mode="nearest") for channel in np.moveaxis(image, 2, 0)], axis=2)


KINDS: dict[str, Kind] = {
    "paste": _paste,
    "moved": _moved,
    "spot": _spot,
    "line": _line,
    "missing": _missing,
    "texture": _texture,
    "shade": _shade,
    "bend": _bend,
}


def made_defect(
    kind: str, image: np.ndarray, others: Others, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Make one defect in an image.

    Args:
        kind: a key of `KINDS`.
        image: uint8 ``[H,W,C]``, normal.
        others: gives other normal images of the category, uint8 ``[h,w,C]`` of any size.
        random: draws place, size and strength.

    Returns:
        the image with the defect, uint8 ``[H,W,C]``, and its mask, bool ``[H,W]``: where some channel differs by more than
        `VISIBLE` of the image's standard deviation, and small gaps between. Farther than `margin` from the mask nothing
        differs. None when no drawn defect was visible, as ``moved`` is not in an image of one tone.
    """
    mean, contrast, side = image.mean(), _contrast(image), min(image.shape[:2])
    standardised, original = _standardised(image), image.astype(np.float64)
    for _ in range(TRIES):
        height, width = (max(2, round(length)) for length in _log_uniform(random, SMALLEST, LARGEST, 2) * side)
        changed = KINDS[kind](standardised, _area(standardised, height, width, random), random, others)
        changed = np.clip(np.rint(changed * contrast + mean), 0, 255)
        mask = np.abs(changed - original).max(axis=2) > VISIBLE * contrast
        if mask.sum() > LEAST_AREA * side**2:
            mask |= binary_closing(mask, iterations=max(1, round(GAP * side)))
            # soft edges go on below what is visible; they end here without a step
            weight = np.clip(1 - distance_transform_edt(~mask) / margin(side), 0, 1)[..., None]
            return np.rint(original + weight * (changed - original)).astype(np.uint8), mask
    return None
