"""Curves on even grids against every threshold tried by hand."""

import numpy as np
import pytest
from skimage.measure import label

from decodiff.data.maps import MappedImage, Maps
from decodiff.files import read_csv
from decodiff.stages.curves import OVERLAP_FILE, PRECISION_FILE, write_curves


def made(count=6, side=12, seed=0):
    """Maps of few distinct values, so that there are ties, and masks of some squares."""
    random = np.random.default_rng(seed)
    maps = random.integers(0, 30, (count, side, side)) / 30
    masks = np.zeros((count, side, side), dtype=bool)
    for index in range(0, count, 2):
        masks[index, 1:4, 2:6] = masks[index, 7:9, 7:10] = True
    return maps + 0.3 * masks, masks


def mapped(maps, masks, categories, splits):
    images = [
        MappedImage(f"{index}.png", category, split, "bent" if mask.any() else "good", int(mask.any()), True)
        for index, (category, split, mask) in enumerate(zip(categories, splits, masks))
    ]
    return Maps(images, "maps", maps[0].size, lambda part: maps[part], lambda part: masks[part])


def test_every_point_is_that_of_the_thresholds(tmp_path):
    maps, masks = made()
    write_curves(mapped(maps, masks, ["bolt"] * 6, ["test"] * 6), tmp_path)
    thresholds = np.unique(maps)[::-1]
    recalls = np.array([(masks & (maps >= value)).sum() / masks.sum() for value in thresholds])
    precisions = np.array([(masks & (maps >= value)).sum() / (maps >= value).sum() for value in thresholds])
    rows = read_csv(tmp_path / PRECISION_FILE, ("recall", "mean", "bolt"))
    assert len(rows) == 501 and float(rows[0]["recall"]) == 0 and float(rows[-1]["recall"]) == 1
    for row in rows[1:]:
        reached = np.flatnonzero(recalls >= float(row["recall"]) - 1e-6)[0]
        assert float(row["bolt"]) == pytest.approx(precisions[reached], abs=1e-5)
    regions = [label(mask) == number for mask in masks for number in range(1, label(mask).max() + 1)]
    owners = [image for image, mask in zip(maps, masks) for _ in range(label(mask).max())]
    rates = np.array([0.0] + [((maps >= value) & ~masks).sum() / (~masks).sum() for value in thresholds])
    overlaps = np.array(
        [0.0] + [np.mean([(image >= value)[region].mean() for image, region in zip(owners, regions)]) for value in thresholds]
    )
    for row in read_csv(tmp_path / OVERLAP_FILE, ("false_positive_rate", "mean", "bolt")):
        rate, overlap = float(row["false_positive_rate"]), float(row["bolt"])
        below, above = np.flatnonzero(rates <= rate + 1e-9)[-1], np.flatnonzero(rates >= rate - 1e-9)[0]
        assert overlaps[: below + 1].min() - 1e-6 <= overlap <= overlaps[above:].max() + 1e-6
        if np.isclose(rates, rate).sum() == 1:
            assert overlap == pytest.approx(overlaps[np.isclose(rates, rate)][0], abs=1e-5)


def test_held_out_images_do_not_count_and_categories_without_anomalous_pixels_are_left_out(tmp_path):
    maps, masks = made()
    categories, splits = ["bolt", "bolt", "nut", "nut", "pin", "pin"], ["test", "test", "test", "test", "test", "test"]
    masks[4] = False
    write_curves(mapped(maps, masks, categories, splits), tmp_path / "all")
    rows = read_csv(tmp_path / "all" / PRECISION_FILE, ("recall", "mean", "bolt", "nut"))
    assert "pin" not in rows[0]
    assert float(rows[200]["mean"]) == pytest.approx((float(rows[200]["bolt"]) + float(rows[200]["nut"])) / 2, abs=1e-5)
    more_maps, more_masks = np.concatenate([maps, maps[:1] * 9]), np.concatenate([masks, ~masks[:1]])
    write_curves(mapped(more_maps, more_masks, [*categories, "bolt"], [*splits, "validation"]), tmp_path / "more")
    for file in (PRECISION_FILE, OVERLAP_FILE):
        assert (tmp_path / "all" / file).read_bytes() == (tmp_path / "more" / file).read_bytes()


def test_without_any_mask_there_are_no_rows(tmp_path):
    maps, masks = made(2)
    write_curves(mapped(maps, np.zeros_like(masks), ["bolt"] * 2, ["test"] * 2), tmp_path)
    assert (tmp_path / PRECISION_FILE).read_text() == "recall,mean\n"
