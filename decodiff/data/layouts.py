"""One reader per layout: from a folder on disk to entries of the manifest. Images are named, not opened."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from decodiff.data.images import SUFFIXES, mask_area, picture_files, read_mask
from decodiff.errors import InputError
from decodiff.files import read_csv, read_json
from decodiff.seeds import numpy_generator

# the splits this project makes are part of the data sets as it defines them, so no run's seed changes them
SPLIT_SEED = 0
# of the normal images of a data set that comes without a split
TRAIN_FRACTION = 0.8
NORMAL_FOLDERS = ("good", "ok")
REAL_IAD_IMAGES = ("realiad_256", "realiad_512", "realiad_1024", "realiad_raw")


@dataclass(frozen=True)
class Entry:
    """One image of a data set.

    Attributes:
        image: its path.
        category: name of its category.
        split: ``train``, ``test``, or ``validation`` for one that is neither trained on nor tested.
        label: 0 normal, 1 anomalous.
        defect: ``good`` or the kind of defect.
        mask: path of its mask, or of a folder whose pictures together are the mask; ``None`` where there is none.
    """

    image: Path
    category: str
    split: str
    label: int
    defect: str
    mask: Path | None


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk: ``is_root`` tells its folder from one above it, ``read`` lists its images."""

    is_root: Callable[[Path], bool]
    read: Callable[[Path, tuple[str, ...]], list[Entry]]


def pictures_of(folder: Path) -> list[Path]:
    """Image files of a folder, in order; none when there is no such folder."""
    return picture_files(folder) if folder.is_dir() else []


def folders_of(folder: Path) -> list[Path]:
    """Folders in a folder, in order, without hidden ones; none when there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def seeded_choice(paths: list[Path], size: int, name: str) -> set[Path]:
    """``size`` of the paths; the same ones for the same name."""
    order = numpy_generator(SPLIT_SEED, name).permutation(len(paths))
    return {paths[position] for position in order[:size]}


def split_normal(paths: list[Path], category: str, name: str) -> list[Entry]:
    """Normal images of a data set without a split: most of them train, the rest is tested."""
    trained = seeded_choice(paths, int(TRAIN_FRACTION * len(paths)), name)
    return [Entry(path, category, "train", 0, "good", None) for path in paths if path in trained] + [
        Entry(path, category, "test", 0, "good", None) for path in paths if path not in trained
    ]


def mask_beside(folder: Path, image: Path) -> Path:
    """The mask of ``000.png`` is ``000_mask.png``, a picture of the image's name, or a folder of several, named ``000``."""
    for name in (f"{image.stem}_mask", image.stem):
        for suffix in sorted(SUFFIXES):
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    return folder / image.stem if (folder / image.stem).is_dir() else folder / f"{image.stem}_mask.png"


def _mvtec_category(base: Path, category: str) -> list[Entry]:
    entries = []
    for split in ("train", "validation"):
        normal = [folder for folder in folders_of(base / split) if folder.name in NORMAL_FOLDERS]
        entries += [Entry(path, category, split, 0, "good", None) for folder in normal for path in pictures_of(folder)]
    test = base / "test" if (base / "test").is_dir() else base / "test_public"
    truth = test / "ground_truth" if (test / "ground_truth").is_dir() else base / "ground_truth"
    for folder in folders_of(test):
        if folder.name in NORMAL_FOLDERS:
            entries += [Entry(path, category, "test", 0, "good", None) for path in pictures_of(folder)]
        elif folder != truth:
            for path in pictures_of(folder):
                mask = mask_beside(truth / folder.name, path) if truth.is_dir() else None
                entries.append(Entry(path, category, "test", 1, folder.name, mask))
    return entries


def read_mvtec(root: Path, categories: tuple[str, ...]) -> list[Entry]:
    """MVTec's layout: ``<category>/train/good``, ``<category>/test/<defect>``, ``<category>/ground_truth/<defect>``.

    Also its relatives: ``ok`` for ``good``, ``validation/good``, several masks of one image in a folder, ``test_public`` with
    its own ``ground_truth``. A category without ``ground_truth`` has image labels only. A folder that holds ``train`` itself is
    a single category.
    """
    if (root / "train").is_dir():
        return _mvtec_category(root, root.resolve().name)
    found = tuple(path.name for path in folders_of(root) if (path / "train").is_dir())
    # the known ones in their order, and whatever else is there, for the manifest to name
    names = (*categories, *(name for name in found if name not in categories))
    return [entry for category in names for entry in _mvtec_category(root / category, category)]


def _is_mvtec(root: Path) -> bool:
    return (root / "train").is_dir() or any((path / "train").is_dir() for path in folders_of(root))


def read_visa(root: Path, categories: tuple[str, ...]) -> list[Entry]:
    """VisA's layout with its one-class split, ``split_csv/1cls.csv`` (object, split, label, image, mask)."""
    entries = []
    for row in read_csv(root / "split_csv" / "1cls.csv", ("object", "split", "label", "image", "mask")):
        label = int(row["label"] != "normal")
        mask = root / row["mask"] if label and row["mask"] else None
        entries.append(Entry(root / row["image"], row["object"], row["split"], label, "anomaly" if label else "good", mask))
    order = {category: position for position, category in enumerate(categories)}
    return sorted(entries, key=lambda entry: (order.get(entry.category, len(order)), entry.split != "train"))


def read_mtd(root: Path, categories: tuple[str, ...]) -> list[Entry]:
    """Magnetic Tile as published: ``MT_<kind>/Imgs/*.jpg`` with a ``.png`` mask beside each; ``MT_Free`` is normal."""
    (category,) = categories
    pictures = {
        folder.name.removeprefix("MT_").lower(): [path for path in pictures_of(folder / "Imgs") if path.suffix == ".jpg"]
        for folder in folders_of(root)
        if folder.name.startswith("MT_")
    }
    entries = split_normal(pictures.pop("free"), category, "mtd split")
    for defect, paths in pictures.items():
        entries += [Entry(path, category, "test", 1, defect, path.with_suffix(".png")) for path in paths]
    return entries


def read_elpv(root: Path, categories: tuple[str, ...]) -> list[Entry]:
    """ELPV's ``labels.csv``: path, defect probability and kind of cell, separated by blanks, without a header."""
    with open(root / "labels.csv", encoding="utf-8") as stream:
        cells = [line.split() for line in stream if line.strip()]
    entries = []
    for category in categories:
        normal = [root / path for path, probability, kind in cells if kind == category and float(probability) == 0]
        entries += split_normal(normal, category, f"elpv split {category}")
        entries += [
            Entry(root / path, category, "test", 1, f"probability_{float(probability):.2f}", None)
            for path, probability, kind in cells
            if kind == category and float(probability) > 0
        ]
    return entries


def read_ksdd2(root: Path, categories: tuple[str, ...]) -> list[Entry]:
    """KolektorSDD2: ``train`` and ``test`` with ``<number>.png`` and ``<number>_GT.png``; an empty mask means normal.

    Anomalous images of the training set are left out.
    """
    (category,) = categories
    entries = []
    for split in ("train", "test"):
        for path in pictures_of(root / split):
            if path.stem.endswith("_GT"):
                continue
            mask = path.with_name(f"{path.stem}_GT.png")
            label = int(mask_area(read_mask(mask)).any())
            if split == "test" or not label:
                entries.append(Entry(path, category, split, label, "defect" if label else "good", mask if label else None))
    return entries


def read_real_iad(root: Path, categories: tuple[str, ...]) -> list[Entry]:
    """Real-IAD: ``realiad_jsons/<category>.json`` with the split, images and masks below ``realiad_<size>/<category>``."""
    lists = root / "realiad_jsons"
    if (lists / "realiad_jsons").is_dir():  # as the archive unpacks
        lists = lists / "realiad_jsons"
    images = next((root / name for name in REAL_IAD_IMAGES if (root / name).is_dir()), None)
    if images is None:
        raise InputError(f"{root}: no folder of images ({', '.join(REAL_IAD_IMAGES)}); unpack one of them there")
    entries = []
    for category in categories:
        path = lists / f"{category}.json"
        content = read_json(path)
        try:
            base, normal = images / content["meta"]["prefix"], content["meta"]["normal_class"]
            for split in ("train", "test"):
                for item in content[split]:
                    if not isinstance(item["anomaly_class"], str):
                        raise TypeError("anomaly_class is no text")
                    label = int(item["anomaly_class"] != normal)
                    mask = base / item["mask_path"] if label and item["mask_path"] else None
                    defect = item["anomaly_class"] if label else "good"
                    entries.append(Entry(base / item["image_path"], category, split, label, defect, mask))
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: not a list of Real-IAD ({error!r}); get it again") from error
    return entries


def read_list(path: Path, _categories: tuple[str, ...]) -> list[Entry]:
    """A CSV of the user's own: image, split, category, label (0 normal, 1 anomalous), and if wanted mask and defect.

    Paths are relative to the CSV's folder.

    Raises:
        InputError: one line that names every wrong line of the CSV.
    """
    entries, problems = [], []
    for line, row in enumerate(read_csv(path, ("image", "split", "category", "label")), start=2):
        if not row["image"] or not row["category"]:
            problems.append(f"line {line} has no image or no category")
        elif row["label"] not in ("0", "1"):
            problems.append(f"line {line} has label {row['label']!r}, expected 0 (normal) or 1 (anomalous)")
        else:
            label, mask = int(row["label"]), row.get("mask")
            defect = (row.get("defect") or "anomaly") if label else "good"
            found = path.parent / mask if mask and label else None
            entries.append(Entry(path.parent / row["image"], row["category"], row["split"], label, defect, found))
    if problems:
        raise InputError(f"{path}: {'; '.join(problems)}")
    return entries


LAYOUTS: dict[str, Layout] = {
    "mvtec": Layout(_is_mvtec, read_mvtec),
    "visa": Layout(lambda root: (root / "split_csv" / "1cls.csv").is_file(), read_visa),
    "mtd": Layout(lambda root: (root / "MT_Free").is_dir(), read_mtd),
    "elpv": Layout(lambda root: (root / "labels.csv").is_file(), read_elpv),
    "ksdd2": Layout(lambda root: (root / "train").is_dir() and (root / "test").is_dir(), read_ksdd2),
    "real_iad": Layout(lambda root: (root / "realiad_jsons").is_dir(), read_real_iad),
    "csv": Layout(lambda root: root.suffix.lower() == ".csv" and root.is_file(), read_list),
}


def installed_folder(package: str, folder: str) -> Path | None:
    """A folder of an installed Python package, found without importing it; ``None`` when the package is not there."""
    found = importlib.util.find_spec(package)
    return Path(found.submodule_search_locations[0]) / folder if found and found.submodule_search_locations else None


def find_root(layout: str, folder: Path) -> Path:
    """The data set's folder: the given one, or the one folder right below it that looks like it, as archives often have.

    Raises:
        InputError: there is none, or there are several.
    """
    is_root = LAYOUTS[layout].is_root
    if is_root(folder):
        return folder
    below = [path for path in folders_of(folder) if is_root(path)]
    if len(below) > 1:
        raise InputError(f"{folder}: several data sets in it ({', '.join(path.name for path in below)}); give one of them")
    if not below:
        raise InputError(f"{folder}: nothing in the layout {layout!r}; docs/datasets.md shows what it looks like")
    return below[0]


def read_layout(layout: str, root: Path, categories: tuple[str, ...]) -> list[Entry]:
    """All entries of a data set's folder (of a list's file) under the named layout, in a fixed order.

    Raises:
        InputError: it holds no image in that layout.
    """
    entries = LAYOUTS[layout].read(root, categories)
    if not entries:
        raise InputError(f"{root}: no image in the layout {layout!r}; docs/datasets.md shows what it looks like")
    return entries


def left_out(entries: list[Entry], fraction: float, name: str) -> list[Entry]:
    """Turn a seeded ``fraction`` of each category's training images into validation images.

    Of N images the nearest whole number to ``fraction · N`` is taken, halves to the even one.
    """
    chosen: set[Path] = set()
    for category in dict.fromkeys(entry.category for entry in entries):
        paths = [entry.image for entry in entries if entry.category == category and entry.split == "train"]
        chosen |= seeded_choice(paths, round(fraction * len(paths)), f"{name} {category}")
    return [replace(entry, split="validation") if entry.image in chosen else entry for entry in entries]
