"""The embedded data set: three generated categories in MVTec's layout, with exact masks and defect-free twins.

Every image is a function of (seed, category, split, defect, index) alone. Shapes are drawn on a grid finer than the image and
averaged down, so edges are smooth; a defect changes nothing outside its mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CATEGORIES = ("weave", "ring", "grid")
DEFECTS = ("scratch", "blob", "missing", "structure")
IMAGE_SIDE = 64
# in the order of their random numbers
SPLITS = ("train", "test", "validation")
TRAIN_IMAGES = 96
TEST_GOOD_IMAGES = 20
# the highest score of so many is passed by one normal image in twenty
VALIDATION_IMAGES = 19
TEST_IMAGES_PER_DEFECT = 10
OVERSAMPLING = 3
SENSOR_NOISE = 1.5 / 255


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


@dataclass(frozen=True)
class _Canvas:
    """Coordinates in image pixels at the centres of the fine grid, float ``[F,F]``."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class _Scene:
    """A defect-free picture and what a defect of each kind would show in its place, all float ``[F,F,3]`` in [0, 1]."""

    picture: np.ndarray
    missing: np.ndarray
    missing_area: np.ndarray
    structure: np.ndarray
    structure_area: np.ndarray
    body: np.ndarray


def _canvas() -> _Canvas:
    fine = (np.arange(IMAGE_SIDE * OVERSAMPLING) + 0.5) / OVERSAMPLING
    y, x = np.meshgrid(fine, fine, indexing="ij")
    return _Canvas(x, y)


def _average(fine: np.ndarray) -> np.ndarray:
    """Average the fine grid down to the image: ``[F,F,…]`` to ``[S,S,…]``."""
    shape = (IMAGE_SIDE, OVERSAMPLING, IMAGE_SIDE, OVERSAMPLING, *fine.shape[2:])
    return fine.reshape(shape).mean(axis=(1, 3))


def _colour(base: tuple[float, float, float], spread: float, random: np.random.Generator) -> np.ndarray:
    return np.clip(np.array(base) + random.normal(0, spread) + random.normal(0, spread / 3, 3), 0, 1)


def _rotated(canvas: _Canvas, degrees: float, centre: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    angle = np.deg2rad(degrees)
    x, y = canvas.x - centre[0], canvas.y - centre[1]
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _threads(u: np.ndarray, v: np.ndarray, pitch: float, warp: np.ndarray, weft: np.ndarray, missing: int | None) -> np.ndarray:
    """Plain weave: warp threads run along v, weft threads along u, and each passes over every other one."""
    column, row = np.floor(u / pitch), np.floor(v / pitch)
    across_u, across_v = u / pitch - column - 0.5, v / pitch - row - 0.5
    warp_on_top = (column + row) % 2 == 0
    warp_shade = np.sqrt(np.clip(1 - (across_u / 0.5) ** 2, 0, 1)) * (0.8 + 0.2 * np.cos(np.pi * across_v))
    weft_shade = np.sqrt(np.clip(1 - (across_v / 0.5) ** 2, 0, 1)) * (0.8 + 0.2 * np.cos(np.pi * across_u))
    if missing is not None:
        gone = column == missing
        warp_on_top = warp_on_top & ~gone
        weft_shade = np.where(gone, 0.55 * weft_shade, weft_shade)
    return np.where(warp_on_top[..., None], warp_shade[..., None] * warp, weft_shade[..., None] * weft)


def _weave(canvas: _Canvas, random: np.random.Generator) -> _Scene:
    pitch = 8 * (1 + random.uniform(-0.01, 0.01))
    u, v = _rotated(canvas, random.uniform(-1.5, 1.5), (32, 32))
    u, v = u + random.uniform(0, 2 * pitch), v + random.uniform(0, 2 * pitch)
    warp, weft = _colour((0.80, 0.72, 0.58), 0.015, random), _colour((0.52, 0.40, 0.30), 0.015, random)
    picture = _threads(u, v, pitch, warp, weft, None)
    where = random.uniform(14, 50, 2)
    column = int(np.floor(u[int(where[1]) * OVERSAMPLING, int(where[0]) * OVERSAMPLING] / pitch))
    length = random.uniform(10, 22)
    missing_area = (np.floor(u / pitch) == column) & (np.abs(canvas.y - where[1]) < length / 2)
    # a faulty crossing: a block of the cloth woven the other way round
    side = random.uniform(9, 15)
    structure_area = (np.abs(canvas.x - where[0]) < side / 2) & (np.abs(canvas.y - where[1]) < side / 2)
    return _Scene(
        picture=picture,
        missing=_threads(u, v, pitch, warp, weft, column) * random.uniform(0.3, 0.6),
        missing_area=missing_area,
        structure=_threads(v + pitch / 2, u, pitch, weft, warp, None),
        structure_area=structure_area,
        body=np.ones_like(canvas.x, dtype=bool),
    )


def _ring(canvas: _Canvas, random: np.random.Generator) -> _Scene:
    centre = tuple(32 + random.uniform(-1.5, 1.5, 2))
    turn = random.uniform(0, 60)
    u, v = _rotated(canvas, turn, centre)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    outer, inner = 26 + random.uniform(-0.5, 0.5), 12 + random.uniform(-0.5, 0.5)
    metal, ground = _colour((0.62, 0.64, 0.68), 0.012, random), _colour((0.10, 0.11, 0.13), 0.006, random)
    light = 0.85 + 0.15 * np.cos(2 * (angle + np.deg2rad(turn) - 0.8)) + 0.06 * np.cos(2 * np.pi * radius / 3.5)
    # chamfered edges catch the light
    light = (
        light + 0.18 * np.exp(-(((radius - outer + 1.2) / 0.9) ** 2)) + 0.18 * np.exp(-(((radius - inner - 1.2) / 0.9) ** 2))
    )
    body = (radius < outer) & (radius > inner)
    hole_angles = np.arange(6) * np.pi / 3
    middle, hole_radius = (outer + inner) / 2, 2.6
    distances = [np.hypot(u - middle * np.cos(a), v - middle * np.sin(a)) for a in hole_angles]
    holes = np.minimum.reduce(distances) < hole_radius
    face = light[..., None] * metal
    picture = np.where((body & ~holes)[..., None], face, ground)
    # the missing part: a hole that was never drilled, or a piece broken off the rim
    if random.random() < 0.3:
        which = int(random.integers(6))
        missing, missing_area = face, distances[which] < hole_radius
    else:
        at = random.uniform(-np.pi, np.pi)
        bite = np.hypot(u - outer * np.cos(at), v - outer * np.sin(at)) < random.uniform(3.0, 6.0)
        missing, missing_area = np.broadcast_to(ground, picture.shape), bite & (radius < outer)
    heat = np.clip(picture * np.array(random.choice([[1.30, 0.90, 0.45], [0.55, 0.85, 1.40]])), 0, 1)
    at, width = random.uniform(-np.pi, np.pi), random.uniform(0.25, 0.5)
    sector = np.abs((angle - at + np.pi) % (2 * np.pi) - np.pi) < width
    return _Scene(picture, missing, missing_area, heat, sector & body & ~holes, body & ~holes)


def _grid(canvas: _Canvas, random: np.random.Generator) -> _Scene:
    pitch = 16.0
    u, v = _rotated(canvas, random.uniform(-1.0, 1.0), (32, 32))
    u, v = u + 32 + random.uniform(-1.5, 1.5), v + 32 + random.uniform(-1.5, 1.5)
    board, copper = _colour((0.08, 0.30, 0.20), 0.008, random), _colour((0.80, 0.60, 0.32), 0.012, random)
    to_u, to_v = (u + pitch / 2) % pitch - pitch / 2, (v + pitch / 2) % pitch - pitch / 2
    distance = np.hypot(to_u, to_v)
    weave = 0.9 + 0.1 * np.cos(2 * np.pi * u / 4) * np.cos(2 * np.pi * v / 4)
    bare = weave[..., None] * board
    traces = (np.abs(to_u) < 1.0) | (np.abs(to_v) < 1.0)
    lines = np.where(traces[..., None], 0.75 * copper, bare)
    pads = np.where((distance < 4.2)[..., None], (1.0 - 0.02 * distance[..., None]) * copper, lines)
    picture = np.where((distance < 1.4)[..., None], 0.12 * np.ones(3), pads)
    column, row = random.integers(1, 4, 2)
    at_pad = (np.abs(u - column * pitch) < 5) & (np.abs(v - row * pitch) < 5)
    # the structure fault: a bridge of solder between two neighbouring traces
    bridge_u, bridge_v = (column - 0.5) * pitch + random.uniform(-3, 3), (row - 0.5) * pitch
    bridge = (np.abs(u - bridge_u) < random.uniform(1.0, 2.2)) & (np.abs(v - bridge_v) < pitch / 2 - 1)
    solder = np.broadcast_to(random.uniform(0.7, 1.0) * copper, picture.shape)
    return _Scene(picture, lines, at_pad & (distance < 4.2), solder, bridge, np.ones_like(u, dtype=bool))


_SCENES: dict[str, Callable[[_Canvas, np.random.Generator], _Scene]] = {"weave": _weave, "ring": _ring, "grid": _grid}


def _inside(body: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    """A point (x, y) in image pixels on the body, away from the border."""
    margin = 8 * OVERSAMPLING
    rows, columns = np.nonzero(body[margin:-margin, margin:-margin])
    chosen = int(random.integers(len(rows)))
    return (columns[chosen] + margin) / OVERSAMPLING, (rows[chosen] + margin) / OVERSAMPLING


def _strength(random: np.random.Generator) -> float:
    """How visible a defect is, in (0, 1]: mostly plain to see, one in six faint."""
    return random.uniform(0.2, 0.35) if random.random() < 1 / 6 else random.uniform(0.6, 1.0)


def _scratch(canvas: _Canvas, scene: _Scene, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A thin, slightly bent line, brighter or darker than what it crosses."""
    x, y = _inside(scene.body, random)
    along, across = _rotated(canvas, random.uniform(0, 180), (x, y))
    across = across - random.uniform(-0.012, 0.012) * along**2
    area = (np.abs(along) < random.uniform(7, 16)) & (np.abs(across) < random.uniform(0.8, 1.4)) & scene.body
    # away from the surroundings' own brightness, so that a scratch shows on dark and on bright ground alike
    direction = 1 if scene.picture[area].mean() < 0.5 else -1
    strength = _strength(random) * 0.55 * direction
    return np.clip(scene.picture + strength, 0, 1), area


def _blob(canvas: _Canvas, scene: _Scene, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A stain with a wavy outline that tints what it covers."""
    x, y = _inside(scene.body, random)
    u, v = _rotated(canvas, random.uniform(0, 180), (x, y))
    angle, radius = np.arctan2(v, u), np.hypot(u, v * random.uniform(1, 1.6))
    outline = random.uniform(3.0, 6.0) * (1 + 0.15 * np.cos(3 * angle + random.uniform(0, 6)))
    tint = random.permutation([random.uniform(0, 0.25), random.uniform(0, 1), random.uniform(0.75, 1)])
    opacity = _strength(random) * 0.9
    return (1 - opacity) * scene.picture + opacity * tint, (radius < outline) & scene.body


def _draw_defect(defect: str, canvas: _Canvas, scene: _Scene, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if defect == "scratch":
        return _scratch(canvas, scene, random)
    if defect == "blob":
        return _blob(canvas, scene, random)
    if defect == "missing":
        return scene.missing, scene.missing_area
    return scene.structure, scene.structure_area


def render(category: str, split: str, defect: str, index: int, seed: int = 0) -> Sample:
    """Draw one image of the embedded data set.

    Args:
        category: one of `CATEGORIES`.
        split: ``train``, ``test`` or ``validation``.
        defect: ``good`` or one of `DEFECTS`.
        index: number of the image within its folder.
        seed: seed of the data set.
    """
    key = (CATEGORIES.index(category), SPLITS.index(split), ("good", *DEFECTS).index(defect), index)
    random = np.random.default_rng([seed, *key])
    canvas = _canvas()
    scene = _SCENES[category](canvas, random)
    twin = _average(scene.picture)
    mask = np.zeros((IMAGE_SIDE, IMAGE_SIDE), dtype=bool)
    image = twin
    if defect != "good":
        changed, area = _draw_defect(defect, canvas, scene, random)
        defective = _average(np.where(area[..., None], changed, scene.picture))
        # what covers less than a third of a pixel leaves it as it is, so that the mask holds all that differs
        mask = _average(area.astype(np.float64)) >= 1 / 3
        image = np.where(mask[..., None], defective, twin)
    exposure = 1 + random.uniform(-0.03, 0.03)
    noise = random.normal(0, SENSOR_NOISE, (IMAGE_SIDE, IMAGE_SIDE, 1))

    def developed(picture: np.ndarray) -> np.ndarray:
        return np.round(np.clip(exposure * picture + noise, 0, 1) * 255).astype(np.uint8)

    return Sample(developed(image), mask, developed(twin))


def folders() -> list[tuple[str, str, str, int]]:
    """All (category, split, defect, number of images) of the data set, in order."""
    listing = []
    for category in CATEGORIES:
        counts = (TRAIN_IMAGES, TEST_GOOD_IMAGES, VALIDATION_IMAGES)
        listing += [(category, split, "good", count) for split, count in zip(SPLITS, counts)]
        listing += [(category, "test", defect, TEST_IMAGES_PER_DEFECT) for defect in DEFECTS]
    return listing
