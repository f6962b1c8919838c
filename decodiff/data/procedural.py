"""Procedural images: what a small autoencoder must see so that it reproduces what no normal image holds.

Dead leaves (shapes of random size and colour occluding each other; Lee, Mumford & Huang, IJCV 2001) with strokes and a
little noise on top. They have edges, lines, corners and spots at every scale, so a code learned from them is not tied to
the normal images it is trained beside.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

OVERSAMPLING = 2


def _polygon(random: np.random.Generator, centre: np.ndarray, radius: float) -> list[tuple[float, float]]:
    angles = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(3, 7))))
    stretch = random.uniform(0.4, 1.0, 2)
    points = centre + radius * stretch * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return [tuple(point) for point in points]


def dead_leaves(side: int, random: np.random.Generator) -> np.ndarray:
    """One image of overlapping shapes and strokes.

    Args:
        side: height and width in pixels.
        random: generator that decides everything about it.

    Returns:
        uint8 ``[side,side,3]``.
    """
    fine = side * OVERSAMPLING
    palette = np.clip(random.uniform(0, 255, 3) + random.normal(0, random.uniform(15, 90), (12, 3)), 0, 255).astype(int)
    image = Image.new("RGB", (fine, fine), tuple(int(v) for v in palette[0]))
    draw = ImageDraw.Draw(image)
    # log-uniform radii from one pixel to a third of the image, the large ones first so that the small ones stay visible
    smallest, largest = 1.0 * OVERSAMPLING, fine / 3
    radii = np.sort(smallest * (largest / smallest) ** random.uniform(0, 1, max(24, side * side // 80)))[::-1]
    for radius in radii:
        centre = random.uniform(0, fine, 2)
        colour = tuple(int(v) for v in palette[random.integers(len(palette))])
        kind = random.random()
        if kind < 0.35:
            squash = random.uniform(0.5, 1.0, 2) * radius
            draw.ellipse([*(centre - squash), *(centre + squash)], fill=colour)
        elif kind < 0.75:
            draw.polygon(_polygon(random, centre, radius), fill=colour)
        else:
            direction = random.normal(0, 1, 2) * (radius * 2 + side / 12)
            draw.line([tuple(centre), tuple(centre + direction)], fill=colour, width=int(random.integers(1, 5)))
    small = np.asarray(image.reduce(OVERSAMPLING), dtype=np.float64)
    return np.clip(small + random.normal(0, random.uniform(0, 4), small.shape), 0, 255).round().astype(np.uint8)


def dead_leaves_bank(count: int, side: int, random: np.random.Generator) -> np.ndarray:
    """``count`` images of `dead_leaves`: uint8 ``[count,side,side,3]``."""
    return np.stack([dead_leaves(side, random) for _ in range(count)])
