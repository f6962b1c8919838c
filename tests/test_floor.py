"""The method without a network: its mathematics against loops, and its maps on disk."""

import json

import numpy as np
import pytest
from test_evaluate import table

from decodiff.components import anomaly_map, fit, sampled_patches
from decodiff.config import FLOOR
from decodiff.data.maps import own_maps
from decodiff.data.rows import Row, read_positions, write_rows
from decodiff.errors import InputError
from decodiff.settings import Evaluation, Floor
from decodiff.stages import floor as stage
from decodiff.stages.evaluate import evaluate_maps


def images(count, seed=0, size=12, grey=False):
    """Noise on a ramp, uint8 ``[N,S,S,3]``."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(40, 160, size)[None, :, None, None]
    found = ramp + random.normal(0, 8, (count, size, size, 1)) + (0 if grey else random.normal(0, 5, (count, size, size, 3)))
    return np.broadcast_to(found, (count, size, size, 3)).round().astype(np.uint8)


def obvious_patches(picture, side):
    """Of one image, by the place of their upper left pixel; channels first, as the order within a vector is of no matter."""
    height, width = picture.shape[:2]
    return {
        (top, left): picture[top : top + side, left : left + side].transpose(2, 0, 1).ravel().astype(float)
        for top in range(height - side + 1)
        for left in range(width - side + 1)
    }


def obvious_map(picture, trained, side, share):
    """By the covariance of all patches, its eigenvectors, and loops over patches and pixels."""
    known = np.array([vector for image in trained for vector in obvious_patches(image, side).values()])
    variances, directions = np.linalg.eigh(np.cov(known.T))
    variances, directions = variances[::-1], directions[:, ::-1]
    kept = next(count for count in range(1, len(variances) + 1) if variances[:count].sum() > share * variances.sum())
    scores = {
        place: sum(((vector - known.mean(0)) @ directions[:, i]) ** 2 / variances[i] for i in range(kept)) / kept
        for place, vector in obvious_patches(picture, side).items()
    }
    result = np.empty(picture.shape[:2])
    for row, column in np.ndindex(result.shape):
        over = [score for (top, left), score in scores.items() if 0 <= row - top < side and 0 <= column - left < side]
        result[row, column] = sum(over) / len(over)
    return result, kept


@pytest.mark.parametrize(("side", "share", "grey"), [(4, 0.999, False), (4, 0.999, True), (3, 0.9, False), (1, 0.999, True)])
def test_maps_are_those_of_covariance_eigenvectors_and_loops(side, share, grey):
    trained, (tested,) = images(20, grey=grey), images(1, seed=1, grey=grey)
    generator = np.random.default_rng(0)
    components = fit(sampled_patches([trained], len(trained), side, 10**6, generator), share)
    expected, kept = obvious_map(tested, trained, side, share)
    assert components.whitening.shape == (3 * side**2, kept) and kept <= side**2 * (1 if grey else 3)
    found = anomaly_map(tested, components, side)
    assert found.dtype == np.float32 and found == pytest.approx(expected, rel=1e-4)


def test_patches_are_drawn_once_each_from_all_images_whatever_the_batches():
    # each pixel tells where it is from
    pictures = np.arange(6 * 5 * 7, dtype=np.uint8).reshape(6, 5, 7, 1).repeat(3, axis=3)
    found = [sampled_patches(np.split(pictures, cuts), 6, 2, 50, np.random.default_rng(3)) for cuts in ([], [1], [2, 3, 5])]
    assert found[0].shape == (50, 12) and len({tuple(vector) for vector in found[0]}) == 50
    assert all(np.array_equal(found[0], other) for other in found)
    every = sampled_patches([pictures], 6, 2, 6 * 4 * 6, np.random.default_rng(3))
    known = {tuple(vector) for image in pictures for vector in obvious_patches(image, 2).values()}
    assert {tuple(vector) for vector in every} == known >= {tuple(vector) for vector in found[0]} and len(every) == 6 * 4 * 6


def test_a_defect_stands_out_where_it_is_and_images_that_never_vary_score_nothing():
    components = fit(sampled_patches([images(20)], 20, 4, 500, np.random.default_rng(0)), 0.999)
    (tested,) = images(1, seed=1)
    tested[4:7, 5:8] = 255 - tested[4:7, 5:8]
    found = anomaly_map(tested, components, 4)
    # no patch that covers the last column holds a changed pixel
    assert found[4:7, 5:8].min() > 3 * found[:, 11].max() and found.argmax() == 12 * 4 + 6
    flat = np.full((2, 8, 8, 3), 90, np.uint8)
    assert not anomaly_map(tested, fit(sampled_patches([flat], 2, 4, 500, np.random.default_rng(0)), 0.999), 4).any()


def test_an_image_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match="images of 12×12 pixels are smaller than a patch of 13×13"):
        sampled_patches([images(1)], 1, 13, 100, np.random.default_rng(0))


def prepare(folder, crop=8, size=12):
    """A prepared data set of two categories with a bright spot in each anomalous image."""
    folder.mkdir()
    rows = {"train": [], "test": []}
    for category in ("bolt", "nut"):
        for split, label in [("train", 0)] * 9 + [("test", 0), ("validation", 0), ("test", 1)] * 4:
            defect, part = "spot" if label else "good", "train" if split == "train" else "test"
            name = f"{category}/{split}/{defect}/{len(rows[part]):03d}.png"
            rows[part].append(Row(name, category, split, label, defect, f"{name}.mask" if label else "", 40, 40, name))
    arrays = {part: images(len(of), seed=len(part), size=size) for part, of in rows.items()}
    masks = np.zeros((len(rows["test"]), size, size), np.uint8)
    masks[[row.label == 1 for row in rows["test"]], 4:7, 5:8] = 1
    arrays["test"][masks > 0] = 250
    for part, of in rows.items():
        write_rows(folder / f"{part}.csv", of)
        np.save(folder / f"{part}_images.npy", arrays[part])
    np.save(folder / "test_masks_standard.npy", masks)
    return rows, arrays


def test_the_stage_writes_maps_of_all_test_and_validation_images_that_evaluate_measures(tmp_path, monkeypatch):
    rows, arrays = prepare(tmp_path / "prepared")
    settings = Floor(patches=300)
    contents = []
    for number, batch in enumerate((16, 16, 1, 5)):
        monkeypatch.setattr(stage, "BATCH_IMAGES", batch)
        output = tmp_path / f"out-{number}"
        output.mkdir()
        stage.floor(tmp_path / "prepared", settings, 8, output)
        contents.append([(output / name).read_bytes() for name in ("anomaly_maps.npy", "images.csv", "floor.json")])
    assert contents.count(contents[0]) == len(contents)
    positions, found = read_positions(output / "images.csv")
    assert found == rows["test"] and positions.tolist() == list(range(len(found)))
    record = json.loads((output / "floor.json").read_text())
    assert record["patch_side"] == 4 and record["patches"] == 300 and record["environment"]["scikit-learn"]
    assert record["components"].keys() == {"bolt", "nut"} and all(0 < kept <= 48 for kept in record["components"].values())
    # a category's components are of its own training images
    own = [position for position, row in enumerate(rows["train"]) if row.category == "nut"]
    changed = arrays["train"].copy()
    changed[own] //= 2
    np.save(tmp_path / "prepared/train_images.npy", changed)
    stage.floor(tmp_path / "prepared", settings, 8, tmp_path / "out-0")
    differs = (np.load(tmp_path / "out-0/anomaly_maps.npy") != np.load(output / "anomaly_maps.npy")).any(axis=(1, 2))
    assert differs.tolist() == [row.category == "nut" for row in rows["test"]]
    identity = {"dataset": "mine", "scope": FLOOR, "seed": "0", "crop": "central 8 of 12"}
    for protocol in ("standard", "reference"):
        np.save(tmp_path / f"prepared/test_masks_{protocol}.npy", np.load(tmp_path / "prepared/test_masks_standard.npy"))
        maps = own_maps(output, tmp_path / "prepared", 8, protocol)
        evaluate_maps(maps, Evaluation(protocol=protocol, resamples=40), identity, output)
        (mean,) = [row for row in table(output / "metrics.csv") if row["category"] == "mean"]
        assert float(mean["image_auroc"]) == 1 and float(mean["pixel_auroc"]) > 0.9 and mean["note"] == ""
        assert all(float(row["threshold"]) > 1 for row in table(output / "thresholds.csv")), "maps need not lie in [0, 1]"


def test_what_the_stage_cannot_use_is_one_line(tmp_path):
    rows, arrays = prepare(tmp_path / "prepared")
    with pytest.raises(InputError, match="train_images.npy: images of 12 pixels for maps of 16; prepare .* at 16 or more"):
        stage.floor(tmp_path / "prepared", Floor(), 16, tmp_path)
    keep = [position for position, row in enumerate(rows["train"]) if row.category == "bolt"]
    write_rows(tmp_path / "prepared/train.csv", [rows["train"][position] for position in keep])
    np.save(tmp_path / "prepared/train_images.npy", arrays["train"][keep])
    with pytest.raises(InputError, match="nut/test/good/012.png is of a category without training images"):
        stage.floor(tmp_path / "prepared", Floor(), 8, tmp_path)
    np.save(tmp_path / "prepared/train_images.npy", arrays["train"])
    with pytest.raises(InputError, match="train_images.npy: an array of shape"):
        stage.floor(tmp_path / "prepared", Floor(), 8, tmp_path)
