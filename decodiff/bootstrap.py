"""How sure a metric is: bootstrap over the images of a category, for one method and for the difference between two.

A resample draws as many normal and as many anomalous images as there are, with replacement (Efron and Tibshirani, 1993,
percentile intervals, stratified by label). Images are not gone through again for each: their pixels are counted once in
`BINS` bins of scores, and a resample is a weighted sum of these counts. Scores within a bin count as ties.

Counts are summed up for `IMAGES_AT_ONCE` images at a time, so that memory does not grow with their number; only the weights
do, one or two bytes for each image and resample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from decodiff.metrics import (
    ALL_METRICS,
    IMAGE_FUNCTIONS,
    PIXEL_FUNCTIONS,
    Batches,
    Curve,
    Side,
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
# images whose counts are in memory at a time
IMAGES_AT_ONCE = 1024
SAMPLED_PIXELS = 2**20


@dataclass(frozen=True)
class Counts:
    """Pixels of each of some images by bins of scores, the highest first, all float64.

    Attributes:
        images: which of the category's images they are.
        anomalous: positions among them of the images that have anomalous pixels, int ``[A]``.
        positives, overlap: of those, anomalous pixels, and their shares of regions, ``[A,B]``.
        regions: of those, their number ``[A]``.
        negatives: normal pixels of all of them ``[n,B]``.
    """

    images: slice
    anomalous: np.ndarray
    positives: np.ndarray
    overlap: np.ndarray
    regions: np.ndarray
    negatives: np.ndarray


def _edges(batches: Batches, positives: int, negatives: int) -> np.ndarray:
    """Scores that cut the anomalous pixels, and likewise the normal ones, into bins of about equal numbers, ascending."""
    every = [max(1, -(-count // SAMPLED_PIXELS)) for count in (negatives, positives)]
    samples: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for maps, masks in batches:
        masks = masks.astype(bool, copy=False)
        for label, chosen in enumerate((~masks, masks)):
            samples[label].append(maps[chosen][:: every[label]])
    # normal pixels matter where few are above, so their bins narrow geometrically towards the top
    tail = np.geomspace(1, 1e-6, BINS // 2 - 1)
    parts = [(samples[0], 1 - tail), (samples[1], np.linspace(0, 1, BINS // 2))]
    cuts = [np.quantile(np.concatenate(sample), at, method="nearest") for sample, at in parts if sum(map(len, sample))]
    return np.unique(np.concatenate(cuts))


def _image_counts(anomaly_map: np.ndarray, mask: np.ndarray, edges: np.ndarray, side: Side) -> tuple[Any, ...]:
    """Normal pixels of an image by bins; if it has anomalous ones, also those, their shares of regions, and its regions."""
    bins = len(edges) + 1
    passed = np.searchsorted(edges, anomaly_map.ravel(), side=side)
    every = np.bincount(passed, minlength=bins)[::-1]
    if not mask.any():
        return (every.astype(np.int32),)
    found = passed[mask.ravel()]
    shares, regions = region_shares(mask)
    positives = np.bincount(found, minlength=bins)[::-1]
    return (every - positives).astype(np.int32), positives, np.bincount(found, shares, bins)[::-1], regions


def count_pixels(batches: Batches, edges: np.ndarray, side: Side) -> Iterator[Counts]:
    """Count each image's pixels between ascending ``edges``, some images at a time; ``side`` as of ``numpy.searchsorted``."""
    counted = (
        _image_counts(anomaly_map, mask, edges, side)
        for maps, masks in batches
        for anomaly_map, mask in zip(maps, masks.astype(bool, copy=False))
    )
    start = 0
    while block := list(islice(counted, IMAGES_AT_ONCE)):
        anomalous = [position for position, counts in enumerate(block) if len(counts) > 1]
        positives, overlap = (
            np.array([block[position][column] for position in anomalous], np.float64).reshape(-1, len(edges) + 1)
            for column in (1, 2)
        )
        regions = np.array([block[position][3] for position in anomalous], np.float64)
        negatives = np.array([counts[0] for counts in block], np.float64)
        yield Counts(slice(start, start + len(block)), np.array(anomalous, int), positives, overlap, regions, negatives)
        start += len(block)


def resample_weights(label: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each image is drawn in each resample; normal and anomalous images are drawn apart.

    Unsigned ``[R,N]``, of the narrowest type that holds N.
    """
    weights = np.zeros((resamples, len(label)), dtype=np.min_scalar_type(len(label)))
    for value in (False, True):
        images = np.flatnonzero(label == value)
        if len(images):
            even = np.full(len(images), 1 / len(images))
            for start in range(0, resamples, CHUNK):
                part = weights[start : start + CHUNK]
                part[:, images] = generator.multinomial(len(images), even, len(part))
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


def _weighted_counts(batches: Batches, edges: np.ndarray, side: Side, weights: np.ndarray) -> list[np.ndarray]:
    """Sums over the images of each resample: anomalous pixels, normal ones, shares of regions ``[R,B]``; regions ``[R]``."""
    positives, negatives, overlap = (np.zeros((len(weights), len(edges) + 1)) for _ in range(3))
    regions = np.zeros(len(weights))
    parts = [slice(start, start + CHUNK) for start in range(0, len(weights), CHUNK)]
    for counts in count_pixels(batches, edges, side):
        for part in parts:
            drawn = weights[part, counts.images].astype(np.float64)
            anomalous = drawn[:, counts.anomalous]
            positives[part] += anomalous @ counts.positives
            negatives[part] += drawn @ counts.negatives
            overlap[part] += anomalous @ counts.overlap
            regions[part] += anomalous @ counts.regions
    return [positives, negatives, overlap, regions]


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
        batches, scores, label, protocol: as of `decodiff.metrics.evaluate_batches`.
        resamples: how many, R.
        generator: draws the images. Methods that are to be compared get generators of the same seed and images in the same
            order: then they are resampled alike.

    Returns:
        float64 ``[R]`` under the keys of `ALL_METRICS`; NaN where a metric is not defined. Image metrics are exact; pixel
        metrics differ from exact ones by the ties in bins, which the tests hold below 5e-4.
    """
    weights = resample_weights(label, resamples, generator)
    values = {name: np.full(resamples, np.nan) for name in ALL_METRICS}
    parts = [slice(start, start + CHUNK) for start in range(0, resamples, CHUNK)]
    if label.any() and not label.all():
        for part in parts:
            for name, drawn in _image_values(scores, label, weights[part]).items():
                values[name][part] = drawn
    positives, negatives = count_labels(batches)
    if not positives or not negatives:
        return values
    sums = _weighted_counts(batches, _edges(batches, positives, negatives), "right", weights)
    by_thresholds = None
    if PROTOCOLS[protocol].aupro != "exact":
        by_thresholds = _weighted_counts(batches, reference_thresholds(batches), "left", weights)
    for part in parts:
        curve = _curve(*(each[part] for each in sums))
        # a resample may hold no image with anomalous pixels inside the crop
        defined = curve.positives > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, function in PIXEL_FUNCTIONS.items():
                values[name][part] = np.where(defined, function(curve), np.nan)
            if by_thresholds is not None:
                above, wrong, shares, regions = (each[part] for each in by_thresholds)
                curve = _curve(above, wrong, shares, regions)
                overlap = np.cumsum(shares, axis=-1) / regions[:, None]
                # the last bin is not above any threshold
                area = reference_area(curve.false_positives[:, :-1], curve.negatives, overlap[:, :-1])
                values["pixel_aupro"][part] = np.where(defined, area, np.nan)
    return values


def interval(values: np.ndarray) -> tuple[float, float]:
    """The percentile interval of `CONFIDENCE` over resamples ``[R]``; NaN when a resample has no value."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)
