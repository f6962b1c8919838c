"""The embedded data sets: generated categories in MVTec's layout, with exact masks and defect-free twins.

Every image is a function of (seed, category, split, defect, index) alone. Shapes are drawn on a grid finer than the image and
averaged down, so edges are smooth; a defect changes nothing outside its mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from decodiff.data.demo_scenes import IMAGE_SIDE, OVERSAMPLING, SCENES, Canvas, Scene, averaged, fine_canvas, rotated

# in the order of their random numbers
CATEGORIES = tuple(SCENES)
DEFECTS = ("scratch", "blob", "missing", "structure")
SPLITS = ("train", "test", "validation")
# the highest score of so many is passed by one normal image in twenty
VALIDATION_IMAGES = 19
SENSOR_NOISE = 1.5 / 255


@dataclass(frozen=True)
class Embedded:
    """One embedded data set: its categories, and how many images each of them has."""

    categories: tuple[str, ...]
    train: int
    test_good: int
    test_per_defect: int


DATA_SETS = {
    "demo": Embedded(("weave", "ring", "grid"), train=96, test_good=20, test_per_defect=10),
    "demo_surfaces": Embedded(("tiles", "brushed"), train=24, test_good=12, test_per_defect=5),
    "demo_parts": Embedded(("bolt",), train=24, test_good=12, test_per_defect=5),
}


@dataclass(frozen=True)
class Sample:
    """One generated image.

    Attributes:
        image: uint8 ``[S,S,3]``.
        mask: bool ``[S,S]``, true where a defect is.
        twin: the same image without the defect, uint8 ``[S,S,3]``; equals ``image`` wherever ``mask`` is false.
    """

    image: np.ndarray
    mask: np.ndarray
    twin: np.ndarray


def _inside(body: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    """A point (x, y) in image pixels on the body, away from the border."""
    margin = 8 * OVERSAMPLING
    rows, columns = np.nonzero(body[margin:-margin, margin:-margin])
    chosen = int(random.integers(len(rows)))
    return (columns[chosen] + margin) / OVERSAMPLING, (rows[chosen] + margin) / OVERSAMPLING


def _strength(random: np.random.Generator) -> float:
    """How visible a defect is, in (0, 1]: mostly plain to see, one in six faint."""
    return random.uniform(0.2, 0.35) if random.random() < 1 / 6 else random.uniform(0.6, 1.0)


def _scratch(canvas: Canvas, scene: Scene, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A thin, slightly bent line, brighter or darker than what it crosses."""
    x, y = _inside(scene.body, random)
    along, across = rotated(canvas, random.uniform(0, 180), (x, y))
    across = across - random.uniform(-0.012, 0.012) * along**2
    area = (np.abs(along) < random.uniform(7, 16)) & (np.abs(across) < random.uniform(0.8, 1.4)) & scene.body
    # away from the surroundings' own brightness, so that a scratch shows on dark and on bright ground alike
    direction = 1 if scene.picture[area].mean() < 0.5 else -1
    strength = _strength(random) * 0.55 * direction
    return np.clip(scene.picture + strength, 0, 1), area


def _blob(canvas: Canvas, scene: Scene, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A stain with a wavy outline that tints what it covers."""
    x, y = _inside(scene.body, random)
    u, v = rotated(canvas, random.uniform(0, 180), (x, y))
    angle, radius = np.arctan2(v, u), np.hypot(u, v * random.uniform(1, 1.6))
    outline = random.uniform(3.0, 6.0) * (1 + 0.15 * np.cos(3 * angle + random.uniform(0, 6)))
    tint = random.permutation([random.uniform(0, 0.25), random.uniform(0, 1), random.uniform(0.75, 1)])
    opacity = _strength(random) * 0.9
    return (1 - opacity) * scene.picture + opacity * tint, (radius < outline) & scene.body


def _draw_defect(defect: str, canvas: Canvas, scene: Scene, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if defect == "scratch":
        return _scratch(canvas, scene, random)
    if defect == "blob":
        return _blob(canvas, scene, random)
    if defect == "missing":
        return scene.missing, scene.missing_area
    return scene.structure, scene.structure_area


def render(category: str, split: str, defect: str, index: int, seed: int = 0) -> Sample:
    """Draw one image of an embedded data set.

    Args:
        category: one of `CATEGORIES`.
        split: ``train``, ``test`` or ``validation``.
        defect: ``good`` or one of `DEFECTS`.
        index: number of the image within its folder.
        seed: seed of the data set.
    """
    key = (CATEGORIES.index(category), SPLITS.index(split), ("good", *DEFECTS).index(defect), index)
    random = np.random.default_rng([seed, *key])
    canvas = fine_canvas()
    scene = SCENES[category](canvas, random)
    twin = averaged(scene.picture)
    mask = np.zeros((IMAGE_SIDE, IMAGE_SIDE), dtype=bool)
    image = twin
    if defect != "good":
        changed, area = _draw_defect(defect, canvas, scene, random)
        defective = averaged(np.where(area[..., None], changed, scene.picture))
        # what covers less than a third of a pixel leaves it as it is, so that the mask holds all that differs
        mask = averaged(area.astype(np.float64)) >= 1 / 3
        image = np.where(mask[..., None], defective, twin)
    exposure = 1 + random.uniform(-0.03, 0.03)
    noise = random.normal(0, SENSOR_NOISE, (IMAGE_SIDE, IMAGE_SIDE, 1))

    def developed(picture: np.ndarray) -> np.ndarray:
        return np.round(np.clip(exposure * picture + noise, 0, 1) * 255).astype(np.uint8)

    return Sample(developed(image), mask, developed(twin))


def folders(name: str) -> list[tuple[str, str, str, int]]:
    """All (category, split, defect, number of images) of one of `DATA_SETS`, in order."""
    dataset, listing = DATA_SETS[name], []
    for category in dataset.categories:
        counts = (dataset.train, dataset.test_good, VALIDATION_IMAGES)
        listing += [(category, split, "good", count) for split, count in zip(SPLITS, counts)]
        listing += [(category, "test", defect, dataset.test_per_defect) for defect in DEFECTS]
    return listing
