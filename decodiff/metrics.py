"""The metrics of the field from anomaly maps and masks: exact, and in memory that does not grow with the number of maps.

All of a metric's steps lie at scores of anomalous items: between two of them only false positives are added, and the curves run
level. So the distinct scores of anomalous pixels are the thresholds, normal pixels are counted between them a batch at a time,
and one sort serves all metrics. The functions of a `Curve` work along its last axis, for one curve or for many of the same
thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from skimage.measure import label as label_regions

from decodiff.protocols import PROTOCOLS

METRICS = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "pixel_aupro")
FURTHER_METRICS = ("pixel_aupro_05", "pixel_ioumax")
ALL_METRICS = METRICS + FURTHER_METRICS
MAX_FPR = 0.3
STRICT_MAX_FPR = 0.05
REFERENCE_THRESHOLDS = 200
# anomalous pixels in memory at a time, and pixels of a batch
PIXELS_AT_ONCE = 2**22
BATCH_PIXELS = 2**21

# Pairs of maps float [n,H,W] and masks bool [n,H,W]; can be gone through more than once.
Batches = Iterable[tuple[np.ndarray, np.ndarray]]
# what numpy.searchsorted does with equal values
Side = Literal["left", "right"]


@dataclass(frozen=True)
class Curve:
    """What is found, and what is called anomalous wrongly, at every distinct score of a positive item, descending.

    Attributes:
        thresholds: those scores ``[K]``.
        steps: weight of the positives at exactly that score ``[…,K]``.
        true_positives: weight of the positives at or above it ``[…,K]``.
        above, false_positives: weight of the negatives strictly above it, and at or above it ``[…,K]``.
        overlap_steps: summed over regions, the part of each that has exactly that score ``[…,K]``; None for image scores.
        positives, negatives, regions: totals ``[…]``.
    """

    thresholds: np.ndarray
    steps: np.ndarray
    true_positives: np.ndarray
    above: np.ndarray
    false_positives: np.ndarray
    overlap_steps: np.ndarray | None
    positives: np.ndarray | int
    negatives: np.ndarray | int
    regions: np.ndarray | int


def _area(steps: np.ndarray, above: np.ndarray, at: np.ndarray, limit: np.ndarray | int) -> np.ndarray:
    """Area over ``[0, limit]`` under the line that rises by each of ``steps`` evenly between ``above`` and ``at``."""
    end = np.asarray(limit)[..., None]
    whole = end - (above + at) / 2
    part = (end - above) ** 2 / (2 * np.maximum(at - above, 1))
    return (steps * np.where(at <= end, whole, np.where(above < end, part, 0.0))).sum(axis=-1)


def auroc(curve: Curve) -> np.ndarray:
    """Area under the ROC curve (trapezoids), as scikit-learn's ``roc_auc_score``."""
    area = _area(curve.steps, curve.above, curve.false_positives, curve.negatives)
    return area / (curve.positives * curve.negatives)


def average_precision(curve: Curve) -> np.ndarray:
    """Average precision (steps), as scikit-learn's ``average_precision_score``."""
    called = curve.true_positives + curve.false_positives
    precision = curve.true_positives / np.maximum(called, 1e-300)
    return (curve.steps * precision).sum(axis=-1) / curve.positives


def f1(curve: Curve) -> np.ndarray:
    """F1 at every threshold ``[…,K]``."""
    positives = np.asarray(curve.positives)[..., None]
    return 2 * curve.true_positives / (curve.true_positives + curve.false_positives + positives)


def f1max(curve: Curve) -> np.ndarray:
    """Largest F1 over all thresholds; chosen with the labels at hand, so an oracle and not a threshold for use."""
    return f1(curve).max(axis=-1, initial=0.0)


def ioumax(curve: Curve) -> np.ndarray:
    """Largest intersection over union of the called and the anomalous pixels over all thresholds; an oracle likewise."""
    return (curve.true_positives / (np.asarray(curve.positives)[..., None] + curve.false_positives)).max(axis=-1, initial=0.0)


def aupro(curve: Curve, max_fpr: float = MAX_FPR) -> np.ndarray:
    """Exact area under PRO(FPR) up to ``max_fpr``, the end point interpolated, divided by ``max_fpr``.

    Definition: Bergmann et al., IJCV 2021, over all thresholds instead of a sample of them.

    Raises:
        ValueError: the curve is of image scores.
    """
    if curve.overlap_steps is None:
        raise ValueError("a curve of image scores has no regions, and so no AUPRO")
    limit = max_fpr * np.asarray(curve.negatives)
    return _area(curve.overlap_steps, curve.above, curve.false_positives, limit) / (limit * curve.regions)


def aupro_strict(curve: Curve) -> np.ndarray:
    """`aupro` up to an FPR of 0.05."""
    return aupro(curve, STRICT_MAX_FPR)


IMAGE_FUNCTIONS = {"image_auroc": auroc, "image_ap": average_precision, "image_f1max": f1max}
PIXEL_FUNCTIONS = {
    "pixel_auroc": auroc,
    "pixel_ap": average_precision,
    "pixel_f1max": f1max,
    "pixel_aupro": aupro,
    "pixel_aupro_05": aupro_strict,
    "pixel_ioumax": ioumax,
}
# of a curve in pieces the largest value counts; other metrics are sums over thresholds, and so over pieces
LARGEST = (f1max, ioumax)


class InBatches:
    """Arrays in memory (or mapped) as `Batches`.

    Args:
        anomaly_map: float ``[N,H,W]``.
        mask: bool or {0, 1}, ``[N,H,W]``.
        pixels: about how many there are in a batch.
    """

    def __init__(self, anomaly_map: np.ndarray, mask: np.ndarray, pixels: int = BATCH_PIXELS):
        self._arrays = np.asarray(anomaly_map), np.asarray(mask)
        self._length = max(1, pixels // max(1, math.prod(np.shape(anomaly_map)[1:])))

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        maps, masks = self._arrays
        for start in range(0, max(len(maps), len(masks)), self._length):
            yield maps[start : start + self._length], masks[start : start + self._length]


def image_scores(batches: Batches, top_pixels: int = 1) -> np.ndarray:
    """Per image the mean of its ``top_pixels`` highest pixels (1: its maximum): float64 ``[N]``.

    Raises:
        ValueError: a map holds NaN or infinity or fewer than ``top_pixels``, maps and masks differ in shape, or a mask is not
            binary.
    """
    scores: list[float] = []
    for maps, masks in batches:
        if maps.ndim != 3 or maps.shape != masks.shape:
            raise ValueError(f"maps {maps.shape} and masks {masks.shape} must be [N,H,W] of the same shape")
        if masks.dtype != bool and not np.isin(np.unique(masks), (0, 1)).all():
            raise ValueError("a mask must hold 0 and 1 only")
        flat = np.asarray(maps).reshape(len(maps), -1)
        if not 1 <= top_pixels <= flat.shape[1]:
            raise ValueError(f"an image score of {top_pixels} pixels from maps of {flat.shape[1]}")
        finite = np.isfinite(flat).all(axis=1)
        if not finite.all():
            raise ValueError(f"anomaly map {len(scores) + int(np.flatnonzero(~finite)[0])} holds NaN or infinity")
        if top_pixels > 1:
            flat = np.partition(flat, -top_pixels, axis=1)[:, -top_pixels:]
            scores += flat.mean(axis=1, dtype=np.float64).tolist()
        else:
            scores += flat.max(axis=1).tolist()
    return np.array(scores, dtype=np.float64)


def _distinct(scores: np.ndarray, counts: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct scores, ascending, with the sums of counts and shares at each."""
    if not len(scores):
        return scores, counts, shares
    order = np.argsort(scores, kind="stable")
    scores = scores[order]
    starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    return scores[starts], np.add.reduceat(counts[order], starts), np.add.reduceat(shares[order], starts)


def region_shares(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Of each anomalous pixel 1/(area of its region), and the number of regions; regions are 8-connected.

    Args:
        mask: bool ``[H,W]``.

    Returns:
        float64 ``[P]`` in the order of ``mask``'s anomalous pixels, summing to the number of regions.
    """
    labels = label_regions(mask)[mask]
    areas = np.bincount(labels)
    return 1.0 / areas[labels], len(areas) - 1


def _positive_steps(batches: Batches, low: float, high: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Distinct scores in ``[low, high)`` of anomalous pixels with counts and shares of regions; the number of all regions."""
    empty = np.empty(0)
    parts, total = [(empty.astype(np.float32), empty, empty)], 0
    for maps, masks in batches:
        masks = masks.astype(bool, copy=False)
        for index in np.flatnonzero(masks.any(axis=(1, 2))):
            shares, regions = region_shares(masks[index])
            total += regions
            scores = maps[index][masks[index]]
            inside = (scores >= low) & (scores < high)
            parts.append(_distinct(scores[inside], np.ones(int(inside.sum())), shares[inside]))
    columns = [np.concatenate(column) for column in zip(*parts)]
    parts.clear()
    return *_distinct(*columns), total


def _passed(normal: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of the ascending ``normal`` scores are strictly above, and at or above, each threshold: int ``[K]`` each."""
    above, at = (len(normal) - np.searchsorted(normal, thresholds, side=side) for side in ("right", "left"))
    return above, at


def _negatives(batches: Batches, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal pixels strictly above, and at or above, each of the ascending thresholds: float64 ``[K]`` each."""
    above, at = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    for maps, masks in batches:
        normal = maps[~masks.astype(bool, copy=False)]
        normal.sort()
        if len(thresholds) <= len(normal):
            more_above, more_at = _passed(normal, thresholds)
            above += more_above
            at += more_at
        else:  # the longer one is gone through in order, not looked up in
            ends: tuple[tuple[np.ndarray, Side], ...] = ((at, "right"), (above, "left"))
            for counted, side in ends:
                passed = np.bincount(np.searchsorted(thresholds, normal, side=side), minlength=len(thresholds) + 1)
                counted += np.cumsum(passed[::-1])[-2::-1]
    return above, at


def count_labels(batches: Batches) -> tuple[int, int]:
    """The number of anomalous and of normal pixels."""
    positives = negatives = 0
    for _, masks in batches:
        found = int(np.count_nonzero(masks))
        positives, negatives = positives + found, negatives + masks.size - found
    return positives, negatives


def _cuts(batches: Batches, positives: int, at_once: int) -> list[float]:
    """Scores that cut the anomalous pixels into parts of about half of ``at_once``, with infinity at both ends."""
    if positives <= at_once:
        return [-np.inf, np.inf]
    every = -(-positives // at_once)
    sample = np.concatenate([maps[masks.astype(bool, copy=False)][::every] for maps, masks in batches])
    inner = np.unique(np.quantile(sample, np.arange(1, 2 * every) / (2 * every), method="nearest"))
    return [-np.inf, *inner.tolist(), np.inf]


def pixel_curves(batches: Batches, at_once: int = PIXELS_AT_ONCE) -> Iterator[Curve]:
    """The pixels' curve, in pieces from the highest scores down when there are more than ``at_once`` anomalous pixels.

    All pieces know the totals; a piece's counts include those of the pieces before it. Memory is a few batches and up to 150
    bytes for each of ``at_once`` anomalous pixels; the maps are gone through twice for each piece.
    """
    positives, negatives = count_labels(batches)
    cuts = _cuts(batches, positives, at_once)
    before = 0.0
    for low, high in reversed(list(zip(cuts[:-1], cuts[1:]))):
        thresholds, counts, shares, regions = _positive_steps(batches, low, high)
        above, at = _negatives(batches, thresholds)
        steps = counts[::-1]
        found = before + np.cumsum(steps)
        yield Curve(thresholds[::-1], steps, found, above[::-1], at[::-1], shares[::-1], positives, negatives, regions)
        before += steps.sum()


def image_curve(scores: np.ndarray, label: np.ndarray) -> Curve:
    """The curve of image scores, float ``[N]``, with ``label`` bool ``[N]``, True for anomalous images."""
    thresholds, counts = np.unique(scores[label], return_counts=True)
    normal = np.sort(scores[~label])
    above, at = _passed(normal, thresholds)
    steps = counts[::-1].astype(np.float64)
    totals = (int(label.sum()), len(normal), 0)
    return Curve(thresholds[::-1], steps, np.cumsum(steps), above[::-1], at[::-1], None, *totals)


def reference_thresholds(batches: Batches) -> np.ndarray:
    """The thresholds of the authors' AUPRO: 200 equidistant ones from the lowest score up to, not including, the highest."""
    low = min(maps.min() for maps, _ in batches)
    high = max(maps.max() for maps, _ in batches)
    # in the scores' own precision, as there: float32 thresholds fall on other sides of float32 scores than float64 ones
    return np.arange(low, high, (high - low) / REFERENCE_THRESHOLDS) if high > low else np.array([low])


def reference_area(false_positives: np.ndarray, negatives: np.ndarray | int, overlap: np.ndarray) -> np.ndarray:
    """AUPRO from counts at descending thresholds as the authors' code takes it: FPR below 0.3, divided by its own maximum.

    Args:
        false_positives, overlap: normal pixels called anomalous, and PRO, ``[…,K]``, both rising.
        negatives: number of normal pixels ``[…]``.

    Returns:
        ``[…]``; NaN when fewer than two of the thresholds keep the FPR below 0.3, or all of them give an FPR of 0.
    """
    fpr = false_positives / np.asarray(negatives)[..., None]
    keep = fpr < MAX_FPR
    largest = np.where(keep, fpr, 0.0).max(axis=-1, initial=0.0)
    both = keep[..., 1:] & keep[..., :-1]
    area = (np.diff(fpr) * (overlap[..., 1:] + overlap[..., :-1]) / 2 * both).sum(axis=-1)
    defined = (keep.sum(axis=-1) >= 2) & (largest > 0)
    return np.where(defined, area / np.where(defined, largest, 1.0), np.nan)


def aupro_reference(batches: Batches) -> float:
    """AUPRO as the authors' code computes it, to reproduce published numbers (protocol ``reference``).

    It leaves out the curve's ends and depends on the scale of the scores. NaN where `reference_area` says.
    """
    thresholds = reference_thresholds(batches)
    false_positives, overlap = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    negatives = total = 0
    for maps, masks in batches:
        masks = masks.astype(bool, copy=False)
        normal = np.sort(maps[~masks])
        negatives += len(normal)
        # what is strictly above a threshold is called anomalous
        false_positives += len(normal) - np.searchsorted(normal, thresholds, side="right")
        for index in np.flatnonzero(masks.any(axis=(1, 2))):
            shares, regions = region_shares(masks[index])
            total += regions
            passed = np.searchsorted(thresholds, maps[index][masks[index]], side="left")
            overlap += np.cumsum(np.bincount(passed, shares, len(thresholds) + 1)[::-1])[-2::-1]
    return float(reference_area(false_positives[::-1], negatives, overlap[::-1] / total))


def evaluate_batches(batches: Batches, scores: np.ndarray, label: np.ndarray, protocol: str = "standard") -> dict[str, float]:
    """All metrics of one category whose maps and masks come a batch at a time; `evaluate` takes them as two arrays.

    Args:
        batches: maps and masks; higher is more anomalous, 1 (or True) on anomalous pixels. Masks must have been resized under
            the same protocol. What `image_scores` refuses must not be among them.
        scores: image scores, float ``[N]``; see `image_scores`.
        label: bool ``[N]``, whether an image is anomalous. Not the same as a mask that is not empty: a crop may have removed
            the only anomalous pixels.
        protocol: a key of `decodiff.protocols.PROTOCOLS`; ``reference`` takes AUPRO as in the authors' code.

    Returns:
        The keys of `ALL_METRICS`, each in [0, 1]; NaN where it is not defined (no anomalous or no normal image or pixel).

    Raises:
        ValueError: no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    result = dict.fromkeys(ALL_METRICS, float("nan"))
    if label.any() and not label.all():
        images = image_curve(scores, label)
        result |= {name: float(function(images)) for name, function in IMAGE_FUNCTIONS.items()}
    for piece in pixel_curves(batches):
        if piece.positives and piece.negatives:
            for name, function in PIXEL_FUNCTIONS.items():
                value, before = float(function(piece)), result[name]
                together = max if function in LARGEST else sum
                result[name] = value if math.isnan(before) else together((before, value))
    if PROTOCOLS[protocol].aupro != "exact" and not math.isnan(result["pixel_aupro"]):
        result["pixel_aupro"] = aupro_reference(batches)
    return result


def evaluate(
    anomaly_map: ArrayLike,
    mask: ArrayLike,
    *,
    label: ArrayLike | None = None,
    protocol: str = "standard",
    top_pixels: int = 1,
) -> dict[str, float]:
    """All metrics of one category from two arrays, or from what numpy takes for one, as it does tensors on the CPU.

    Args:
        anomaly_map: numbers ``[N,H,W]``, or ``[H,W]`` for one image, on any scale; higher is more anomalous.
        mask: bool or {0, 1}, of the same shape, 1 on anomalous pixels; all 0 for a normal image.
        label: bool or {0, 1} ``[N]``, whether an image is anomalous; by default whether its mask has an anomalous pixel. To be
            given where masks do not tell: a crop may have cut away the only defect of an image, which is still anomalous, and
            an anomalous image may have no mask (then pixel metrics count its pixels as normal).
        protocol: a key of `decodiff.protocols.PROTOCOLS`; ``reference`` takes AUPRO as in the authors' code. Masks must have
            been resized as it says.
        top_pixels: an image's score is the mean of that many of its highest pixels; 1: the highest.

    Returns:
        The keys of `ALL_METRICS`, each in [0, 1]; NaN where it is not defined (no anomalous or no normal image or pixel). For
        definitions see ``docs/protocol.md``.

    Raises:
        ValueError: maps or masks are no numbers, differ in shape, or are none; a map holds NaN or infinity; a mask or label is
            not binary; there is not one label for each image; no such protocol; fewer pixels than ``top_pixels``.
    """
    maps, masks = np.asarray(anomaly_map), np.asarray(mask)
    if maps.shape != masks.shape or maps.ndim not in (2, 3):
        raise ValueError(f"maps {maps.shape} and masks {masks.shape} must be [N,H,W], or [H,W], of the same shape")
    if not {maps.dtype.kind, masks.dtype.kind} <= set("biuf"):
        raise ValueError(f"maps of {maps.dtype} and masks of {masks.dtype} must be real numbers")
    if not len(maps):
        raise ValueError("no image: maps and masks are empty")
    if maps.ndim == 2:
        maps, masks = maps[None], masks[None]
    if maps.dtype.kind != "f":
        # differences of integers may overflow
        maps = maps.astype(np.float64)
    labels = masks.any(axis=(1, 2)) if label is None else np.asarray(label)
    if labels.shape != maps.shape[:1] or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels of shape {labels.shape} for {len(maps)} images; give 0 or 1 for each")
    batches = InBatches(maps, masks)
    return evaluate_batches(batches, image_scores(batches, top_pixels), labels.astype(bool), protocol)
