"""Every layout, in the structure its data set is published in, from a folder to the rows of a manifest."""

import csv
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pictures import area, make_ad_2, make_btad, make_ksdd2, make_loco, make_mvtec, make_real_iad, make_visa, picture

from decodiff.data.images import mask_area, read_mask
from decodiff.data.layouts import find_root, left_out, read_layout
from decodiff.data.registry import REGISTRY, Counts
from decodiff.data.rows import read_rows
from decodiff.errors import InputError
from decodiff.stages.fetch import fetch


def counted(entries):
    return Counter((entry.split, entry.label) for entry in entries)


def read(name, folder):
    dataset = REGISTRY[name]
    return read_layout(dataset.layout, find_root(dataset.layout, folder), dataset.categories)


PER_CATEGORY = {
    "mvtec_ad": (make_mvtec, {("train", 0): 2, ("test", 0): 2, ("test", 1): 1}),
    "mpdd": (make_mvtec, {("train", 0): 2, ("test", 0): 2, ("test", 1): 1}),
    "visa": (make_visa, {("train", 0): 1, ("test", 0): 1, ("test", 1): 1}),
    "btad": (make_btad, {("train", 0): 2, ("test", 0): 2, ("test", 1): 1}),
    "mvtec_loco": (make_loco, {("train", 0): 1, ("validation", 0): 1, ("test", 0): 1, ("test", 1): 2}),
    "mvtec_ad_2": (make_ad_2, {("train", 0): 1, ("validation", 0): 1, ("test", 0): 1, ("test", 1): 1}),
    "real_iad": (make_real_iad, {("train", 0): 1, ("test", 0): 1, ("test", 1): 1}),
    "ksdd2": (make_ksdd2, {("train", 0): 2, ("test", 0): 2, ("test", 1): 1}),
}


@pytest.mark.parametrize("name", PER_CATEGORY)
def test_a_published_structure_becomes_a_manifest(tmp_path, monkeypatch, name):
    make, expected = PER_CATEGORY[name]
    dataset = REGISTRY[name]
    make(tmp_path / "source", dataset.categories)
    # the small copy stands for the published one
    numbers = {key: count * len(dataset.categories) for key, count in expected.items()}
    counts = Counts(numbers["train", 0], numbers["test", 0], numbers["test", 1], numbers.get(("validation", 0), 0))
    monkeypatch.setitem(REGISTRY, name, replace(dataset, counts=counts))
    manifest = tmp_path / "data" / "manifest.csv"
    fetch(name, str(tmp_path / "source"), None, "all", manifest)
    rows = read_rows(manifest)
    assert counted(rows) == numbers
    assert tuple(dict.fromkeys(row.category for row in rows)) == dataset.categories, "categories in the registry's order"
    for row in rows:
        assert bool(row.mask) == bool(row.label), "all anomalous images have a mask, no normal one has"
        if row.mask:
            area = mask_area(read_mask(manifest.parent / row.mask))
            assert area.shape == (row.height, row.width) and area.any()


def test_several_masks_of_an_image_are_joined(tmp_path):
    make_loco(tmp_path, ("pushpins",))
    entries = read_layout("mvtec", tmp_path, ("pushpins",))
    masks = [mask_area(read_mask(entry.mask)) for entry in entries if entry.mask]
    assert len(masks) == 2
    for mask in masks:
        assert np.flatnonzero(mask.all(axis=1)).tolist() == [0, 1, 4, 5], "the union of both parts"


def test_private_test_sets_are_left_alone(tmp_path):
    make_ad_2(tmp_path, ("can",))
    folders = {entry.image.relative_to(tmp_path / "can").parts[0] for entry in read_layout("mvtec", tmp_path, ("can",))}
    assert folders == {"train", "validation", "test_public"}


def test_hidden_files_are_no_images(tmp_path):
    make_mvtec(tmp_path)
    (tmp_path / "bolt/train/good/._000.png").write_bytes(b"what macOS leaves in archives")
    assert counted(read("folder", tmp_path)) == {("train", 0): 2, ("test", 0): 2, ("test", 1): 1}


def test_magnetic_tile_splits_the_free_tiles_the_same_way_each_time(tmp_path):
    for kind, count in (("Free", 10), ("Crack", 2), ("Fray", 1)):
        for index in range(count):
            picture(tmp_path / f"MT_{kind}/Imgs/exp1_num_{index}.jpg", mode="L")
            picture(tmp_path / f"MT_{kind}/Imgs/exp1_num_{index}.png", mode="L", value=0)
    entries = read("mtd", tmp_path)
    assert entries == read("mtd", tmp_path)
    assert Counter((entry.split, entry.defect) for entry in entries) == {
        ("train", "good"): 8,
        ("test", "good"): 2,
        ("test", "crack"): 2,
        ("test", "fray"): 1,
    }
    for entry in entries:
        assert entry.image.suffix == ".jpg" and (entry.mask is None) == (entry.label == 0)


def test_solar_cells_of_probability_zero_are_normal(tmp_path):
    lines = [f"images/cell{index:04d}.png  {index % 4 / 3}  {'mono' if index < 40 else 'poly'}" for index in range(80)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    entries = read("elpv", tmp_path)
    for category in ("mono", "poly"):
        chosen = [entry for entry in entries if entry.category == category]
        assert counted(chosen) == {("train", 0): 8, ("test", 0): 2, ("test", 1): 30}
    assert {entry.defect for entry in entries} == {"good", "probability_0.33", "probability_0.67", "probability_1.00"}


def test_the_released_split_leaves_out_as_many_images_as_the_authors_did(tmp_path):
    # training images of each category as published
    published = (
        "bottle 209 cable 224 capsule 219 carpet 280 grid 264 hazelnut 391 leather 245 metal_nut 220 pill 267 screw 320 "
        "tile 230 toothbrush 60 transistor 213 wood 247 zipper 240"
    ).split()
    published = dict(zip(published[::2], map(int, published[1::2])))
    for category, count in published.items():
        (tmp_path / category / "train" / "good").mkdir(parents=True)
        for index in range(count):
            (tmp_path / category / "train" / "good" / f"{index:03d}.png").touch()
    dataset = REGISTRY["mvtec_ad"]
    entries = read_layout("mvtec", tmp_path, dataset.categories)
    assert counted(entries) == {("train", 0): dataset.counts.train}
    released = left_out(entries, dataset.held_out, "mvtec_ad released")
    assert counted(released) == {("train", 0): 3267, ("validation", 0): 362}
    assert released == left_out(entries, dataset.held_out, "mvtec_ad released"), "the same ones each time"
    assert [entry.image for entry in released] == [entry.image for entry in entries], "all are still listed"


# ---- own images


def test_a_folder_that_is_one_category_is_called_by_its_name(tmp_path):
    make_mvtec(tmp_path, ("bolt",))
    assert {entry.category for entry in read("folder", tmp_path / "bolt")} == {"bolt"}


def test_the_folder_above_is_found_and_an_ambiguous_one_refused(tmp_path):
    make_mvtec(tmp_path / "mine" / "inner")
    assert find_root("mvtec", tmp_path / "mine") == tmp_path / "mine" / "inner"
    make_mvtec(tmp_path / "mine" / "other")
    with pytest.raises(InputError, match="several data sets in it .inner, other."):
        find_root("mvtec", tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing in the layout 'mvtec'"):
        find_root("mvtec", tmp_path / "empty")


def write_list(tmp_path, rows, columns=("image", "split", "category", "label", "mask", "defect")):
    with open(tmp_path / "list.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return str(tmp_path / "list.csv")


def test_a_list_of_own_images(tmp_path):
    for name in "abc":
        picture(tmp_path / "shots" / f"{name}.png")
    area(tmp_path / "masks" / "c.png")
    rows = [("shots/a.png", "train", "bolt", 0, "", ""), ("shots/b.png", "test", "bolt", 0, "", "")]
    rows += [("shots/c.png", "test", "bolt", 1, "masks/c.png", "bent")]
    fetch("mine", write_list(tmp_path, rows), "csv", "all", tmp_path / "data" / "manifest.csv")
    found = [(row.image, row.split, row.label, row.defect, row.mask) for row in read_rows(tmp_path / "data" / "manifest.csv")]
    assert found == [
        ("../shots/a.png", "train", 0, "good", ""),
        ("../shots/b.png", "test", 0, "good", ""),
        ("../shots/c.png", "test", 1, "bent", "../masks/c.png"),
    ]


def test_a_list_needs_neither_masks_nor_anomalous_images(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    rows = [("a.png", "train", "x", 0), ("b.png", "test", "x", 0)]
    source = write_list(tmp_path, rows, columns=("image", "split", "category", "label"))
    fetch("csv", source, None, "all", tmp_path / "data" / "manifest.csv")
    assert counted(read_rows(tmp_path / "data" / "manifest.csv")) == {("train", 0): 1, ("test", 0): 1}


def test_every_wrong_line_of_a_list_is_named(tmp_path):
    picture(tmp_path / "a.png")
    rows = [("a.png", "train", "x", "normal", "", ""), ("", "test", "x", 1, "", ""), ("a.png", "test", "x", 0, "", "")]
    with pytest.raises(InputError, match="list.csv: line 2 has label 'normal', expected 0.*; line 3 has no image"):
        fetch("csv", write_list(tmp_path, rows), None, "all", tmp_path / "data" / "manifest.csv")
    rows = [("a.png", "training", "x", 0, "", ""), ("missing.png", "test", "x", 0, "", "")]
    with pytest.raises(InputError, match="a.png: split 'training'; expected one of train.*missing.png: no such image"):
        fetch("csv", write_list(tmp_path, rows), None, "all", tmp_path / "data" / "manifest.csv")
