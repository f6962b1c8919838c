"""Maps on disk to metrics, intervals, thresholds and differences: this project's results and those of other methods."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import area
from PIL import Image
from typer.testing import CliRunner

from decodiff.cli import app
from decodiff.data.maps import foreign_maps, own_maps
from decodiff.data.rows import Row, write_positions, write_rows
from decodiff.errors import InputError
from decodiff.metrics import ALL_METRICS, evaluate
from decodiff.settings import Evaluation
from decodiff.stages.compare import compare
from decodiff.stages.evaluate import evaluate_maps

SIDE, CROP = 20, 16
IDENTITY = {"dataset": "mine", "scope": "all", "seed": "0", "crop": "central 16 of 20"}


def table(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def make_results(folder, noise=0.3, seed=0, masked=True):
    """Results of two categories, each with 6 normal, 5 held-out and 7 anomalous images of two kinds, and prepared masks."""
    rows, masks = [], []
    random = np.random.default_rng(99)
    for category in ("bolt", "nut"):
        listed = (
            [("test", 0, "good")] * 6 + [("validation", 0, "good")] * 5 + [("test", 1, "bent")] * 4 + [("test", 1, "cut")] * 3
        )
        for index, (split, label, defect) in enumerate(listed):
            name = f"{category}/{split}/{defect}/{index:03d}.png"
            mask = np.zeros((SIDE, SIDE), np.uint8)
            if label:
                top, left = random.integers(3, 10, 2)
                mask[top : top + 5, left : left + 4] = 1
            rows.append(
                Row(name, category, split, label, defect, f"{name}.mask" if label and masked else "", 40, 40, f"{name}")
            )
            masks.append(mask)
    masks = np.stack(masks)
    prepared, results = folder / "prepared", folder / "results"
    prepared.mkdir(parents=True)
    results.mkdir()
    write_rows(prepared / "test.csv", rows)
    write_positions(results / "images.csv", enumerate(rows))
    for protocol in ("standard", "reference"):
        np.save(prepared / f"test_masks_{protocol}.npy", masks)
    inside = masks[:, 2:-2, 2:-2].astype(bool)
    maps = inside * 0.5 + noise * np.random.default_rng(seed).random(inside.shape)
    np.save(results / "anomaly_maps.npy", maps.astype(np.float32))
    return results, prepared, rows, maps.astype(np.float32), inside


def measure(results, prepared, output, **settings):
    evaluation = Evaluation(**{"resamples": 40, **settings})
    evaluate_maps(own_maps(results, prepared, CROP, evaluation.protocol), evaluation, IDENTITY, output)


def test_every_category_every_defect_and_their_mean(tmp_path):
    results, prepared, rows, maps, masks = make_results(tmp_path)
    measure(results, prepared, tmp_path / "out")
    metrics = {row["category"]: row for row in table(tmp_path / "out/metrics.csv")}
    assert list(metrics) == ["bolt", "nut", "mean"]
    for category in ("bolt", "nut"):
        tested = np.array([row.category == category and row.split == "test" for row in rows])
        labels = np.array([row.label for row in rows], bool)
        expected = evaluate(maps[tested], masks[tested], label=labels[tested])
        row = metrics[category]
        assert (row["images"], row["anomalous"], row["note"]) == ("13", "7", "")
        assert {name: float(row[name]) for name in ALL_METRICS} == pytest.approx(expected, abs=1e-6)
        bent = tested & np.array([not row.label or row.defect == "bent" for row in rows])
        expected = evaluate(maps[bent], masks[bent], label=labels[bent])
        (line,) = [
            line for line in table(tmp_path / "out/defects.csv") if (line["category"], line["defect"]) == (category, "bent")
        ]
        assert (line["images"], line["anomalous"]) == ("10", "4")
        assert {name: float(line[name]) for name in ALL_METRICS} == pytest.approx(expected, abs=1e-6)
    for name in ALL_METRICS:
        values = [float(metrics[category][name]) for category in ("bolt", "nut")]
        assert float(metrics["mean"][name]) == pytest.approx(np.mean(values), abs=1e-6)


def test_every_row_says_how_it_was_measured(tmp_path):
    results, prepared, *_ = make_results(tmp_path)
    measure(results, prepared, tmp_path / "out", protocol="reference", top_pixels=5)
    for name in ("metrics", "defects", "intervals", "thresholds"):
        for row in table(tmp_path / f"out/{name}.csv"):
            assert [row[key] for key in ("dataset", "protocol", "masks", "crop", "aupro", "image_score")] == [
                *("mine", "reference", "bicubic", "central 16 of 20", "200 thresholds", "mean of the 5 highest pixels")
            ]


def test_intervals_hold_the_values_and_the_same_input_gives_the_same_bytes(tmp_path):
    results, prepared, *_ = make_results(tmp_path, noise=2.0)
    for name in ("one", "two"):
        measure(results, prepared, tmp_path / name)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    rows = table(tmp_path / "one/intervals.csv")
    assert len(rows) == 3 * len(ALL_METRICS)
    for row in rows:
        assert float(row["low"]) <= float(row["value"]) + 0.1 and float(row["value"]) <= float(row["high"]) + 0.1
        assert float(row["low"]) < float(row["high"]) or row["metric"].startswith("image")


def test_the_threshold_comes_from_held_out_images_alone(tmp_path):
    results, prepared, rows, maps, _ = make_results(tmp_path, noise=1.0)
    measure(results, prepared, tmp_path / "out", false_alarm_rate=0.4)
    scores = maps.reshape(len(maps), -1).max(axis=1)
    alarms = {row["image"]: row for row in table(tmp_path / "out/scores.csv")}
    for line in table(tmp_path / "out/thresholds.csv"):
        held_out = [score for row, score in zip(rows, scores) if row.category == line["category"] and row.split == "validation"]
        # of five, the second highest is passed with probability 2/6
        assert float(line["threshold"]) == pytest.approx(sorted(held_out)[-2], abs=1e-6)
        assert float(line["expected_false_alarm_rate"]) == pytest.approx(2 / 6, abs=1e-6)
        tested = [(row, score) for row, score in zip(rows, scores) if row.category == line["category"] and row.split == "test"]
        called = [(row.label, score > sorted(held_out)[-2]) for row, score in tested]
        assert float(line["test_false_alarm_rate"]) == pytest.approx(
            np.mean([alarm for label, alarm in called if not label]), abs=1e-6
        )
        assert float(line["test_detection_rate"]) == pytest.approx(
            np.mean([alarm for label, alarm in called if label]), abs=1e-6
        )
        assert [int(alarms[row.image]["alarm"]) for row, _ in tested] == [alarm for _, alarm in called]
        assert float(line["oracle_f1max"]) >= float(line["test_f1"])


def test_without_held_out_images_the_threshold_is_empty_and_says_why(tmp_path):
    results, prepared, rows, maps, _ = make_results(tmp_path)
    kept = [index for index, row in enumerate(rows) if row.split == "test"]
    write_positions(results / "images.csv", [(index, rows[index]) for index in kept])
    np.save(results / "anomaly_maps.npy", maps[kept])
    measure(results, prepared, tmp_path / "out")
    assert all(row["threshold"] == "" and "hold_out" in row["note"] for row in table(tmp_path / "out/thresholds.csv"))
    assert all(row["alarm"] == "" for row in table(tmp_path / "out/scores.csv"))


def test_what_cannot_be_computed_is_empty_with_its_reason(tmp_path):
    results, prepared, rows, maps, _ = make_results(tmp_path, masked=False)
    measure(results, prepared, tmp_path / "out")
    row = table(tmp_path / "out/metrics.csv")[0]
    assert row["pixel_auroc"] == "" and "not every anomalous image has a mask" in row["note"] and row["image_auroc"]
    np.save(prepared / "test_masks_standard.npy", np.zeros((len(rows), SIDE, SIDE), np.uint8))
    results, prepared, rows, maps, _ = make_results(tmp_path / "cropped")
    np.save(prepared / "test_masks_standard.npy", np.zeros((len(rows), SIDE, SIDE), np.uint8))
    measure(results, prepared, tmp_path / "out")
    row = table(tmp_path / "out/metrics.csv")[0]
    assert row["pixel_aupro"] == "" and "no anomalous pixel inside the crop" in row["note"]
    mean = table(tmp_path / "out/metrics.csv")[-1]
    assert mean["pixel_aupro"] == "" and "has no mean" in mean["note"] and mean["image_auroc"]


def test_damaged_maps_are_one_line_errors(tmp_path):
    results, prepared, _, maps, _ = make_results(tmp_path)
    maps[3, 0, 0] = np.nan
    np.save(results / "anomaly_maps.npy", maps)
    with pytest.raises(InputError, match="anomaly_maps.npy: anomaly map 3 holds NaN"):
        measure(results, prepared, tmp_path / "out")
    np.save(results / "anomaly_maps.npy", maps[:-1])
    with pytest.raises(InputError, match=r"anomaly_maps.npy: an array of shape \(35, 16, 16\), expected \(36, 16, 16\)"):
        measure(results, prepared, tmp_path / "out")
    np.save(results / "anomaly_maps.npy", np.zeros((36, 24, 24), np.float32))
    with pytest.raises(InputError, match="masks of 20 pixels a side for maps of 24"):
        evaluate_maps(own_maps(results, prepared, 24, "standard"), Evaluation(), IDENTITY, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_difference_pairs_the_resamples(tmp_path):
    results, prepared, *_ = make_results(tmp_path / "a", noise=1.0, seed=1)
    measure(results, prepared, tmp_path / "first", resamples=400)
    noisier, again, *_ = make_results(tmp_path / "b", noise=1.05, seed=1)
    measure(noisier, again, tmp_path / "second", resamples=400)
    compare(tmp_path / "first", tmp_path / "second", tmp_path / "differences.csv")
    intervals = {(row["category"], row["metric"]): row for row in table(tmp_path / "first/intervals.csv")}
    rows = table(tmp_path / "differences.csv")
    assert len(rows) == 3 * len(ALL_METRICS)
    for row in rows:
        assert float(row["difference"]) == pytest.approx(float(row["first"]) - float(row["second"]), abs=2e-6)
        alone = intervals[row["category"], row["metric"]]
        if row["metric"] == "pixel_ap":
            # what the images do to both cancels
            assert float(row["high"]) - float(row["low"]) < 0.5 * (float(alone["high"]) - float(alone["low"]))
    compare(tmp_path / "first", tmp_path / "first", tmp_path / "none.csv")
    assert all(float(row[key]) == 0 for row in table(tmp_path / "none.csv") for key in ("difference", "low", "high"))


def test_what_was_not_measured_alike_is_not_compared(tmp_path):
    results, prepared, rows, maps, _ = make_results(tmp_path / "a")
    measure(results, prepared, tmp_path / "first")
    measure(results, prepared, tmp_path / "reference", protocol="reference")
    measure(results, prepared, tmp_path / "fewer", resamples=30)
    write_positions(results / "images.csv", list(enumerate(rows))[:-1])
    np.save(results / "anomaly_maps.npy", maps[:-1])
    measure(results, prepared, tmp_path / "other")
    for name, message in (("reference", "reference, .* standard"), ("fewer", "30 resamples"), ("other", "same test images")):
        with pytest.raises(InputError, match=message):
            compare(tmp_path / "first", tmp_path / name, tmp_path / "differences.csv")
    (tmp_path / "fewer/resamples.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="resamples.npz: no readable resamples"):
        compare(tmp_path / "first", tmp_path / "fewer", tmp_path / "differences.csv")


def write_foreign(folder, rows, maps, masks, suffix):
    """The maps of test images as another program would save them, and their masks; normal images have none."""
    for row, anomaly_map, mask in zip(rows, maps, masks):
        if row.split != "test":
            continue
        path = folder / "maps" / row.image
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npy":
            np.save(path.with_suffix(suffix), anomaly_map)
        else:
            Image.fromarray(anomaly_map).save(path.with_suffix(suffix))
        if row.label:
            path = folder / "masks" / row.category / "ground_truth" / row.defect / f"{path.stem}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return folder / "maps", folder / "masks"


@pytest.mark.parametrize("suffix", [".npy", ".tiff"])
def test_another_methods_maps_give_the_same_numbers_as_ours(tmp_path, suffix):
    results, prepared, rows, maps, masks = make_results(tmp_path)
    measure(results, prepared, tmp_path / "own")
    folders = write_foreign(tmp_path / "foreign", rows, maps, masks, suffix)
    for name, given in (("folder", folders[1]), ("prepared", prepared)):
        evaluate_maps(foreign_maps(folders[0], given, "mine", "standard"), Evaluation(resamples=40), IDENTITY, tmp_path / name)
        for own, other in zip(table(tmp_path / "own/metrics.csv"), table(tmp_path / name / "metrics.csv")):
            assert own == other
        compare(tmp_path / "own", tmp_path / name, tmp_path / "differences.csv")
        assert {row["difference"] for row in table(tmp_path / "differences.csv")} <= {"0.000000", "-0.000000"}


def test_a_saved_batch_of_predictions(tmp_path):
    results, prepared, rows, maps, _ = make_results(tmp_path)
    tested = [index for index, row in enumerate(rows) if row.split == "test"]
    paths = [f"/somewhere/data/{rows[index].image}" for index in tested]
    batch = {"anomaly_map": torch.from_numpy(maps[tested])[:, None], "image_path": paths}
    torch.save(batch, tmp_path / "predictions.pt")
    runner = CliRunner()
    arguments = ["--maps", tmp_path / "predictions.pt", "--masks", prepared, "--dataset", "mine", "--scope", "peer"]
    result = runner.invoke(app, ["evaluate", *map(str, arguments), "--output", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0
    measure(results, prepared, tmp_path / "own")
    for own, other in zip(table(tmp_path / "own/metrics.csv"), table(tmp_path / "out/metrics.csv")):
        assert other["scope"] == "peer"
        assert [own[name] for name in ALL_METRICS] == [other[name] for name in ALL_METRICS]


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_malicious_batch_is_refused_unexecuted(tmp_path, capfd):
    torch.save({"anomaly_maps": torch.zeros(1, 2, 2), "paths": Trap()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="evil.pt: cannot be read safely"):
        foreign_maps(tmp_path / "evil.pt", tmp_path, "mine", "standard")
    assert "executed" not in capfd.readouterr().out


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "maps",
    [
        torch.rand(1, 4, 4).to_sparse(),
        torch.rand(1, 4, 4, device="meta"),
        torch.zeros(1, 4, 4, dtype=torch.complex64),
        torch.zeros(1, dtype=torch.float16).expand(1, 60_000, 60_000),
    ],
    ids=["sparse", "without memory", "complex", "one number seen often"],
)
def test_maps_that_are_no_plain_numbers_are_refused(tmp_path, maps):
    torch.save({"anomaly_maps": maps, "paths": ["nut/bent/0.png"]}, tmp_path / "odd.pt")
    with pytest.raises(InputError, match="odd.pt: maps that are no plain numbers"):
        foreign_maps(tmp_path / "odd.pt", tmp_path, "mine", "standard")


def test_maps_that_were_saved_with_gradients_are_read(tmp_path):
    maps = torch.rand(1, 4, 4)
    torch.save({"anomaly_maps": maps.clone().requires_grad_(), "paths": ["nut/bent/0.png"]}, tmp_path / "maps.pt")
    area(tmp_path / "masks/nut/bent/0.png", size=(4, 4))
    read = foreign_maps(tmp_path / "maps.pt", tmp_path / "masks", "mine", "standard").maps
    np.testing.assert_array_equal(read(np.array([0])), maps)


def test_image_files_of_any_name_are_named_in_one_line(tmp_path):
    torch.save({"anomaly_maps": torch.rand(1, 4, 4), "paths": ["nut/be\nnt/0\x1b.png"]}, tmp_path / "odd.pt")
    area(tmp_path / "masks/nut/bent/0.png", size=(4, 4))
    with pytest.raises(InputError, match="no mask of nut/be.nnt/0") as error:
        foreign_maps(tmp_path / "odd.pt", tmp_path / "masks", "mine", "standard")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda maps, masks: next(masks.rglob("*.png")).unlink(),
            r"masks: 13 masks for 14 maps; no mask of (bolt|nut)/(bent|cut)/0",
        ),
        (lambda maps, masks: next(maps.rglob("*.npy")).unlink(), r"give one for each"),
        (lambda maps, masks: np.save(next(maps.rglob("*.npy")), np.zeros((3, 5))), r"npy: .* pixels, the first map has"),
        (
            lambda maps, masks: Image.new("L", (9, 8), 255).save(next(masks.rglob("*.png"))),
            r"_mask.png: 8×9 pixels, the first map has 16×16",
        ),
        (lambda maps, masks: np.save(next(maps.rglob("*.npy")), np.full((16, 16), np.nan)), "holds NaN"),
        (lambda maps, masks: np.save(next(maps.rglob("*.npy")), np.zeros((16, 16), complex)), "expected numbers"),
        (lambda maps, masks: next(maps.rglob("*.npy")).write_bytes(b"x"), "not a whole .npy array"),
        (lambda maps, masks: np.save(maps / "test.txt.npy", np.zeros((16, 16))), "no mask of mine/test.txt"),
        (
            lambda maps, masks: [Image.new("L", (16, 16)).save(path) for path in masks.rglob("*.png")],
            "no mask has an anomalous pixel",
        ),
        (lambda maps, masks: [path.unlink() for path in maps.rglob("*.npy")], "maps: no map or mask"),
    ],
)
def test_maps_and_masks_that_do_not_fit_are_named(tmp_path, change, message):
    _, _, rows, maps, masks = make_results(tmp_path)
    folders = write_foreign(tmp_path / "foreign", rows, maps, masks, ".npy")
    change(*folders)
    with pytest.raises(InputError, match=message) as error:
        evaluate_maps(foreign_maps(*folders, "mine", "standard"), Evaluation(resamples=20), IDENTITY, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_maps_of_a_prepared_data_set_must_be_those_of_its_test_images(tmp_path):
    _, prepared, rows, maps, masks = make_results(tmp_path)
    folder, _ = write_foreign(tmp_path / "foreign", rows, maps, masks, ".npy")
    (folder / "nut/test/cut/017.npy").rename(folder / "nut/test/cut/999.npy")
    with pytest.raises(InputError, match="a map of nut/cut/999, which is no test image"):
        foreign_maps(folder, prepared, "mine", "standard")
    (folder / "nut/test/cut/999.npy").unlink()
    with pytest.raises(InputError, match="25 maps, but none of nut/test/cut/017.png"):
        foreign_maps(folder, prepared, "mine", "standard")


def test_an_image_held_out_may_be_called_as_a_test_image_is(tmp_path):
    _, prepared, rows, maps, masks = make_results(tmp_path)
    folder, _ = write_foreign(tmp_path / "foreign", rows, maps, masks, ".npy")
    held = next(place for place, row in enumerate(rows) if row.split == "validation")
    of = next(row for row in rows if row.split == "test" and (row.category, row.label) == (rows[held].category, 0))
    for split in ("validation", "test"):
        again = dataclasses.replace(rows[held], image=f"held/{Path(of.image).name}", split=split)
        write_rows(prepared / "test.csv", [*rows[:held], again, *rows[held + 1 :]])
        if split == "test":
            with pytest.raises(InputError, match="two test images of one name"):
                foreign_maps(folder, prepared, "mine", "standard")
        else:
            found = foreign_maps(folder, prepared, "mine", "standard").images
            assert of.image in {image.name for image in found} and {image.split for image in found} == {"test"}
