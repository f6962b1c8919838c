"""Resamples against metrics computed anew on the images they drew, and the threshold against many draws."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from decodiff import bootstrap
from decodiff.bootstrap import interval, resample_weights, resampled
from decodiff.metrics import ALL_METRICS, InBatches, evaluate, image_scores
from decodiff.threshold import choose_threshold


def category(contrast, images=24, side=96, seed=0):
    """Maps of smooth noise, brighter by ``contrast`` on the anomalous areas of two thirds of the images."""
    random = np.random.default_rng(seed)
    mask = np.zeros((images, side, side), dtype=bool)
    for index in range(2 * images // 3):
        for _ in range(2):
            (top, left), (height, width) = random.integers(0, side - 20, 2), random.integers(2, 20, 2)
            mask[index, top : top + height, left : left + width] = True
    noise = np.stack([gaussian_filter(random.random((side, side)), 2) for _ in range(images)])
    return (noise + contrast * gaussian_filter(mask.astype(float), (0, 1, 1))).astype(np.float32), mask


@pytest.mark.parametrize("protocol", ["standard", "reference"])
@pytest.mark.parametrize("contrast", [0.02, 0.15, 1.0])
def test_a_resample_has_the_metrics_of_the_images_it_drew(contrast, protocol):
    anomaly_map, mask = category(contrast)
    batches, labels = InBatches(anomaly_map, mask), mask.any(axis=(1, 2))
    scores = image_scores(batches)
    fast = resampled(batches, scores, labels, 4, np.random.default_rng(1), protocol)
    weights = resample_weights(labels, 4, np.random.default_rng(1))
    for index, drawn in enumerate(weights):
        images = np.repeat(np.arange(len(mask)), drawn)
        exact = evaluate(anomaly_map[images], mask[images], protocol=protocol)
        if protocol == "reference":
            # its thresholds span the scores of all images, not of those drawn
            exact.pop("pixel_aupro")
        for name, value in exact.items():
            assert fast[name][index] == pytest.approx(value, abs=5e-4), name


def test_the_reference_aupro_of_all_images_once_is_the_one_measured():
    anomaly_map, mask = category(0.15)
    batches, labels = InBatches(anomaly_map, mask), mask.any(axis=(1, 2))
    scores = image_scores(batches)

    class Once:
        """Draws every image once."""

        def multinomial(self, count, _, resamples):
            return np.ones((resamples, count), dtype=np.int64)

    fast = resampled(batches, scores, labels, 2, Once(), "reference")
    exact = evaluate(anomaly_map, mask, protocol="reference")
    assert fast["pixel_aupro"] == pytest.approx(exact["pixel_aupro"], abs=1e-12)


@pytest.mark.parametrize("protocol", ["standard", "reference"])
def test_images_counted_a_few_at_a_time_give_the_same(monkeypatch, protocol):
    anomaly_map, mask = category(0.15)
    batches, labels = InBatches(anomaly_map, mask), mask.any(axis=(1, 2))

    def drawn():
        return resampled(batches, image_scores(batches), labels, 130, np.random.default_rng(1), protocol)

    together = drawn()
    monkeypatch.setattr(bootstrap, "IMAGES_AT_ONCE", 5)
    for name, values in drawn().items():
        np.testing.assert_allclose(values, together[name], rtol=1e-12, err_msg=name)


def test_memory_grows_with_images_by_little_more_than_their_weights(monkeypatch):
    monkeypatch.setattr(bootstrap, "IMAGES_AT_ONCE", 50)
    resamples, peaks = 100, []
    for count in (300, 1300):
        random = np.random.default_rng(0)
        # small maps, so that counts by bins are far larger; enough anomalous pixels for all bins from the first
        maps, masks = random.random((count, 8, 8), dtype=np.float32), np.zeros((count, 8, 8), bool)
        masks[::2, 2:6, 2:6] = True
        batches, labels = InBatches(maps, masks), masks.any(axis=(1, 2))
        tracemalloc.start()
        resampled(batches, image_scores(batches), labels, resamples, np.random.default_rng(1))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # two bytes a weight, and some float64 copies of the weights of a hundred resamples; counts would take 16 KiB an image
    assert (peaks[1] - peaks[0]) / 1000 < 8 * 8 * resamples


def test_normal_and_anomalous_images_are_drawn_apart_and_alike_for_two_methods():
    labels = np.array([True] * 5 + [False] * 3)
    weights = resample_weights(labels, 200, np.random.default_rng(2))
    assert (weights[:, labels].sum(axis=1) == 5).all() and (weights[:, ~labels].sum(axis=1) == 3).all()
    assert len(np.unique(weights, axis=0)) > 100
    np.testing.assert_array_equal(weights, resample_weights(labels, 200, np.random.default_rng(2)))


def test_intervals_hold_the_true_value_about_as_often_as_they_say():
    random = np.random.default_rng(4)
    # two normal distributions a standard deviation apart: AUROC = Φ(1/√2)
    truth, hits, empty = 0.5 * (1 + math.erf(0.5)), 0, InBatches(np.zeros((80, 1, 1)), np.zeros((80, 1, 1), bool))
    labels = np.arange(80) < 40
    for repeat in range(200):
        scores = random.normal(labels.astype(float), 1)
        low, high = interval(resampled(empty, scores, labels, 300, np.random.default_rng(repeat))["image_auroc"])
        hits += low <= truth <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_what_is_not_defined_has_no_interval():
    anomaly_map, mask = category(0.1, images=6, side=24)
    nothing = np.zeros_like(mask)
    values = resampled(InBatches(anomaly_map, nothing), np.arange(6.0), np.zeros(6, bool), 20, np.random.default_rng(0))
    assert all(np.isnan(values[name]).all() for name in ALL_METRICS)


@pytest.mark.parametrize(
    ("held_out", "rate", "rank"), [(19, 0.05, 1), (39, 0.05, 2), (99, 0.1, 10), (10, 0.05, 1), (3, 0.99, 3)]
)
def test_the_threshold_is_passed_as_often_as_it_says(held_out, rate, rank):
    random = np.random.default_rng(5)
    passed = []
    for _ in range(4000):
        scores = random.gamma(2, size=held_out + 1)
        threshold, expected = choose_threshold(scores[:-1], rate)
        assert expected == rank / (held_out + 1)
        assert (scores[:-1] > threshold).sum() == rank - 1
        passed.append(scores[-1] > threshold)
    assert np.mean(passed) == pytest.approx(expected, abs=0.02)


def test_without_held_out_images_there_is_no_threshold():
    assert all(math.isnan(value) for value in choose_threshold(np.empty(0), 0.05))
