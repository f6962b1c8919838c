"""The metrics against scikit-learn and against slow, obvious implementations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from decodiff.metrics import METRICS, evaluate


def regions(mask):
    return [(index, region.coords) for index, image in enumerate(mask) for region in regionprops(label(image))]


def overlap_curve(anomaly_map, mask, called):
    """FPR and PRO of every binarisation, with a loop over regions each time."""
    points = []
    for binary in called:
        found = [binary[index][tuple(coords.T)].mean() for index, coords in regions(mask)]
        points.append((binary[~mask].mean(), np.mean(found)))
    return np.array(points)


def slow_aupro(anomaly_map, mask):
    thresholds = np.unique(anomaly_map)[::-1]
    points = overlap_curve(anomaly_map, mask, [anomaly_map >= t for t in thresholds])
    fpr, pro = np.append(0, points[:, 0]), np.append(0, points[:, 1])
    # a dense grid integrates the piecewise linear curve almost exactly, vertical pieces included
    keep = fpr < 0.3
    end = np.interp(0.3, fpr, pro)
    return auc(np.append(fpr[keep], 0.3), np.append(pro[keep], end)) / 0.3


def slow_aupro_reference(anomaly_map, mask):
    low, high = anomaly_map.min(), anomaly_map.max()
    thresholds = np.arange(low, high, (high - low) / 200)
    points = overlap_curve(anomaly_map, mask, [anomaly_map > t for t in thresholds])
    points = points[points[:, 0] < 0.3]
    return auc(points[:, 0] / points[:, 0].max(), points[:, 1])


def slow_f1max(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))


@st.composite
def cases(draw):
    """Small maps and masks, with few distinct values so that ties are common."""
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    count, side = draw(st.integers(2, 5)), draw(st.integers(2, 12))
    levels = draw(st.sampled_from([2, 5, 1000]))
    anomaly_map = (random.integers(0, levels, (count, side, side)) / levels).astype(np.float32)
    mask = random.random((count, side, side)) < draw(st.sampled_from([0.05, 0.3, 0.9]))
    mask[0] = False
    mask[1, 0, 0] = True
    return anomaly_map, mask


@settings(deadline=None, max_examples=80)
@given(cases())
def test_against_scikit_learn_and_the_slow_way(case):
    anomaly_map, mask = case
    measured = evaluate(anomaly_map, mask)
    labels, scores = mask.any(axis=(1, 2)), anomaly_map.max(axis=(1, 2))
    pixels, values = mask.ravel(), anomaly_map.ravel()
    expected = {
        "image_auroc": roc_auc_score(labels, scores),
        "image_ap": average_precision_score(labels, scores),
        "image_f1max": slow_f1max(labels, scores),
        "pixel_auroc": roc_auc_score(pixels, values),
        "pixel_ap": average_precision_score(pixels, values),
        "pixel_f1max": slow_f1max(pixels, values),
        "pixel_aupro": slow_aupro(anomaly_map, mask),
    }
    assert measured == pytest.approx(expected, abs=1e-9)


def test_reference_aupro_is_the_authors_way():
    random = np.random.default_rng(1)
    mask = np.zeros((6, 24, 24), dtype=bool)
    mask[:4, 5:9, 3:8] = True
    mask[2, 15:20, 15:17] = True
    anomaly_map = (random.random(mask.shape) + 0.7 * mask).astype(np.float32)
    assert evaluate(anomaly_map, mask, "reference")["pixel_aupro"] == pytest.approx(
        slow_aupro_reference(anomaly_map, mask), abs=1e-12
    )
    assert evaluate(anomaly_map, mask)["pixel_aupro"] != pytest.approx(slow_aupro_reference(anomaly_map, mask), abs=1e-3)


def test_perfect_and_constant_maps():
    mask = np.zeros((3, 8, 8), dtype=bool)
    mask[0, 2:4, 2:4] = True
    assert evaluate(mask.astype(np.float32), mask) == pytest.approx(dict.fromkeys(METRICS, 1.0))
    constant = evaluate(np.full(mask.shape, 0.5), mask)
    assert constant["image_auroc"] == constant["pixel_auroc"] == 0.5
    assert constant["pixel_aupro"] == pytest.approx(0.15)  # the diagonal up to an FPR of 0.3


def test_diagonal_neighbours_are_one_region():
    mask = np.zeros((2, 4, 4), dtype=bool)
    mask[0, 0, 0] = mask[0, 1, 1] = True
    anomaly_map = np.zeros(mask.shape)
    anomaly_map[0, 0, 0] = 1.0
    # half of the only region is found without a false alarm; two regions of one pixel would give the same overlap, so the
    # second image adds a lone region that is missed: 1/2 of one and none of the other
    mask[1, 3, 3] = True
    found = evaluate(anomaly_map, mask)["pixel_aupro"]
    fpr = np.array([0, 0.3])
    overlap = np.array([0.25, 0.25 + 0.75 * 0.3])
    assert found == pytest.approx(np.trapezoid(overlap, fpr) / 0.3)


def test_the_label_counts_even_when_the_crop_has_no_anomalous_pixel():
    mask = np.zeros((3, 4, 4), dtype=bool)
    mask[0, 0, 0] = True
    anomaly_map = np.zeros(mask.shape)
    anomaly_map[:, 0, 0] = 0.9, 0.1, 0.5
    assert evaluate(anomaly_map, mask)["image_auroc"] == 1.0
    assert evaluate(anomaly_map, mask, label=np.array([True, True, False]))["image_auroc"] == 0.5


@pytest.mark.parametrize("value", [False, True])
def test_one_class_alone_has_no_metric(value):
    measured = evaluate(np.random.default_rng(0).random((3, 4, 4)), np.full((3, 4, 4), value))
    assert all(math.isnan(measured[name]) for name in METRICS)


@pytest.mark.parametrize(
    ("anomaly_map", "mask", "protocol", "message"),
    [
        (np.zeros((2, 4, 4)), np.zeros((2, 4, 5)), "standard", r"\(2, 4, 4\) and masks \(2, 4, 5\)"),
        (np.zeros((0, 4, 4)), np.zeros((0, 4, 4)), "standard", "empty"),
        (np.full((2, 4, 4), np.nan), np.zeros((2, 4, 4)), "standard", "anomaly map 0 holds NaN"),
        (np.zeros((2, 4, 4)), np.full((2, 4, 4), 255), "standard", "0 and 1 only"),
        (np.zeros((2, 4, 4)), np.zeros((2, 4, 4)), "generous", "unknown protocol 'generous'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(anomaly_map, mask, protocol, message):
    with pytest.raises(ValueError, match=message):
        evaluate(anomaly_map, mask, protocol)
