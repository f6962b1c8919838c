"""How sure a metric is: bootstrap over the images of a category, for one method and for the difference between two.

A resample draws as many normal and as many anomalous images as there are, with replacement (Efron and Tibshirani, 1993,
percentile intervals, stratified by label). Images are not gone through again for each: their pixels are counted once in
`BINS` bins of scores, and a resample is a weighted sum of these counts. Scores within a bin count as ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from decodiff.metrics import (
    ALL_METRICS,
    IMAGE_FUNCTIONS,
    PIXEL_FUNCTIONS,
    Batches,
    Curve,
    count_labels,
    reference_area,
    reference_thresholds,
    region_shares,
)
from decodiff.protocols import PROTOCOLS

BINS = 4096
CONFIDENCE = 0.95
# resamples that are computed together
CHUNK = 100
SAMPLED_PIXELS = 2**20


@dataclass(frozen=True)
class Counts:
    """Pixels of each image by bins of scores, the highest first, all float64.

    Attributes:
        anomalous: positions of the images that have anomalous pixels, int ``[A]``.
        positives, overlap: of those, anomalous pixels, and their shares of regions, ``[A,B]``.
        regions: of those, their number ``[A]``.
        negatives: normal pixels of all images ``[N,B]``.
    """

    anomalous: np.ndarray
    positives: np.ndarray
    overlap: np.ndarray
    regions: np.ndarray
    negatives: np.ndarray


def _edges(batches: Batches) -> np.ndarray:
    """Scores that cut the anomalous pixels, and likewise the normal ones, into bins of about equal numbers, ascending."""
    positives, negatives = count_labels(batches)
    every = [max(1, -(-count // SAMPLED_PIXELS)) for count in (negatives, positives)]
    samples: tuple[list, list] = ([], [])
    for maps, masks in batches:
        masks = masks.astype(bool, copy=False)
        for label, chosen in enumerate((~masks, masks)):
            samples[label].append(maps[chosen][:: every[label]])
    # normal pixels matter where few are above, so their bins narrow geometrically towards the top
    tail = np.geomspace(1, 1e-6, BINS // 2 - 1)
    parts = [(samples[0], 1 - tail), (samples[1], np.linspace(0, 1, BINS // 2))]
    cuts = [np.quantile(np.concatenate(sample), at, method="nearest") for sample, at in parts if sum(map(len, sample))]
    return np.unique(np.concatenate(cuts))


def count_pixels(batches: Batches, edges: np.ndarray, side: str) -> Counts:
    """Count each image's pixels between ascending ``edges``; ``side`` as of ``numpy.searchsorted``."""
    bins = len(edges) + 1
    anomalous, positives, overlap, regions, negatives = [], [], [], [], []
    for maps, masks in batches:
        for anomaly_map, mask in zip(maps, masks.astype(bool, copy=False)):
            passed = np.searchsorted(edges, anomaly_map.ravel(), side=side)
            every = np.bincount(passed, minlength=bins)[::-1]
            if mask.any():
                found = passed[mask.ravel()]
                shares, number = region_shares(mask)
                anomalous.append(len(negatives))
                positives.append(np.bincount(found, minlength=bins)[::-1])
                overlap.append(np.bincount(found, shares, bins)[::-1])
                regions.append(number)
                every = every - positives[-1]
            negatives.append(every.astype(np.int32))
    empty = np.empty((0, bins))
    return Counts(
        np.array(anomalous, dtype=int),
        np.array(positives) if positives else empty,
        np.array(overlap) if overlap else empty,
        np.array(regions, dtype=np.float64),
        np.array(negatives),
    )


def resample_weights(label: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each image is drawn in each resample: int ``[R,N]``; normal and anomalous images are drawn apart."""
    weights = np.zeros((resamples, len(label)), dtype=np.int64)
    for value in (False, True):
        images = np.flatnonzero(label == value)
        if len(images):
            weights[:, images] = generator.multinomial(len(images), np.full(len(images), 1 / len(images)), resamples)
    return weights


def _curve(positives: np.ndarray, negatives: np.ndarray, overlap: np.ndarray | None, regions: np.ndarray) -> Curve:
    """The curve of counts by bins, the highest scores first: ``[R,B]`` each."""
    found, wrong = np.cumsum(positives, axis=-1), np.cumsum(negatives, axis=-1)
    totals = found[..., -1], wrong[..., -1], regions
    return Curve(np.empty(0), positives, found, wrong - negatives, wrong, overlap, *totals)


def _image_values(scores: np.ndarray, label: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Image metrics of every resample, exactly."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    drawn = weights[:, order].astype(np.float64)
    positives = np.add.reduceat(drawn * label[order], starts, axis=1)
    curve = _curve(positives, np.add.reduceat(drawn * ~label[order], starts, axis=1), None, np.zeros(len(weights)))
    return {name: function(curve) for name, function in IMAGE_FUNCTIONS.items()}


def _pixel_values(counts: Counts, weights: np.ndarray) -> Curve:
    drawn = weights.astype(np.float64)
    anomalous = drawn[:, counts.anomalous]
    return _curve(
        anomalous @ counts.positives, drawn @ counts.negatives, anomalous @ counts.overlap, anomalous @ counts.regions
    )


def resampled(
    batches: Batches,
    scores: np.ndarray,
    label: np.ndarray,
    resamples: int,
    generator: np.random.Generator,
    protocol: str = "standard",
) -> dict[str, np.ndarray]:
    """All metrics of one category in every resample.

    Args:
        batches, scores, label, protocol: as of `decodiff.metrics.evaluate`.
        resamples: how many, R.
        generator: draws the images. Methods that are to be compared get generators of the same seed and images in the same
            order: then they are resampled alike.

    Returns:
        float64 ``[R]`` under the keys of `ALL_METRICS`; NaN where a metric is not defined. Image metrics are exact; pixel
        metrics differ from exact ones by the ties in bins, which the tests hold below 5e-4.
    """
    weights = resample_weights(label, resamples, generator)
    values = {name: np.full(resamples, np.nan) for name in ALL_METRICS}
    if label.any() and not label.all():
        values |= _image_values(scores, label, weights)
    counts = count_pixels(batches, _edges(batches), "right")
    if not counts.positives.any() or not counts.negatives.any():
        return values
    by_thresholds = None
    if PROTOCOLS[protocol].aupro != "exact":
        by_thresholds = count_pixels(batches, reference_thresholds(batches), "left")
    for start in range(0, resamples, CHUNK):
        part = slice(start, start + CHUNK)
        curve = _pixel_values(counts, weights[part])
        # a resample may hold no image with anomalous pixels inside the crop
        defined = curve.positives > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, function in PIXEL_FUNCTIONS.items():
                values[name][part] = np.where(defined, function(curve), np.nan)
            if by_thresholds is not None:
                curve = _pixel_values(by_thresholds, weights[part])
                overlap = np.cumsum(curve.overlap_steps, axis=-1) / curve.regions[:, None]
                # the last bin is not above any threshold
                area = reference_area(curve.false_positives[:, :-1], curve.negatives, overlap[:, :-1])
                values["pixel_aupro"][part] = np.where(defined, area, np.nan)
    return values


def interval(values: np.ndarray) -> tuple[float, float]:
    """The percentile interval of `CONFIDENCE` over resamples ``[R]``; NaN when a resample has no value."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)
