"""One reader per layout: from a folder on disk to entries of the manifest, files named but not opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from decodiff.data.images import SUFFIXES
from decodiff.errors import InputError
from decodiff.files import read_csv
from decodiff.seeds import numpy_generator

MTD_CATEGORY = "magnetic_tile"
MTD_TRAIN_FRACTION = 0.8
# part of the data set as this project defines it, so no run's seed changes it
MTD_SPLIT_SEED = 0


@dataclass(frozen=True)
class Entry:
    """One image of a data set: absolute paths, ``label`` 0 normal or 1 anomalous, ``mask`` None where there is none."""

    image: Path
    category: str
    split: str
    label: int
    defect: str
    mask: Path | None


Reader = Callable[[Path, tuple[str, ...]], list[Entry]]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _mask_beside(folder: Path, image: Path) -> Path:
    """MVTec calls the mask of ``000.png`` ``000_mask.png``; others call it as the image."""
    suffixes = sorted(SUFFIXES)
    for name in (f"{image.stem}_mask", image.stem):
        for suffix in suffixes:
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    return folder / f"{image.stem}_mask.png"


def read_mvtec(root: Path, categories: tuple[str, ...]) -> list[Entry]:
    """MVTec's layout: ``<category>/train/good``, ``<category>/test/<defect>``, ``<category>/ground_truth/<defect>``.

    A category without a ``ground_truth`` folder has image labels only.
    """
    entries = []
    for category in categories or tuple(path.name for path in _folders(root) if (path / "train").is_dir()):
        base = root / category
        entries += [Entry(path, category, "train", 0, "good", None) for path in _images(base / "train" / "good")]
        for folder in _folders(base / "test"):
            masks = base / "ground_truth" / folder.name
            for path in _images(folder):
                label = int(folder.name != "good")
                mask = _mask_beside(masks, path) if label and (base / "ground_truth").is_dir() else None
                entries.append(Entry(path, category, "test", label, folder.name, mask))
    return entries


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
    """Magnetic Tile as published: ``MT_<kind>/Imgs/*.jpg`` with a ``.png`` mask beside each.

    There is no split: of the tiles free of defects a seeded choice of 80 % trains, the rest is tested.
    """
    free = _images(root / "MT_Free" / "Imgs")
    free = [path for path in free if path.suffix == ".jpg"]
    order = numpy_generator(MTD_SPLIT_SEED, "mtd split").permutation(len(free))
    trained = {free[position] for position in order[: int(MTD_TRAIN_FRACTION * len(free))]}
    entries = [Entry(path, MTD_CATEGORY, "train", 0, "good", None) for path in free if path in trained]
    entries += [Entry(path, MTD_CATEGORY, "test", 0, "good", None) for path in free if path not in trained]
    for folder in _folders(root):
        if folder.name.startswith("MT_") and folder.name != "MT_Free":
            defect = folder.name.removeprefix("MT_").lower()
            pictures = [path for path in _images(folder / "Imgs") if path.suffix == ".jpg"]
            entries += [Entry(path, MTD_CATEGORY, "test", 1, defect, path.with_suffix(".png")) for path in pictures]
    return entries


READERS: dict[str, Reader] = {"mvtec": read_mvtec, "visa": read_visa, "mtd": read_mtd}


def read_layout(layout: str, root: Path, categories: tuple[str, ...]) -> list[Entry]:
    """All entries of a folder under the named layout, in a fixed order.

    Raises:
        InputError: the folder does not exist or holds no image in that layout.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds the data set's categories")
    entries = READERS[layout](root, categories)
    if not entries:
        raise InputError(f"{root}: no image found in the layout {layout!r}; see docs/datasets.md for what it looks like")
    return entries
