"""Images as people keep them: in MVTec's layout, loose, in folders by defect, or beside a folder of masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from decodiff.data.images import SUFFIXES, mask_area, read_mask
from decodiff.data.layouts import (
    LAYOUTS,
    NORMAL_FOLDERS,
    Entry,
    folders_of,
    mask_beside,
    pictures_of,
    read_layout,
    seeded_choice,
    split_normal,
)
from decodiff.data.registry import REGISTRY
from decodiff.errors import InputError

# names of folders, in any case
NORMAL = (*NORMAL_FOLDERS, "normal")
MASKS = ("masks", "mask", "ground_truth", "gt")
# ends of the names of masks that lie among the images
MASK_ENDS = ("_mask", "_gt")
KNOWN = (
    "known are a folder of normal images, one with a folder `good` and a folder for every kind of defect, one with folders "
    "`images` and `masks`, folders of these kinds for several categories, and MVTec's layout (docs/datasets.md)"
)


@dataclass(frozen=True)
class OwnImages:
    """What a folder holds.

    Attributes:
        layout: ``mvtec``, or ``csv`` for what only a list can tell, as `decodiff.data.layouts.LAYOUTS` has them.
        how: in words, how the images lie there.
        entries: the images, split.
    """

    layout: str
    how: str
    entries: list[Entry]


def _is_named(folder: Path, names: tuple[str, ...]) -> bool:
    return folder.name.lower() in names


def _holds_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))


def _is_sorted(base: Path) -> bool:
    return any(_is_named(folder, (*NORMAL, *MASKS)) for folder in folders_of(base))


def _checked_pictures(folder: Path) -> list[Path]:
    """Images of a folder. Raises `InputError` when some of them seem to be masks of others."""
    found: dict[str, Path] = {}
    for path in sorted(pictures_of(folder), key=lambda path: (len(path.stem), path.name)):
        stem = path.stem.lower()
        names = [stem, *(stem.removesuffix(end) for end in MASK_ENDS)]
        if image := next((found[name] for name in names if name in found), None):
            raise InputError(
                f"{folder}: {path.name} has the name of {image.name}, as a mask has; put masks into a folder `masks` beside "
                "the images, and of two files of one image remove one"
            )
        found[stem] = path
    return sorted(found.values())


def _by_folder(base: Path, category: str, normal: list[Path], others: list[Path], truth: Path | None) -> list[Entry]:
    """Images in folders ``good``, ``<defect>`` and so on, with masks as in MVTec's layout if there is a folder of them."""
    if loose := pictures_of(base):
        raise InputError(f"{base}: {loose[0].name} lies beside the folders; put it into {normal[0].name} or that of its defect")
    entries = split_normal([path for folder in normal for path in _checked_pictures(folder)], category, f"own {category}")
    for folder in others:
        images = _checked_pictures(folder)
        if not images:
            raise InputError(f"{folder}: no image in it; the folders beside {normal[0].name} hold a kind of defect each")
        masks = truth / folder.name if truth and (truth / folder.name).is_dir() else truth
        for path in images:
            mask = mask_beside(masks, path) if masks else None
            entries.append(Entry(path, category, "test", 1, folder.name, mask))
    return entries


def _by_mask(images: Path, category: str, truth: Path) -> list[Entry]:
    """Images with a folder of masks: an image is anomalous when it has a mask that marks something."""
    normal, anomalous, used = [], [], set()
    for path in _checked_pictures(images):
        mask = mask_beside(truth, path)
        used.add(mask)
        if mask.exists() and mask_area(read_mask(mask)).any():
            anomalous.append(Entry(path, category, "test", 1, "anomaly", mask))
        else:
            normal.append(path)
    if unused := [path.name for path in (*pictures_of(truth), *folders_of(truth)) if path not in used]:
        raise InputError(
            f"{truth}: {len(unused)} masks of no image in {images}, first {unused[0]}; the mask of 000.png is 000.png or "
            "000_mask.png"
        )
    return [*split_normal(normal, category, f"own {category}"), *anomalous]


def _category(base: Path, category: str) -> tuple[str, list[Entry]]:
    """How the images of one category lie in its folder, and what they are."""
    found = folders_of(base)
    truth = next((folder for folder in found if _is_named(folder, MASKS)), None)
    normal = [folder for folder in found if _is_named(folder, NORMAL)]
    others = [folder for folder in found if folder != truth and folder not in normal]
    if normal:
        return "in folders by defect", _by_folder(base, category, normal, others, truth)
    if truth is None:
        if other := next(filter(_holds_pictures, others), None):
            raise InputError(f"{base}: images in it and in its folder {other.name}; {KNOWN}")
        return "loose", split_normal(_checked_pictures(base), category, f"own {category}")
    places = [folder for folder in (base, *others) if pictures_of(folder)]
    if len(places) != 1:
        names = ", ".join(folder.name for folder in places) or "none"
        raise InputError(f"{base}: one folder of images beside {truth.name} expected, found {names}; {KNOWN}")
    return "with a folder of masks", _by_mask(places[0], category, truth)


def read_own(root: Path) -> OwnImages:
    """Find out how images lie in a folder, and what they are. Only masks are opened.

    Of normal images without a split most train and the rest is tested, a choice that the category's name decides.

    Raises:
        InputError: one line, when the folder holds no image or lies as none of the known ones does.
    """
    if not root.is_dir():
        what = "a file" if root.exists() else "not there"
        raise InputError(f"{root}: {what}; expected a folder of images")
    if LAYOUTS["mvtec"].is_root(root):
        return OwnImages("mvtec", "in MVTec's layout", read_layout("mvtec", root, ()))
    for name, dataset in REGISTRY.items():
        if LAYOUTS[dataset.layout].is_root(root):
            raise InputError(
                f"{root}: in the layout of {dataset.title}, which is known by name; give it as data.{name}.source in a "
                "configuration (docs/datasets.md)"
            )
    if pictures_of(root) or _is_sorted(root):
        bases = [root]
    else:
        bases = [folder for folder in folders_of(root) if _is_sorted(folder) or pictures_of(folder)]
        unknown = [folder.name for folder in bases if not _is_sorted(folder)]
        if unknown:
            raise InputError(
                f"{root}: it cannot be told whether {', '.join(unknown[:5])} are categories or kinds of defects; call the "
                "folder of normal images `good`, of several categories in each one's own folder"
            )
    if not bases:
        raise InputError(f"{root}: no image in it ({', '.join(sorted(SUFFIXES))}); {KNOWN}")
    read = [_category(base, base.resolve().name) for base in bases]
    entries = [entry for _, found in read for entry in found]
    if not entries:
        raise InputError(f"{root}: no image in its folders; {KNOWN}")
    return OwnImages("csv", " and ".join(dict.fromkeys(how for how, _ in read)), entries)


def only_normal(entries: list[Entry]) -> list[Entry]:
    """A data set without anomalous images, for defects to be made in: all but validation images train, but for one image.

    That is the test image that every category must have; a data set made of this one does not look at it.
    """
    others = [entry for entry in entries if entry.split != "validation"]
    tested: set[Path] = set()
    for category in dict.fromkeys(entry.category for entry in others):
        tested |= seeded_choice([entry.image for entry in others if entry.category == category], 1, f"own {category} tested")
    splits = {entry.image: "test" if entry.image in tested else "train" for entry in others}
    return [replace(entry, split=splits.get(entry.image, "validation")) for entry in entries]
