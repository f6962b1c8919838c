"""The seven metrics of the field from anomaly maps and masks, under a named protocol.

Pixels are sorted once; AUROC, AP, F1max and AUPRO all come from the cumulative counts along that order, at every distinct
score (ties are one threshold).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.measure import label as label_regions

METRICS = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "pixel_aupro")
PROTOCOLS = ("standard", "reference")
MAX_FPR = 0.3
REFERENCE_THRESHOLDS = 200


@dataclass(frozen=True)
class Curve:
    """Cumulative counts at every distinct score, from the highest to the lowest.

    Attributes:
        thresholds: distinct scores, descending, float ``[K]``.
        true_positives, false_positives: weight of the positives and negatives scored at or above it, float64 ``[K]``.
        overlap: mean over regions of the part found at or above it (PRO), float64 ``[K]``; None for image curves.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    overlap: np.ndarray | None = None

    @property
    def tpr(self) -> np.ndarray:
        return self.true_positives / self.true_positives[-1]

    @property
    def fpr(self) -> np.ndarray:
        return self.false_positives / self.false_positives[-1]

    @property
    def precision(self) -> np.ndarray:
        return self.true_positives / (self.true_positives + self.false_positives)


def region_weights(mask: np.ndarray) -> np.ndarray:
    """Per pixel, 1/(area of its region · number of regions); regions are 8-connected within one image.

    Args:
        mask: bool or {0, 1}, ``[N,H,W]``.

    Returns:
        float64 ``[N,H,W]``; sums to 1 unless no mask holds a region.
    """
    weights = np.zeros(mask.shape, dtype=np.float64)
    regions = 0
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        labels = label_regions(mask[index])
        areas = np.bincount(labels.ravel())
        regions += len(areas) - 1
        weights[index] = np.where(labels > 0, 1.0 / areas[labels], 0.0)
    return weights / max(regions, 1)


def curve(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> Curve:
    """Sort once and accumulate: see `Curve`. ``scores`` float ``[P]``, ``positive`` bool ``[P]``, ``weights`` float ``[P]``."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    true_positives = np.cumsum(positive[order], dtype=np.float64)[last]
    overlap = None if weights is None else np.cumsum(weights[order])[last]
    return Curve(ordered[last], true_positives, last + 1.0 - true_positives, overlap)


def auroc(curve: Curve) -> float:
    """Area under the ROC curve (trapezoids), as scikit-learn's ``roc_auc_score``."""
    return float(np.trapezoid(np.append(0.0, curve.tpr), np.append(0.0, curve.fpr)))


def average_precision(curve: Curve) -> float:
    """Average precision (steps), as scikit-learn's ``average_precision_score``."""
    return float(np.sum(np.diff(np.append(0.0, curve.tpr)) * curve.precision))


def f1max(curve: Curve) -> float:
    """Largest F1 over all thresholds; chosen with the labels at hand, so an oracle and not a threshold for use."""
    positives = curve.true_positives[-1]
    return float(np.max(2 * curve.true_positives / (curve.true_positives + curve.false_positives + positives)))


def aupro(curve: Curve, max_fpr: float = MAX_FPR) -> float:
    """Exact area under PRO(FPR) up to ``max_fpr``, the end point interpolated, divided by ``max_fpr``.

    Definition: Bergmann et al., IJCV 2021, over all thresholds instead of a sample of them.
    """
    fpr, overlap = np.append(0.0, curve.fpr), np.append(0.0, curve.overlap)
    inside = fpr < max_fpr
    fpr = np.append(fpr[inside], max_fpr)
    overlap = np.append(overlap[inside], np.interp(max_fpr, np.append(0.0, curve.fpr), np.append(0.0, curve.overlap)))
    return float(np.trapezoid(overlap, fpr) / max_fpr)


def aupro_reference(curve: Curve) -> float:
    """AUPRO as the authors' code computes it: 200 equidistant thresholds, FPR below 0.3 rescaled by its own maximum.

    Kept to reproduce published numbers (protocol ``reference``); it leaves out the curve's ends and depends on the scale of
    the scores. NaN when fewer than two of the thresholds keep the FPR below 0.3, or all of them give an FPR of 0.
    """
    low, high = curve.thresholds[-1], curve.thresholds[0]
    # in the scores' own precision, as there: float32 thresholds fall on other sides of float32 scores than float64 ones
    thresholds = np.arange(low, high, (high - low) / REFERENCE_THRESHOLDS) if high > low else np.array([low])
    # number of distinct scores strictly above each threshold; what is above it is called anomalous
    above = np.searchsorted(-curve.thresholds, -thresholds, side="left")
    fpr = np.append(0.0, curve.fpr)[above]
    overlap = np.append(0.0, curve.overlap)[above]
    keep = fpr < MAX_FPR
    if keep.sum() < 2 or fpr[keep].max() == 0:
        return float("nan")
    return float(abs(np.trapezoid(overlap[keep], fpr[keep] / fpr[keep].max())))


def evaluate(
    anomaly_map: np.ndarray, mask: np.ndarray, protocol: str = "standard", label: np.ndarray | None = None
) -> dict[str, float]:
    """All seven metrics of one category.

    Args:
        anomaly_map: float ``[N,H,W]``, higher is more anomalous.
        mask: ``[N,H,W]`` in {0, 1} or bool, 1 on anomalous pixels.
        protocol: ``standard`` (exact AUPRO) or ``reference`` (AUPRO as in the authors' code). Masks must have been resized
            under the same protocol.
        label: bool ``[N]``, whether an image is anomalous; by default whether its mask holds an anomalous pixel. Give it when
            a crop may have removed the only anomalous pixels.

    Returns:
        The keys of `METRICS`, each in [0, 1]; NaN where it is not defined (no anomalous or no normal image or pixel).

    Raises:
        ValueError: unknown protocol, shapes that differ, no image, NaN in a map, or a mask that is not binary.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    anomaly_map, mask = np.asarray(anomaly_map), np.asarray(mask)
    if anomaly_map.ndim != 3 or anomaly_map.shape != mask.shape:
        raise ValueError(f"maps {anomaly_map.shape} and masks {mask.shape} must be [N,H,W] of the same shape")
    if len(anomaly_map) == 0:
        raise ValueError("no image to evaluate: the test set is empty")
    if not np.isfinite(anomaly_map).all():
        index = int(np.flatnonzero(~np.isfinite(anomaly_map).all(axis=(1, 2)))[0])
        raise ValueError(f"anomaly map {index} holds NaN or infinity")
    if mask.dtype != bool and not np.isin(np.unique(mask), (0, 1)).all():
        raise ValueError("a mask must hold 0 and 1 only")
    mask = mask.astype(bool)
    label = mask.any(axis=(1, 2)) if label is None else np.asarray(label, dtype=bool)

    result = dict.fromkeys(METRICS, float("nan"))
    if label.any() and not label.all():
        images = curve(anomaly_map.reshape(len(anomaly_map), -1).max(axis=1), label)
        result |= {"image_auroc": auroc(images), "image_ap": average_precision(images), "image_f1max": f1max(images)}
    if mask.any() and not mask.all():
        pixels = curve(anomaly_map.ravel(), mask.ravel(), region_weights(mask).ravel())
        result |= {"pixel_auroc": auroc(pixels), "pixel_ap": average_precision(pixels), "pixel_f1max": f1max(pixels)}
        result["pixel_aupro"] = aupro(pixels) if protocol == "standard" else aupro_reference(pixels)
    return result
