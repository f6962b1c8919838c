"""Making the manifest of a data set: every file is opened, and all that is wrong is named."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from decodiff.data.images import as_rgb, decode, decode_mask, mask_area, mask_files, read_bytes
from decodiff.data.layouts import Entry
from decodiff.data.parallel import in_order
from decodiff.data.registry import Counts
from decodiff.data.rows import SPLITS, Row
from decodiff.errors import InputError, printable
from decodiff.files import bytes_sha256, remove, write_text

PROBLEMS_SHOWN = 5
# what stands beside the categories in files of results
RESERVED = ("mean", "recall", "false_positive_rate")
# beside the manifest: what is wrong; what the data set is, for the reader and for the next time
PROBLEMS_FILE, RECORD = "problems.txt", "origin.json"


@dataclass(frozen=True)
class Content:
    """What a data set's files are, wherever they lie: its rows and one checksum.

    ``sha256`` is that of lines, in order, of image, its SHA-256, mask and its SHA-256, with paths relative to the data set's
    own folder. It does not depend on where that folder is, on the split, or on file times.
    """

    rows: list[Row]
    sha256: str


@dataclass(frozen=True)
class _Checked:
    """An entry whose files are in order: its row, and its line of `Content`."""

    row: Row
    line: str


def _mask_digest(mask: Path, image: Path, size: tuple[int, int]) -> str:
    """SHA-256 of an image's mask (of its parts, one after the other). Raises `InputError` when it does not fit the image."""
    if not os.path.exists(mask):  # for a name that no file can have, too
        raise InputError(f"{mask}: no mask for {image}; add it, or remove the image")
    parts = {path: read_bytes(path) for path in mask_files(mask)}
    height, width = mask_area(decode_mask(parts)).shape
    if (width, height) != size:
        raise InputError(
            f"{mask}: mask of {width}×{height} pixels for an image of {size[0]}×{size[1]}; make them the same size"
        )
    return bytes_sha256(b"".join(parts.values()))


def _checked(entry: Entry, root: Path, folder: Path) -> _Checked | str:
    """Open the entry's files; a problem is returned, not raised, so that all of them can be named at once."""
    try:
        content = read_bytes(entry.image)
        image = decode(content, entry.image)
        digest = bytes_sha256(content)
        as_rgb(image, entry.image)
        mask_digest = _mask_digest(entry.mask, entry.image, image.size) if entry.mask is not None else ""
    except InputError as error:
        return str(error)
    row = Row(
        image=os.path.relpath(entry.image, folder),
        category=entry.category,
        split=entry.split,
        label=entry.label,
        defect=entry.defect,
        mask=os.path.relpath(entry.mask, folder) if entry.mask else "",
        width=image.width,
        height=image.height,
        sha256=digest,
    )
    names = [os.path.relpath(path, root) if path else "" for path in (entry.image, entry.mask)]
    return _Checked(row, f"{names[0]}\t{digest}\t{names[1]}\t{mask_digest}\n")


def _is_text(name: str) -> bool:
    """Whether a name can stand in a line of a table."""
    return not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name)


def _set_problems(entries: list[Entry], known: tuple[str, ...], root: Path) -> list[str]:
    """What is wrong with the data set as a whole."""
    found = {entry.category for entry in entries}
    names = {name for entry in entries for name in (entry.category, entry.defect, os.path.relpath(entry.image, root))}
    broken = sorted(name for name in names if not _is_text(name))
    problems = [f"{root}: {name!r} holds a line break or another control character; rename it" for name in broken]
    problems += [
        f"{root}: {name!r} is a column of the results; call the category otherwise" for name in RESERVED if name in found
    ]
    problems += [f"{root}: unknown category {category!r}" for category in sorted(found - set(known))] if known else []
    for category in known or sorted(found):
        splits = {entry.split for entry in entries if entry.category == category}
        if "train" not in splits:
            problems.append(f"{root / category}: no training images for category {category!r}; at least one is needed")
        if "test" not in splits:
            problems.append(f"{root / category}: the test set of category {category!r} is empty; at least one image is needed")
    for entry in entries:
        if entry.split not in SPLITS:
            problems.append(f"{entry.image}: split {entry.split!r}; expected one of {', '.join(SPLITS)}")
        elif entry.split == "train" and entry.label:
            problems.append(f"{entry.image}: an anomalous image in the training set; move it to the test set")
    return problems


def count_images(rows: list[Row]) -> Counts:
    """Numbers of images in the rows of a manifest."""
    found = Counter((row.split, row.label) for row in rows)
    return Counts(found["train", 0], found["test", 0], found["test", 1], found["validation", 0])


def shared_images(rows: list[Row]) -> list[tuple[str, str]]:
    """Pairs of a test image and a training image that are the same file, by content."""
    trained = {row.sha256: row.image for row in rows if row.split == "train"}
    return [(row.image, trained[row.sha256]) for row in rows if row.split == "test" and row.sha256 in trained]


def check_entries(
    entries: list[Entry], known: tuple[str, ...], root: Path, folder: Path, threads: int | None = None
) -> tuple[Content, list[str]]:
    """Open every file of a data set.

    Args:
        entries: what the layout's reader found.
        known: the categories the data set must have; empty takes those found.
        root: folder of the data set.
        folder: where the manifest will lie; its paths are relative to it.
        threads: how many files to open at a time; by default as many as there are cores.

    Returns:
        what was found, and all that is wrong with it, a line each.
    """
    checks = in_order(lambda entry: _checked(entry, root, folder), entries, threads)
    problems, rows, digest = _set_problems(entries, known, root), [], hashlib.sha256()
    for item in tqdm(checks, desc="check images", unit="image", total=len(entries)):
        if isinstance(item, str):
            problems.append(item)
        else:
            rows.append(item.row)
            digest.update(item.line.encode("utf-8", "surrogatepass"))
    return Content(rows, digest.hexdigest()), problems


def refuse(problems: list[str], path: Path) -> None:
    """Raise `InputError` if there are problems: the first ones in its line, all of them in ``path`` if they are more."""
    remove(path)
    if len(problems) > PROBLEMS_SHOWN:
        write_text(path, "".join(f"{printable(problem)}\n" for problem in problems))
        shown = "; ".join(problems[:PROBLEMS_SHOWN])
        raise InputError(f"{shown}; and {len(problems) - PROBLEMS_SHOWN} more, all {len(problems)} are in {path}")
    if problems:
        raise InputError("; ".join(problems))
