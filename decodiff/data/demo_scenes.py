"""What the embedded data sets show: a defect-free picture of each category, and what its own kinds of defect look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

IMAGE_SIDE = 64
OVERSAMPLING = 3


@dataclass(frozen=True)
class Canvas:
    """Coordinates in image pixels at the centres of the fine grid, float ``[F,F]``."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A defect-free picture and what a defect of each kind would show in its place, all float ``[F,F,3]`` in [0, 1]."""

    picture: np.ndarray
    missing: np.ndarray
    missing_area: np.ndarray
    structure: np.ndarray
    structure_area: np.ndarray
    body: np.ndarray


def fine_canvas() -> Canvas:
    fine = (np.arange(IMAGE_SIDE * OVERSAMPLING) + 0.5) / OVERSAMPLING
    y, x = np.meshgrid(fine, fine, indexing="ij")
    return Canvas(x, y)


def averaged(fine: np.ndarray) -> np.ndarray:
    """Average the fine grid down to the image: ``[F,F,…]`` to ``[S,S,…]``."""
    shape = (IMAGE_SIDE, OVERSAMPLING, IMAGE_SIDE, OVERSAMPLING, *fine.shape[2:])
    return fine.reshape(shape).mean(axis=(1, 3))


def _colour(base: tuple[float, float, float], spread: float, random: np.random.Generator) -> np.ndarray:
    return np.clip(np.array(base) + random.normal(0, spread) + random.normal(0, spread / 3, 3), 0, 1)


def rotated(canvas: Canvas, degrees: float, centre: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
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


def _weave(canvas: Canvas, random: np.random.Generator) -> Scene:
    pitch = 8 * (1 + random.uniform(-0.01, 0.01))
    u, v = rotated(canvas, random.uniform(-1.5, 1.5), (32, 32))
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
    return Scene(
        picture=picture,
        missing=_threads(u, v, pitch, warp, weft, column) * random.uniform(0.3, 0.6),
        missing_area=missing_area,
        structure=_threads(v + pitch / 2, u, pitch, weft, warp, None),
        structure_area=structure_area,
        body=np.ones_like(canvas.x, dtype=bool),
    )


def _ring(canvas: Canvas, random: np.random.Generator) -> Scene:
    centre = tuple(32 + random.uniform(-1.5, 1.5, 2))
    turn = random.uniform(0, 60)
    u, v = rotated(canvas, turn, centre)
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
    return Scene(picture, missing, missing_area, heat, sector & body & ~holes, body & ~holes)


def _grid(canvas: Canvas, random: np.random.Generator) -> Scene:
    pitch = 16.0
    u, v = rotated(canvas, random.uniform(-1.0, 1.0), (32, 32))
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
    return Scene(picture, lines, at_pad & (distance < 4.2), solder, bridge, np.ones_like(u, dtype=bool))


def _tiles(canvas: Canvas, random: np.random.Generator) -> Scene:
    pitch = 21.3
    u, v = rotated(canvas, random.uniform(-1.0, 1.0), (32, 32))
    u, v = u + 32 + random.uniform(-1.5, 1.5), v + 32 + random.uniform(-1.5, 1.5)
    glaze, joint = _colour((0.66, 0.30, 0.22), 0.012, random), _colour((0.70, 0.68, 0.64), 0.008, random)
    column, row = np.floor(u / pitch), np.floor(v / pitch)
    to_u, to_v = u - (column + 0.5) * pitch, v - (row + 0.5) * pitch
    from_edge = pitch / 2 - np.maximum(np.abs(to_u), np.abs(to_v))
    rounded = 0.82 + 0.18 * np.clip((from_edge - 1.2) / 3, 0, 1) - 0.004 * (to_u + to_v)
    on_tile = from_edge > 1.2
    picture = np.where(on_tile[..., None], rounded[..., None] * glaze, joint)
    # a corner broken off, where the ground shows; a tile of another firing
    corner_u, corner_v = random.integers(1, 3, 2) * pitch
    chipped = (np.abs(u - corner_u) + np.abs(v - corner_v) < random.uniform(5, 8)) & on_tile & (u > corner_u) & (v > corner_v)
    at_u, at_v = random.integers(0, 3, 2)
    other = np.clip(picture * np.array(random.choice([[0.70, 0.80, 1.00], [1.20, 1.25, 1.00]])), 0, 1)
    return Scene(picture, np.full_like(picture, 0.25), chipped, other, (column == at_u) & (row == at_v) & on_tile, on_tile)


def _brushed(canvas: Canvas, random: np.random.Generator) -> Scene:
    u, v = rotated(canvas, random.uniform(-1.0, 1.0), (32, 32))
    # every image has grooves of its own: sines of random phase across the brushing
    waves = [np.sin(2 * np.pi * v / period + random.uniform(0, 2 * np.pi)) for period in (1.9, 2.7, 4.3, 7.1)]
    grooves = 0.03 * sum(waves)
    steel = _colour((0.58, 0.60, 0.63), 0.010, random)
    sheen = 0.88 + 0.12 * np.cos(2 * np.pi * (u - random.uniform(-4, 4)) / 128)
    picture = np.clip((sheen + grooves)[..., None] * steel, 0, 1)
    x, y = random.uniform(16, 48, 2)
    # a spot that was not brushed; one brushed across
    radius = random.uniform(3.5, 6)
    bare = np.hypot(canvas.x - x, canvas.y - y) < radius
    side = random.uniform(8, 13)
    across = (np.abs(canvas.x - x) < side / 2) & (np.abs(canvas.y - y) < side / 2)
    turned = np.clip((sheen + 0.16 * np.sin(2 * np.pi * u / 3.1))[..., None] * steel, 0, 1)
    return Scene(picture, (0.75 * sheen)[..., None] * steel, bare, turned, across, body=np.ones_like(canvas.x, dtype=bool))


def _bolt(canvas: Canvas, random: np.random.Generator) -> Scene:
    centre = tuple(32 + random.uniform(-1.5, 1.5, 2))
    u, v = rotated(canvas, random.uniform(0, 60), centre)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    brass, ground = _colour((0.74, 0.58, 0.28), 0.012, random), _colour((0.16, 0.17, 0.20), 0.006, random)
    # distance of a hexagon's outline from its centre
    sides = (angle + np.pi / 6) % (np.pi / 3) - np.pi / 6
    inradius = 22 + random.uniform(-0.5, 0.5)
    depth = inradius - radius * np.cos(sides)
    head = depth > 0
    slot = (np.abs(v) < 2.2) & (np.abs(u) < 14)
    face = (0.72 + 0.28 * np.clip(depth / 4, 0, 1) + 0.05 * np.cos(2 * np.pi * radius / 5))[..., None] * brass
    picture = np.where((head & ~slot)[..., None], face, ground)
    # a corner sheared off; a slot cut across the other one
    corner = np.round(random.uniform(0, 6)) * np.pi / 3 + np.pi / 6
    cut = u * np.cos(corner) + v * np.sin(corner) > inradius - random.uniform(0, 2.5)
    crossing = (np.abs(u) < 2.2) & (np.abs(v) < random.uniform(6, 12))
    dark = np.broadcast_to(ground, picture.shape)
    return Scene(picture, dark, cut & head & ~slot, dark, crossing & head & ~slot, head & ~slot)


SCENES: dict[str, Callable[[Canvas, np.random.Generator], Scene]] = {
    "weave": _weave,
    "ring": _ring,
    "grid": _grid,
    "tiles": _tiles,
    "brushed": _brushed,
    "bolt": _bolt,
}
