"""From a folder to a manifest to arrays: what is written, what is refused and how, and what an interruption leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from pictures import area, make_mvtec, picture
from PIL import Image

from decodiff.data.registry import REGISTRY, Counts
from decodiff.data.rows import read_rows
from decodiff.errors import InputError
from decodiff.files import read_json
from decodiff.stages.fetch import fetch
from decodiff.stages.prepare import prepare


def fetch_folder(tmp_path, root):
    manifest = tmp_path / "out" / "manifest.csv"
    fetch("mine", str(root), "folder", "all", manifest)
    return manifest


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- manifests


def test_a_folder_becomes_a_manifest_and_arrays(tmp_path):
    manifest = fetch_folder(tmp_path, make_mvtec(tmp_path / "mine"))
    rows = read_rows(manifest)
    assert [(row.split, row.defect, row.label, bool(row.mask)) for row in rows] == [
        ("train", "good", 0, False),
        ("train", "good", 0, False),
        ("test", "bent", 1, True),
        ("test", "good", 0, False),
        ("test", "good", 0, False),
    ]
    assert (rows[0].width, rows[0].height) == (10, 8)
    assert rows[0].sha256 == sha256((manifest.parent / rows[0].image).read_bytes()).hexdigest()
    prepare(manifest, 16, tmp_path / "prepared")
    images = np.load(tmp_path / "prepared" / "test_images.npy")
    masks = np.load(tmp_path / "prepared" / "test_masks_standard.npy")
    assert images.shape == (3, 16, 16, 3) and images[0].mean() == 10
    assert masks.shape == (3, 16, 16) and set(np.unique(masks)) == {0, 1}
    assert masks[0].any() and not masks[1:].any()


def test_a_folder_without_masks_or_anomalous_images_is_allowed(tmp_path):
    root = make_mvtec(tmp_path / "mine")
    (root / "bolt/ground_truth/bent/000_mask.png").unlink()
    (root / "bolt/ground_truth/bent").rmdir()
    (root / "bolt/ground_truth").rmdir()
    assert not any(row.mask for row in read_rows(fetch_folder(tmp_path, root)))
    (root / "bolt/test/bent/000.png").unlink()
    assert not any(row.label for row in read_rows(fetch_folder(tmp_path, root)))
    prepare(tmp_path / "out" / "manifest.csv", 8, tmp_path / "prepared")


def test_the_origin_is_written_down(tmp_path):
    manifest = fetch_folder(tmp_path, make_mvtec(tmp_path / "mine"))
    record = read_json(manifest.parent / "origin.json")
    assert record["kind"] == "folder" and record["source"] == str(tmp_path / "mine")
    assert record["counts"] == {"train": 2, "test_normal": 2, "test_anomalous": 1, "validation": 0}
    # where the files lie does not matter, what they are does
    (tmp_path / "mine").rename(tmp_path / "moved")
    again = tmp_path / "again" / "manifest.csv"
    fetch("mine", str(tmp_path / "moved"), "folder", "all", again)
    assert read_json(again.parent / "origin.json")["content_sha256"] == record["content_sha256"]
    area(tmp_path / "moved" / "bolt/ground_truth/bent/000_mask.png", value=254)
    fetch("mine", str(tmp_path / "moved"), "folder", "all", again)
    assert read_json(again.parent / "origin.json")["content_sha256"] != record["content_sha256"]


# ---- bad input: one line that names the file


def damage_truncate(root):
    path = root / "bolt/test/good/001.png"
    path.write_bytes(path.read_bytes()[:40])
    return "test/good/001.png: not a whole image"


def damage_text(root):
    (root / "bolt/train/good/000.png").write_text("not an image")
    return "train/good/000.png: not a whole image .no picture that can be decoded."


def damage_mask_size(root):
    area(root / "bolt/ground_truth/bent/000_mask.png", size=(7, 8))
    return "000_mask.png: mask of 7×8 pixels for an image of 10×8"


def damage_no_mask(root):
    (root / "bolt/ground_truth/bent/000_mask.png").unlink()
    return "000_mask.png: no mask for .*bent/000.png"


def damage_no_training(root):
    for path in (root / "bolt/train/good").iterdir():
        path.unlink()
    return "bolt: no training images for category 'bolt'"


def damage_no_test(root):
    for path in sorted((root / "bolt/test").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    return "bolt: the test set of category 'bolt' is empty"


def damage_duplicate(root):
    (root / "bolt/test/good/copy.png").write_bytes((root / "bolt/train/good/001.png").read_bytes())
    return "test/good/copy.png: in the test set, and as .*train/good/001.png in the training set"


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_data_set_is_refused_by_name(tmp_path, damage):
    root = make_mvtec(tmp_path / "mine")
    expected = damage(root)
    with pytest.raises(InputError, match=expected) as error:
        fetch_folder(tmp_path, root)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "out").glob("*")) == [], "nothing half-made is left"


def test_all_problems_are_named_at_once(tmp_path):
    root = make_mvtec(tmp_path / "mine")
    for damage in (damage_truncate, damage_mask_size, damage_duplicate):
        damage(root)
    with pytest.raises(InputError, match="mask of 7×8.*001.png: not a whole image.*copy.png: in the test set"):
        fetch_folder(tmp_path, root)


@pytest.mark.parametrize(
    "name", [b"x\xff", b"a\nb", b"a\x1b[31mb", "a\u202eb".encode()], ids=["no text", "line break", "colour", "direction"]
)
def test_files_of_any_name_are_named_in_one_line_and_in_the_list(tmp_path, name):
    root = make_mvtec(tmp_path / "mine")
    for index in range(7):
        with open(os.fsencode(root / "bolt/train/good") + b"/" + name + b"%d.png" % index, "wb") as stream:
            stream.write(b"no picture")
    with pytest.raises(InputError, match="not a whole image|rename it") as error:
        fetch_folder(tmp_path, root)
    assert str(error.value).isprintable()
    listed = (tmp_path / "out/problems.txt").read_text().split("\n")
    assert len(listed) >= 8 and all(line.isprintable() for line in listed)


def test_a_whole_picture_whose_name_is_no_text_is_refused_by_name(tmp_path):
    root = make_mvtec(tmp_path / "mine")
    good = root / "bolt/train/good"
    with open(os.fsencode(good) + b"/x\xff.png", "wb") as stream:
        stream.write((good / "000.png").read_bytes())
    for held_out in (0.0, 0.5):
        with pytest.raises(InputError, match=r"x\\udcff.png' holds a line break or another control character; rename it"):
            fetch("mine", str(root), "folder", "all", tmp_path / "out/manifest.csv", held_out)
    assert not (tmp_path / "out/manifest.csv").exists()


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000, "/etc/passwd", "../../../../../../etc/passwd", "/dev/null"])
@pytest.mark.parametrize("column", ["image", "mask"])
def test_a_list_that_names_what_is_no_picture_is_refused(tmp_path, name, column):
    picture(tmp_path / "a.png")
    wrong = {"image": name, "mask": ""} if column == "image" else {"image": "a.png", "mask": name}
    lines = ["image,split,category,label,mask", "a.png,train,nut,0,", f"{wrong['image']},test,nut,1,{wrong['mask']}"]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="cannot be read|no such image|not a whole image|no mask|without a mask") as error:
        fetch("mine", str(tmp_path / "list.csv"), "csv", "all", tmp_path / "out/manifest.csv")
    assert str(error.value).isprintable() and "root:" not in str(error.value), "nothing of what was read is shown"
    assert not (tmp_path / "out/manifest.csv").exists()


def test_many_problems_are_listed_in_a_file(tmp_path):
    root = make_mvtec(tmp_path / "mine", train=9)
    for path in (root / "bolt/train/good").iterdir():
        path.write_text("not an image")
    with pytest.raises(InputError, match="and 4 more, all 9 are in .*problems.txt") as error:
        fetch_folder(tmp_path, root)
    assert "\n" not in str(error.value)
    lines = (tmp_path / "out" / "problems.txt").read_text().splitlines()
    assert len(lines) == 9 and all("not a whole image" in line for line in lines)
    make_mvtec(tmp_path / "mine", train=9)
    fetch_folder(tmp_path, root)
    assert not (tmp_path / "out" / "problems.txt").exists(), "mended, so no longer true"


@pytest.mark.parametrize(
    ("source", "expected"), [(None, "not set: Magnetic Tile"), ("nowhere", "no folder or archive nowhere")]
)
def test_a_data_set_that_must_be_got_by_hand_says_where(tmp_path, source, expected):
    with pytest.raises(InputError, match=f"data.mtd.source: {expected}.*github.com/abin24"):
        fetch("mtd", source, None, "all", tmp_path / "manifest.csv")


def test_an_unknown_name_says_which_there_are(tmp_path):
    with pytest.raises(InputError, match="screw: no such data set; choose one of demo, .*mvtec_ad.*or give it a kind"):
        fetch("screw", None, None, "all", tmp_path / "manifest.csv")


def test_a_published_name_promises_the_published_files(tmp_path, monkeypatch):
    monkeypatch.setitem(REGISTRY, "mpdd", replace(REGISTRY["mpdd"], counts=Counts(12, 12, 6)))
    root, manifest = make_mvtec(tmp_path / "mpdd", REGISTRY["mpdd"].categories), tmp_path / "out" / "manifest.csv"
    fetch("mpdd", str(root), None, "all", manifest)
    picture(root / "tubes/test/good/000.png", value=77)
    with pytest.raises(InputError, match="mpdd: the files are not those first used here .*; remove .*origin.json to accept"):
        fetch("mpdd", str(root), None, "all", manifest)
    (root / "tubes/test/good/000.png").unlink()
    with pytest.raises(InputError, match="test_normal=11.* instead of .*test_normal=12.*data.<name>.kind: mpdd"):
        fetch("mpdd", str(root), None, "all", manifest)
    fetch("my_metal", str(root), "mpdd", "all", tmp_path / "mine" / "manifest.csv")
    picture(root / "hammers/train/good/000.png")
    with pytest.raises(InputError, match="unknown category 'hammers'"):
        fetch("my_metal", str(root), "mpdd", "all", tmp_path / "mine" / "manifest.csv")


def test_pinned_contents_are_checked(tmp_path, monkeypatch):
    entry = replace(REGISTRY["mpdd"], counts=Counts(12, 12, 6), content_sha256="0" * 64)
    monkeypatch.setitem(REGISTRY, "mpdd", entry)
    root = make_mvtec(tmp_path / "mpdd", REGISTRY["mpdd"].categories)
    with pytest.raises(InputError, match="mpdd: the files are not those published .checksum of their contents differs."):
        fetch("mpdd", str(root), None, "all", tmp_path / "out" / "manifest.csv")


def test_what_was_published_twice_is_only_reported(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(REGISTRY, "mpdd", replace(REGISTRY["mpdd"], counts=None))
    root = make_mvtec(tmp_path / "mpdd", REGISTRY["mpdd"].categories)
    (root / "tubes/test/good/copy.png").write_bytes((root / "tubes/train/good/001.png").read_bytes())
    fetch("mpdd", str(root), None, "all", tmp_path / "out" / "manifest.csv")
    assert "mpdd: 1 test images are also training images, as published" in caplog.text


def test_the_licence_is_shown_once(tmp_path, caplog):
    caplog.set_level("INFO")
    fetch("demo", None, None, "all", tmp_path / "manifest.csv")
    fetch("demo", None, None, "all", tmp_path / "manifest.csv")
    assert caplog.text.count("licence MIT") == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.replace("sha256", "md5"), "no column sha256"),
        (lambda text: text.replace(",train,", ",training,", 1), "line 2 has split 'training'"),
        (lambda text: text.replace(",10,", ",wide,", 1), "line 2 is not a line of a manifest"),
        (lambda text: text + "cut,short\n", "another number of fields"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, change, expected):
    manifest = fetch_folder(tmp_path, make_mvtec(tmp_path / "mine"))
    manifest.write_text(change(manifest.read_text()))
    with pytest.raises(InputError, match=f"manifest.csv: .*{expected}|manifest.csv: {expected}"):
        read_rows(manifest)


# ---- prepared arrays


def test_arrays_are_what_a_plain_loop_would_make_whatever_the_threads(tmp_path):
    root = make_mvtec(tmp_path / "mine", train=20)
    manifest = fetch_folder(tmp_path, root)
    for threads in (1, 5):
        prepare(manifest, 12, tmp_path / f"by-{threads}", threads)
    assert contents(tmp_path / "by-1") == contents(tmp_path / "by-5")
    expected = [
        np.asarray(Image.open(manifest.parent / row.image).convert("RGB").resize((12, 12)))
        for row in read_rows(manifest)
        if row.split == "train"
    ]
    np.testing.assert_array_equal(np.load(tmp_path / "by-1" / "train_images.npy"), expected)


def test_validation_images_are_kept_from_training_with_the_test_images(tmp_path):
    root = make_mvtec(tmp_path / "mine")
    picture(root / "bolt/validation/good/000.png")
    prepare(fetch_folder(tmp_path, root), 8, tmp_path / "prepared")
    assert len(np.load(tmp_path / "prepared" / "train_images.npy")) == 2
    assert len(np.load(tmp_path / "prepared" / "test_images.npy")) == 4
    assert [row.split for row in read_rows(tmp_path / "prepared" / "test.csv")].count("validation") == 1


def test_a_part_of_the_training_images_is_held_out(tmp_path):
    root = make_mvtec(tmp_path / "mine", train=10)
    for name in ("once", "again"):
        fetch("mine", str(root), "folder", "all", tmp_path / name / "manifest.csv", hold_out=0.3)
    rows = [read_rows(tmp_path / name / "manifest.csv") for name in ("once", "again")]
    assert rows[0] == rows[1]
    splits = [row.split for row in rows[0]]
    assert (splits.count("train"), splits.count("validation"), splits.count("test")) == (7, 3, 3)


def test_a_second_run_touches_nothing_and_a_changed_file_is_noticed(tmp_path):
    root = make_mvtec(tmp_path / "mine")
    manifest, prepared = fetch_folder(tmp_path, root), tmp_path / "prepared"
    prepare(manifest, 8, prepared)
    times = {path.name: path.stat().st_mtime_ns for path in prepared.iterdir()}
    prepare(manifest, 8, prepared)
    assert times == {path.name: path.stat().st_mtime_ns for path in prepared.iterdir()}
    # a mask is not in the manifest by its content; its time and size are in the key
    area(root / "bolt/ground_truth/bent/000_mask.png", value=254)
    os.utime(root / "bolt/ground_truth/bent/000_mask.png", ns=(1, 1))
    prepare(manifest, 8, prepared)
    assert times["test_masks_standard.npy"] != (prepared / "test_masks_standard.npy").stat().st_mtime_ns
    # another size
    prepare(manifest, 16, prepared)
    assert np.load(prepared / "train_images.npy").shape[1] == 16
    # damage is redone
    (prepared / "train_images.npy").write_bytes((prepared / "train_images.npy").read_bytes()[:-1])
    prepare(manifest, 16, prepared)
    assert np.load(prepared / "train_images.npy").shape == (2, 16, 16, 3)


def test_an_image_that_is_gone_or_changed_after_the_manifest_is_named(tmp_path):
    root = make_mvtec(tmp_path / "mine")
    manifest = fetch_folder(tmp_path, root)
    picture(root / "bolt/train/good/001.png", value=3)
    with pytest.raises(InputError, match="train/good/001.png: changed since its manifest was written"):
        prepare(manifest, 8, tmp_path / "prepared")
    (root / "bolt/train/good/001.png").unlink()
    with pytest.raises(InputError, match="train/good/001.png: no such image"):
        prepare(manifest, 8, tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    root = make_mvtec(tmp_path / "mine", size=(400, 400), train=60)
    manifest = fetch_folder(tmp_path, root)
    prepare(manifest, 300, tmp_path / "whole")
    command = f"from pathlib import Path; from decodiff.stages.prepare import prepare; prepare(Path({str(manifest)!r}), 300, "
    command += f"Path({str(tmp_path / 'killed')!r}), 1)"
    process = subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.DEVNULL)
    partial = tmp_path / ".killed.part" / "train_images.npy"
    while not (partial.is_file() and partial.stat().st_size > 3_000_000) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed").exists()
    # what is there already is not made again: mark it
    size = partial.stat().st_size
    with open(partial, "r+b") as stream:
        stream.seek(200_000)
        stream.write(b"mark")
    prepare(manifest, 300, tmp_path / "killed")
    made, whole = contents(tmp_path / "killed"), contents(tmp_path / "whole")
    assert made["train_images.npy"][200_000:200_004] == b"mark" and size < len(made["train_images.npy"])
    marked = bytearray(made["train_images.npy"])
    marked[200_000:200_004] = whole["train_images.npy"][200_000:200_004]
    made["train_images.npy"] = bytes(marked)
    assert made == whole and not partial.parent.exists()


# ---- the real ones, where they are


SOURCES = os.environ.get("DECODIFF_SOURCES")


@pytest.mark.parametrize(
    ("name", "kind", "counts"),
    [
        ("elpv", "elpv", (1206, 302, 1116)),
        ("mtd", "mtd", (761, 191, 392)),
        ("screw", "folder", (320, 41, 119)),
    ],
)
def test_real_data_sets_have_the_counts_they_are_known_for(tmp_path, name, kind, counts):
    source = None
    if name == "elpv":
        pytest.importorskip("elpv_dataset", reason="needs pip install --editable '.[elpv]'")
    elif SOURCES is None:
        pytest.skip(f"needs DECODIFF_SOURCES, a folder with {name}/ in it")
    else:
        source = f"{SOURCES}/{name}"
    manifest = tmp_path / "manifest.csv"
    fetch(name, source, kind, "all", manifest)
    found = json.loads((tmp_path / "origin.json").read_text())["counts"]
    assert (found["train"], found["test_normal"], found["test_anomalous"]) == counts
    prepare(manifest, 32, tmp_path / "prepared")
    assert len(np.load(tmp_path / "prepared" / "train_images.npy", mmap_mode="r")) == counts[0]
