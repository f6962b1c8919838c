"""Data: layouts, manifests, images as a person sees them, downloads from a real server, and every kind of bad input."""

import csv
import http.server
import io
import tarfile
import threading
from functools import partial
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from decodiff.data.download import download, unpack
from decodiff.data.images import read_mask, read_rgb
from decodiff.data.layouts import read_layout
from decodiff.data.manifest import make_manifest, read_rows
from decodiff.data.registry import REGISTRY, DataSet
from decodiff.errors import InputError
from decodiff.stages.fetch import fetch
from decodiff.stages.prepare import prepare, resized_mask


def picture(path, size=(10, 8), value=120, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(path)
    return path


def make_mvtec(root, category="bolt"):
    """A category with two training and three test images, one of them anomalous with a mask."""
    for index in range(2):
        picture(root / category / "train" / "good" / f"{index:03d}.png", value=100 + index)
        picture(root / category / "test" / "good" / f"{index:03d}.png", value=110 + index)
    picture(root / category / "test" / "bent" / "000.png", value=10)
    mask = np.zeros((8, 10), dtype=np.uint8)
    mask[2:4, 3:6] = 255
    (root / category / "ground_truth" / "bent").mkdir(parents=True)
    Image.fromarray(mask).save(root / category / "ground_truth" / "bent" / "000_mask.png")
    return root


def fetch_folder(tmp_path, root):
    manifest = tmp_path / "out" / "manifest.csv"
    fetch("folder", str(root), manifest)
    return manifest


# ---- layouts and manifests


def test_mvtec_layout_to_manifest_to_arrays(tmp_path):
    root = make_mvtec(tmp_path / "mine")
    manifest = fetch_folder(tmp_path, root)
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


def test_a_folder_without_masks_is_allowed(tmp_path):
    root = make_mvtec(tmp_path / "mine")
    (root / "bolt/ground_truth/bent/000_mask.png").unlink()
    (root / "bolt/ground_truth/bent").rmdir()
    (root / "bolt/ground_truth").rmdir()
    assert not any(row.mask for row in read_rows(fetch_folder(tmp_path, root)))


def test_visa_layout(tmp_path):
    categories = ("candle", "pcb1")
    (tmp_path / "split_csv").mkdir()
    with open(tmp_path / "split_csv" / "1cls.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["object", "split", "label", "image", "mask"])
        for category in reversed(categories):
            for split, label, name in (("train", "normal", "a"), ("test", "normal", "b"), ("test", "anomaly", "c")):
                image = f"{category}/Data/Images/{label}/{name}.JPG"
                picture(tmp_path / image)
                mask = f"{category}/Data/Masks/Anomaly/{name}.png" if label == "anomaly" else ""
                if mask:
                    path = tmp_path / mask
                    path.parent.mkdir(parents=True)
                    Image.fromarray(np.array([[0, 1], [3, 0]], np.uint8).repeat(4, 0).repeat(5, 1)).save(path)
                writer.writerow([category, split, label, image, mask])
    entries = read_layout("visa", tmp_path, categories)
    assert [entry.category for entry in entries] == ["candle"] * 3 + ["pcb1"] * 3
    rows = make_manifest(entries, categories, tmp_path, tmp_path / "out" / "manifest.csv")
    assert [row.label for row in rows] == [0, 0, 1] * 2
    mask = np.asarray(read_mask(tmp_path / "candle/Data/Masks/Anomaly/c.png"))
    assert (mask > 0).mean() == 0.5, "every class above 0 is anomalous"


def test_magnetic_tile_layout_splits_the_free_tiles_the_same_way_each_time(tmp_path):
    for kind, count in (("Free", 10), ("Crack", 2), ("Fray", 1)):
        for index in range(count):
            picture(tmp_path / f"MT_{kind}/Imgs/exp1_num_{index}.jpg", mode="L")
            picture(tmp_path / f"MT_{kind}/Imgs/exp1_num_{index}.png", mode="L", value=0)
    entries = read_layout("mtd", tmp_path, ("magnetic_tile",))
    assert entries == read_layout("mtd", tmp_path, ("magnetic_tile",))
    counts = {(entry.split, entry.defect): 0 for entry in entries}
    for entry in entries:
        counts[entry.split, entry.defect] += 1
        assert entry.image.suffix == ".jpg" and (entry.mask is None) == (entry.label == 0)
    assert counts == {("train", "good"): 8, ("test", "good"): 2, ("test", "crack"): 2, ("test", "fray"): 1}


# ---- bad input: one line that names the file


def damage_truncate(root):
    path = root / "bolt/test/good/001.png"
    path.write_bytes(path.read_bytes()[:40])
    return "test/good/001.png: not a whole image"


def damage_text(root):
    (root / "bolt/train/good/000.png").write_text("not an image")
    return "train/good/000.png: not a whole image"


def damage_mask_size(root):
    picture(root / "bolt/ground_truth/bent/000_mask.png", size=(5, 8), mode="L", value=255)
    return "000_mask.png: mask of 5×8 pixels for an image of 10×8"


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


@pytest.mark.parametrize(
    "damage",
    [damage_truncate, damage_text, damage_mask_size, damage_no_mask, damage_no_training, damage_no_test],
)
def test_a_damaged_data_set_is_refused_by_name(tmp_path, damage):
    root = make_mvtec(tmp_path / "mine")
    expected = damage(root)
    with pytest.raises(InputError, match=expected) as error:
        fetch_folder(tmp_path, root)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "manifest.csv").exists(), "nothing half-made is left"


def test_all_problems_are_named_at_once(tmp_path):
    root = make_mvtec(tmp_path / "mine")
    damage_truncate(root), damage_mask_size(root)
    with pytest.raises(InputError, match="mask of 5×8.*001.png: not a whole image"):
        fetch_folder(tmp_path, root)


def test_an_image_that_vanished_after_the_manifest_is_named(tmp_path):
    root = make_mvtec(tmp_path / "mine")
    manifest = fetch_folder(tmp_path, root)
    (root / "bolt/train/good/001.png").unlink()
    with pytest.raises(InputError, match="train/good/001.png: no such image"):
        prepare(manifest, 8, tmp_path / "prepared")
    assert not (tmp_path / "prepared" / "train_images.npy").exists()


@pytest.mark.parametrize(("source", "expected"), [(None, "not set"), ("nowhere", "no folder or archive nowhere")])
def test_a_data_set_that_must_be_got_by_hand_says_where(tmp_path, source, expected):
    with pytest.raises(InputError, match=f"data.mtd.source: {expected}.*github.com/abin24"):
        fetch("mtd", source, tmp_path / "manifest.csv")


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


# ---- images


def test_images_load_as_a_person_sees_them(tmp_path):
    colour = np.zeros((4, 6, 3), np.uint8)
    colour[:, :3] = 200, 100, 50
    plain = Image.fromarray(colour)
    plain.save(tmp_path / "rgb.png")
    plain.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    plain.convert("RGBA").save(tmp_path / "alpha.png")
    for name in ("palette", "alpha"):
        np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / f"{name}.png")), colour)
    deep = (np.arange(24).reshape(4, 6) * 2800).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    shown = np.asarray(read_rgb(tmp_path / "deep.png"))[..., 0]
    np.testing.assert_allclose(shown, deep / 65535 * 255, atol=0.51)
    turned = Image.fromarray(colour)
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera lay on its side
    turned.save(tmp_path / "turned.png", exif=exif)
    assert read_rgb(tmp_path / "turned.png").size == (4, 6)


def test_smoothed_masks_end_at_half_and_class_masks_above_zero(tmp_path):
    Image.fromarray(np.array([[0, 60, 200, 255]], np.uint8)).save(tmp_path / "smooth.png")
    Image.fromarray(np.array([[0, 1, 4, 0]], np.uint8)).save(tmp_path / "classes.png")
    assert np.asarray(read_mask(tmp_path / "smooth.png")).tolist() == [[0, 0, 255, 255]]
    assert np.asarray(read_mask(tmp_path / "classes.png")).tolist() == [[0, 255, 255, 0]]


def test_the_reference_protocol_grows_small_defects_and_the_standard_one_does_not():
    mask = np.zeros((64, 64), np.uint8)
    mask[20:30, 20:30] = 255
    image = Image.fromarray(mask)
    standard, reference = (resized_mask(image, 48, protocol) for protocol in ("standard", "reference"))
    true_area = 100 * (48 / 64) ** 2
    assert abs(standard.sum() - true_area) < 0.15 * true_area
    assert reference.sum() > 1.1 * standard.sum()
    assert (reference >= standard).all()


# ---- downloads, from a real server


@pytest.fixture
def server(tmp_path):
    """Serves ``tmp_path/served`` on 127.0.0.1; yields its address."""
    (tmp_path / "served").mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def archive_of(root, path, extra=None):
    with tarfile.open(path, "w:gz") as tar:
        tar.add(root, arcname=".")
        if extra is not None:
            tar.addfile(*extra)
    return sha256(path.read_bytes()).hexdigest()


def served_data_set(tmp_path, server, **changes):
    checksum = archive_of(make_mvtec(tmp_path / "mine"), tmp_path / "served" / "bolts.tar.gz")
    values = {
        "title": "Bolts",
        "layout": "mvtec",
        "origin": "archive",
        "licence": "none",
        "citation": "none",
        "homepage": "http://127.0.0.1/bolts",
        "mirrors": (f"{server}/gone.tar.gz", f"{server}/bolts.tar.gz"),
        "sha256": checksum,
        "categories": ("bolt",),
    }
    return DataSet(**{**values, **changes})


def test_a_data_set_is_downloaded_from_the_second_mirror_when_the_first_is_gone(tmp_path, server, monkeypatch):
    monkeypatch.setitem(REGISTRY, "bolts", served_data_set(tmp_path, server))
    manifest = tmp_path / "data" / "bolts" / "manifest.csv"
    fetch("bolts", None, manifest)
    assert len(read_rows(manifest)) == 5


def test_a_wrong_checksum_is_refused_and_nothing_is_unpacked(tmp_path, server, monkeypatch):
    monkeypatch.setitem(REGISTRY, "bolts", served_data_set(tmp_path, server, sha256="0" * 64))
    with pytest.raises(InputError, match="bolts.tar.gz: served another file than expected.*data.bolts.source"):
        fetch("bolts", None, tmp_path / "data" / "manifest.csv")
    assert not (tmp_path / "data" / "images").exists()


def test_a_host_that_cannot_be_reached_is_one_clear_line(tmp_path):
    dataset = served_data_set_without_server()
    with pytest.raises(InputError, match="cannot be reached .*; get it from .* and set data.bolts.source") as error:
        download("bolts", dataset, tmp_path)
    assert "\n" not in str(error.value)


def served_data_set_without_server():
    # a port on which nothing listens
    return DataSet("Bolts", "mvtec", "archive", "", "", "http://127.0.0.1/", ("http://127.0.0.1:9/bolts.tar",), "0" * 64)


def evil_members():
    outside = tarfile.TarInfo("../outside.txt")
    outside.size = 4
    link = tarfile.TarInfo("bolt/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("bolt/device")
    device.type = tarfile.CHRTYPE
    return {"outside": (outside, io.BytesIO(b"evil")), "link": (link, None), "device": (device, None)}


@pytest.mark.parametrize("kind", ["outside", "link", "device"])
def test_an_archive_cannot_leave_its_folder(tmp_path, kind):
    archive_of(make_mvtec(tmp_path / "mine"), tmp_path / "evil.tar.gz", extra=evil_members()[kind])
    with pytest.raises(InputError, match="evil.tar.gz: cannot be unpacked"):
        unpack(tmp_path / "evil.tar.gz", tmp_path / "data" / "images")
    assert not (tmp_path / "data" / "images").exists() and not (tmp_path / "data" / "outside.txt").exists()


def test_a_cut_off_archive_is_refused_whole(tmp_path):
    path = tmp_path / "cut.tar.gz"
    archive_of(make_mvtec(tmp_path / "mine"), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 5])
    with pytest.raises(InputError, match="cut.tar.gz: cannot be unpacked"):
        unpack(path, tmp_path / "images")
    assert not (tmp_path / "images").exists()
