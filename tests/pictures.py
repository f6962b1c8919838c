"""Small data sets on disk, in the structures that published ones have, and archives of them."""

import csv
import json
import math
import tarfile
import zipfile

import numpy as np
from PIL import Image, ImageDraw

# of a picture of a nail
GROUND, STEEL, MARK = (200, 205, 210), (90, 80, 70), (250, 60, 60)


def picture(path, size=(10, 8), value=None, mode="RGB"):
    """Write an image: of one value, or of noise that its path decides, so that no two files are the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if value is None:
        shape = (size[1], size[0], 3)
        random = np.random.default_rng(list(str(path).encode()))
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).convert(mode).save(path)
    else:
        Image.new(mode, size, value if mode == "L" else (value,) * 3).save(path)
    return path


def area(path, size=(10, 8), value=255):
    """Write a mask with a rectangle of ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    mask[2:4, 3:6] = value
    Image.fromarray(mask).save(path)
    return path


def make_mvtec(root, categories=("bolt",), normal="good", defect="bent", suffix=".png", size=(10, 8), train=2):
    """Each category with training images, two normal test images and an anomalous one with a mask."""
    for category in categories:
        base = root / category
        for index in range(train):
            picture(base / "train" / normal / f"{index:03d}{suffix}", size)
        for index in range(2):
            picture(base / "test" / normal / f"{index:03d}{suffix}", size)
        picture(base / "test" / defect / f"000{suffix}", size, value=10)
        area(base / "ground_truth" / defect / "000_mask.png", size)
    return root


def make_visa(root, categories):
    """Of each category a training image, a normal and an anomalous test image; masks hold class numbers."""
    lines = []
    for category in reversed(categories):
        for split, label, name in (("train", "normal", "a"), ("test", "normal", "b"), ("test", "anomaly", "c")):
            image = f"{category}/Data/Images/{label.capitalize()}/{name}.JPG"
            picture(root / image)
            mask = f"{category}/Data/Masks/Anomaly/{name}.png" if label == "anomaly" else ""
            if mask:
                area(root / mask, value=3)
            lines.append([category, split, label, image, mask])
    (root / "split_csv").mkdir()
    with open(root / "split_csv" / "1cls.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["object", "split", "label", "image", "mask"], *lines])
    return root


def make_btad(root, categories):
    """BTAD's own names: ``ok`` and ``ko``, one folder down, bitmaps in two of three categories, masks of the image's name."""
    for category in categories:
        base = root / "BTech_Dataset_transformed" / category
        suffix = ".png" if category == "02" else ".bmp"
        for folder, count in (("train/ok", 2), ("test/ok", 2), ("test/ko", 1)):
            for index in range(count):
                picture(base / folder / f"{index:04d}{suffix}")
        area(base / "ground_truth" / "ko" / ("0000.bmp" if category == "03" else "0000.png"))
    return root


def make_loco(root, categories):
    """Validation images, two kinds of anomalies, and several masks of one image in a folder of its name."""
    for category in categories:
        base = root / category
        for folder in ("train/good", "validation/good", "test/good", "test/logical_anomalies", "test/structural_anomalies"):
            picture(base / folder / "000.png")
        for defect in ("logical_anomalies", "structural_anomalies"):
            for part in range(2):
                mask = np.zeros((8, 10), np.uint8)
                mask[part * 4 : part * 4 + 2] = 250 + part
                path = base / "ground_truth" / defect / "000" / f"{part:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(path)
    return root


def make_ad_2(root, categories):
    """``test_public`` with its own ground truth, and private test sets that have none."""
    for category in categories:
        base = root / category
        folders = ("train/good", "validation/good", "test_public/good", "test_public/bad", "test_private", "test_private_mixed")
        for folder in folders:
            picture(base / folder / "000_regular.png")
        area(base / "test_public" / "ground_truth" / "bad" / "000_regular_mask.png")
    return root


def make_real_iad(root, categories):
    for category in categories:
        base = root / "realiad_512" / category
        listed = {"meta": {"normal_class": "OK", "prefix": f"{category}/"}, "train": [], "test": []}
        for split, kind, folder in (("train", "OK", "OK/S0001"), ("test", "OK", "OK/S0002"), ("test", "AK", "NG/AK/S0003")):
            name = f"{folder}/{category}_C1.jpg"
            picture(base / name)
            mask = f"{folder}/{category}_C1.png" if kind != "OK" else None
            if mask:
                area(base / mask)
            listed[split].append({"category": category, "anomaly_class": kind, "image_path": name, "mask_path": mask})
        path = root / "realiad_jsons" / "realiad_jsons" / f"{category}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(listed))
    return root


def make_ksdd2(root, _categories):
    """Two normal and an anomalous image in each set; every image has a mask."""
    for split, first in (("train", 10000), ("test", 20000)):
        for index in range(3):
            picture(root / split / f"{first + index}.png")
            area(root / split / f"{first + index}_GT.png", value=255 if index == 2 else 0)
    return root


def tar_of(root, path, mode="w:gz", extra=None):
    with tarfile.open(path, mode) as archive:
        for item in sorted(root.iterdir()):
            archive.add(item, arcname=item.name)
        if extra is not None:
            archive.addfile(*extra)
    return path


def zip_of(root, path, extra=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in sorted(root.rglob("*")):
            archive.write(item, item.relative_to(root))
        if extra is not None:
            archive.writestr(*extra)
    return path


def nail(angle, moved, size=(160, 120), mark=(30, 4), scale=4):
    """A nail, its head to the right at angle 0 and with a red mark at a place of its own, clockwise by ``angle``; its mask."""
    image = Image.new("RGB", [scale * side for side in size], GROUND)
    mask = Image.new("L", image.size)
    cosine, sine = math.cos(angle), math.sin(angle)

    def place(x, y):
        at = size[0] / 2 + moved[0] + cosine * x - sine * y, size[1] / 2 + moved[1] + sine * x + cosine * y
        return tuple(scale * value for value in at)

    def box(left, top, right, bottom):
        return [place(*corner) for corner in ((left, top), (right, top), (right, bottom), (left, bottom))]

    draw = ImageDraw.Draw(image)
    draw.polygon(box(-40, -5, 30, 5), fill=STEEL)
    draw.polygon(box(30, -12, 40, 12), fill=STEEL)
    marked = box(mark[0] - 9, mark[1] - 4, mark[0] - 1, mark[1] + 1)
    draw.polygon(marked, fill=MARK)
    ImageDraw.Draw(mask).polygon(marked, fill=255)
    return image.resize(size, Image.Resampling.BOX), mask.resize(size, Image.Resampling.NEAREST)
