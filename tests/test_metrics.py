"""The metrics against scikit-learn and against slow, obvious implementations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from decodiff import metrics
from decodiff.metrics import ALL_METRICS, InBatches, aupro, evaluate, evaluate_batches, image_curve, image_scores, pixel_curves
from decodiff.protocols import PROTOCOLS


def regions(mask):
    return [(index, region.coords) for index, image in enumerate(mask) for region in regionprops(label(image))]


def overlap_curve(anomaly_map, mask, called):
    """FPR and PRO of every binarisation, with a loop over regions each time."""
    points = []
    for binary in called:
        found = [binary[index][tuple(coords.T)].mean() for index, coords in regions(mask)]
        points.append((binary[~mask].mean(), np.mean(found)))
    return np.array(points)


def slow_aupro(anomaly_map, mask, limit=0.3):
    thresholds = np.unique(anomaly_map)[::-1]
    points = overlap_curve(anomaly_map, mask, [anomaly_map >= t for t in thresholds])
    fpr, pro = np.append(0, points[:, 0]), np.append(0, points[:, 1])
    keep = fpr < limit
    # where the curve rises exactly at the limit, the foot of that rise ends the area
    end = pro[np.argmax(fpr == limit)] if (fpr == limit).any() else np.interp(limit, fpr, pro)
    return auc(np.append(fpr[keep], limit), np.append(pro[keep], end)) / limit


def slow_ioumax(anomaly_map, mask):
    called = [anomaly_map >= threshold for threshold in np.unique(anomaly_map)]
    return max((binary & mask).sum() / (binary | mask).sum() for binary in called)


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
    """Small maps and masks, with few distinct values (or one) so that ties are common; at times one class alone."""
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    count, side = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    anomaly_map = (random.integers(0, levels, (count, side, side)) / levels).astype(np.float32)
    share = draw(st.sampled_from(["none", "one pixel", 0.05, 0.3, 0.9, "all"]))
    mask = np.full(anomaly_map.shape, share == "all")
    if share == "one pixel":
        mask[tuple(random.integers(0, mask.shape))] = True
    elif isinstance(share, float):
        mask = random.random(mask.shape) < share
        mask[0] = False
    return anomaly_map, mask


@settings(deadline=None, max_examples=200)
@given(cases(), st.sampled_from([1, 2**21]))
def test_against_scikit_learn_and_the_slow_way(case, pixels):
    anomaly_map, mask = case
    batches = InBatches(anomaly_map, mask, pixels)
    labels, scores = mask.any(axis=(1, 2)), anomaly_map.max(axis=(1, 2))
    measured = evaluate_batches(batches, image_scores(batches), labels)
    pixels, values = mask.ravel(), anomaly_map.ravel()
    expected = dict.fromkeys(ALL_METRICS, math.nan)
    if labels.any() and not labels.all():
        expected |= {
            "image_auroc": roc_auc_score(labels, scores),
            "image_ap": average_precision_score(labels, scores),
            "image_f1max": slow_f1max(labels, scores),
        }
    if pixels.any() and not pixels.all():
        expected |= {
            "pixel_auroc": roc_auc_score(pixels, values),
            "pixel_ap": average_precision_score(pixels, values),
            "pixel_f1max": slow_f1max(pixels, values),
            "pixel_aupro": slow_aupro(anomaly_map, mask),
            "pixel_aupro_05": slow_aupro(anomaly_map, mask, 0.05),
            "pixel_ioumax": slow_ioumax(anomaly_map, mask),
        }
    assert measured == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert evaluate(anomaly_map, mask) == pytest.approx(expected, abs=1e-9, nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(cases(), st.data(), st.sampled_from(list(PROTOCOLS)), st.integers(1, 3))
def test_two_arrays_give_what_their_batches_give_in_any_order_and_form(case, data, protocol, top_pixels):
    anomaly_map, mask = case
    assume(anomaly_map[0].size >= top_pixels)
    label = np.array(data.draw(st.lists(st.booleans(), min_size=len(mask), max_size=len(mask))))
    batches = InBatches(anomaly_map, mask)
    expected = evaluate_batches(batches, image_scores(batches, top_pixels), label, protocol)
    same = pytest.approx(expected, abs=0, nan_ok=True)
    options = {"protocol": protocol, "top_pixels": top_pixels}
    assert evaluate(anomaly_map, mask, label=label, **options) == same
    tensors = torch.from_numpy(anomaly_map), torch.from_numpy(mask).to(torch.uint8)
    assert evaluate(*tensors, label=torch.from_numpy(label), **options) == same
    assert evaluate(anomaly_map.tolist(), mask.tolist(), label=label.astype(int).tolist(), **options) == pytest.approx(
        # thresholds of double precision
        evaluate(anomaly_map.astype(np.float64), mask, label=label, **options),
        abs=0,
        nan_ok=True,
    )
    order = data.draw(st.permutations(range(len(mask))))
    mixed = evaluate(anomaly_map[order], mask[order], label=label[order], **options)
    # regions' parts are summed up in another order
    assert mixed == pytest.approx(expected, abs=1e-12, nan_ok=True)
    alone = [evaluate(anomaly_map[part], mask[part], **options) for part in (0, slice(0, 1))]
    assert alone[0] == pytest.approx(alone[1], abs=0, nan_ok=True)


def test_maps_of_integers_are_numbers_too():
    random = np.random.default_rng(5)
    mask = random.random((4, 12, 12)) < 0.2
    # their range is more than the type holds
    anomaly_map = random.integers(-128, 128, mask.shape).astype(np.int8)
    for protocol in PROTOCOLS:
        expected = evaluate(anomaly_map.astype(np.float64), mask, protocol=protocol)
        assert evaluate(anomaly_map, mask, protocol=protocol) == pytest.approx(expected, abs=0, nan_ok=True)


@settings(deadline=None, max_examples=40)
@given(cases(), st.integers(1, 40))
def test_a_curve_in_pieces_gives_the_same(case, at_once):
    anomaly_map, mask = case
    assume(mask.any() and not mask.all())
    batches = InBatches(anomaly_map, mask, 100)
    (whole,) = pixel_curves(batches)
    pieces = list(pixel_curves(batches, at_once))
    assert len(pieces) > 1 or mask.sum() <= at_once or len(whole.thresholds) < 3
    for field in ("thresholds", "true_positives", "false_positives", "above"):
        np.testing.assert_array_equal(np.concatenate([getattr(piece, field) for piece in pieces]), getattr(whole, field))
    for name, function in metrics.PIXEL_FUNCTIONS.items():
        values = [float(function(piece)) for piece in pieces]
        joined = max(values) if function in metrics.LARGEST else sum(values)
        assert joined == pytest.approx(float(function(whole)), abs=1e-12), name


def test_image_scores_are_the_mean_of_the_highest_pixels():
    anomaly_map = np.random.default_rng(3).random((7, 6, 5)).astype(np.float32)
    batches = InBatches(anomaly_map, np.zeros(anomaly_map.shape, bool), 70)
    highest = np.sort(anomaly_map.reshape(7, -1), axis=1)[:, ::-1].astype(np.float64)
    np.testing.assert_array_equal(image_scores(batches), highest[:, 0])
    np.testing.assert_allclose(image_scores(batches, 4), highest[:, :4].mean(axis=1), rtol=1e-12)
    for wrong in (0, 31):
        with pytest.raises(ValueError, match=f"{wrong} pixels from maps of 30"):
            image_scores(batches, wrong)


def test_reference_aupro_is_the_authors_way():
    random = np.random.default_rng(1)
    mask = np.zeros((6, 24, 24), dtype=bool)
    mask[:4, 5:9, 3:8] = True
    mask[2, 15:20, 15:17] = True
    anomaly_map = (random.random(mask.shape) + 0.7 * mask).astype(np.float32)
    assert evaluate(anomaly_map, mask, protocol="reference")["pixel_aupro"] == pytest.approx(
        slow_aupro_reference(anomaly_map, mask), abs=1e-12
    )
    assert evaluate(anomaly_map, mask)["pixel_aupro"] != pytest.approx(slow_aupro_reference(anomaly_map, mask), abs=1e-3)


def test_perfect_and_constant_maps():
    mask = np.zeros((3, 8, 8), dtype=bool)
    mask[0, 2:4, 2:4] = True
    assert evaluate(mask.astype(np.float32), mask) == pytest.approx(dict.fromkeys(ALL_METRICS, 1.0))
    constant = evaluate(np.full(mask.shape, 0.5), mask)
    assert constant["image_auroc"] == constant["pixel_auroc"] == 0.5
    # the diagonal up to an FPR of 0.3 and of 0.05
    assert constant["pixel_aupro"] == pytest.approx(0.15) and constant["pixel_aupro_05"] == pytest.approx(0.025)
    assert constant["pixel_ioumax"] == pytest.approx(4 / 192)


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
    assert all(math.isnan(measured[name]) for name in ALL_METRICS)


MAPS, MASKS = np.zeros((2, 4, 4)), np.zeros((2, 4, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    ("anomaly_map", "mask", "options", "message"),
    [
        (MAPS, np.zeros((2, 4, 5)), {}, r"maps \(2, 4, 4\) and masks \(2, 4, 5\) must be"),
        (MAPS, np.zeros((3, 4, 4)), {}, r"maps \(2, 4, 4\) and masks \(3, 4, 4\) must be"),
        (MAPS[0], MASKS, {}, r"maps \(4, 4\) and masks \(2, 4, 4\) must be"),
        (MAPS[:, None], MASKS[:, None], {}, r"maps \(2, 1, 4, 4\)"),
        (0.5, 1, {}, r"maps \(\)"),
        (MAPS[:0], MASKS[:0], {}, "no image"),
        (MAPS[:, :0], MASKS[:, :0], {}, "1 pixels from maps of 0"),
        (np.full((2, 4, 4), np.nan), MASKS, {}, "anomaly map 0 holds NaN"),
        (np.stack([MAPS[0], MAPS[1] - np.inf]), MASKS, {}, "anomaly map 1 holds NaN or infinity"),
        (MAPS + 1j, MASKS, {}, "maps of complex128"),
        (MAPS.astype(str), MASKS, {}, "maps of <U"),
        (MAPS, MASKS.astype(object), {}, "masks of object"),
        (MAPS, np.full((2, 4, 4), 255), {}, "0 and 1 only"),
        (MAPS, np.full((2, 4, 4), np.nan), {}, "0 and 1 only"),
        (MAPS, MASKS, {"label": [True]}, r"labels of shape \(1,\) for 2 images"),
        (MAPS, MASKS, {"label": [0, 2]}, "give 0 or 1 for each"),
        (MAPS, MASKS, {"label": ["good", "bent"]}, "give 0 or 1 for each"),
        (MAPS, MASKS, {"protocol": "mine"}, "no protocol 'mine'; choose one of standard, reference"),
        (MAPS, MASKS, {"top_pixels": 17}, "17 pixels from maps of 16"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(anomaly_map, mask, options, message):
    with pytest.raises(ValueError, match=message) as refused:
        evaluate(anomaly_map, mask, **options)
    assert "\n" not in str(refused.value)


def test_image_scores_have_no_aupro():
    with pytest.raises(ValueError, match="image scores has no regions"):
        aupro(image_curve(np.array([0.1, 0.9]), np.array([False, True])))
