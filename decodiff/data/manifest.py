"""The manifest of a data set: the only thing that later stages read of its origin."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from decodiff.data.images import as_rgb, decode, join_masks, mask_files, read_bytes
from decodiff.data.layouts import Entry
from decodiff.data.parallel import in_order
from decodiff.errors import InputError
from decodiff.files import bytes_sha256, csv_rows, read_csv, remove, write_csv, write_text


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the manifest; paths are relative to the manifest's folder.

    Attributes:
        image, mask: paths; ``mask`` is empty where there is none, and a folder where several pictures make it up.
        category: name of the category.
        split: ``train``, ``test``, or ``validation`` for what is neither trained on nor tested.
        label: 0 normal, 1 anomalous.
        defect: ``good`` or the kind of defect.
        width, height: of the image, in pixels.
        sha256: of the image file.
    """

    image: str
    category: str
    split: str
    label: int
    defect: str
    mask: str
    width: int
    height: int
    sha256: str


COLUMNS = tuple(field.name for field in fields(Row))
# what a column's text is turned into; of words that recur one copy is kept
_KINDS = {"label": int, "width": int, "height": int, "category": sys.intern, "split": sys.intern, "defect": sys.intern}
SPLITS = ("train", "test", "validation")
POSITION = "position"
PROBLEMS_SHOWN = 5
PROBLEMS_FILE = "problems.txt"


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


def _mask_digest(entry: Entry, size: tuple[int, int]) -> str:
    """SHA-256 of the entry's mask (of its parts, one after the other). Raises `InputError` when it does not fit the image."""
    if not entry.mask.exists():
        raise InputError(f"{entry.mask}: no mask for {entry.image}; add it, or remove the image")
    parts = [(path, read_bytes(path)) for path in mask_files(entry.mask)]
    mask = join_masks(parts)
    if mask.size != size:
        raise InputError(
            f"{entry.mask}: mask of {mask.width}×{mask.height} pixels for an image of {size[0]}×{size[1]}; "
            "make them the same size"
        )
    return bytes_sha256(b"".join(content for _, content in parts))


def _checked(entry: Entry, root: Path, folder: Path) -> _Checked | str:
    """Open the entry's files; a problem is returned, not raised, so that all of them can be named at once."""
    try:
        content = read_bytes(entry.image)
        image = decode(content, entry.image)
        digest = bytes_sha256(content)
        as_rgb(image, entry.image)
        mask_digest = _mask_digest(entry, image.size) if entry.mask is not None else ""
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


def _set_problems(entries: list[Entry], known: tuple[str, ...], root: Path) -> list[str]:
    """What is wrong with the data set as a whole."""
    found = {entry.category for entry in entries}
    problems = [f"{root}: unknown category {category!r}" for category in sorted(found - set(known))] if known else []
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
            digest.update(item.line.encode())
    return Content(rows, digest.hexdigest()), problems


def refuse(problems: list[str], path: Path) -> None:
    """Raise `InputError` if there are problems: the first ones in its line, all of them in ``path`` if they are more."""
    remove(path)
    if len(problems) > PROBLEMS_SHOWN:
        write_text(path, "".join(f"{problem}\n" for problem in problems))
        shown = "; ".join(problems[:PROBLEMS_SHOWN])
        raise InputError(f"{shown}; and {len(problems) - PROBLEMS_SHOWN} more, all {len(problems)} are in {path}")
    if problems:
        raise InputError("; ".join(problems))


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    write_csv(path, COLUMNS, map(asdict, rows))


def read_rows(path: Path) -> list[Row]:
    """Read a manifest, or a part of one in the order of an array.

    Raises:
        InputError: the file is unreadable, or a value is not of its kind.
    """
    rows = []
    for line, values in enumerate(csv_rows(path, COLUMNS), start=2):
        try:
            row = Row(**{name: _KINDS.get(name, str)(values[name]) for name in COLUMNS})
        except ValueError as error:
            raise InputError(f"{path}: line {line} is not a line of a manifest ({error}); make it again") from error
        if row.split not in SPLITS or row.label not in (0, 1):
            raise InputError(
                f"{path}: line {line} has split {row.split!r} and label {row.label}; expected {', '.join(SPLITS)}; 0 or 1"
            )
        rows.append(row)
    return rows


def write_positions(path: Path, chosen: Iterable[tuple[int, Row]]) -> None:
    """Write some of the rows of a prepared split, each with its position in the split's arrays."""
    write_csv(path, (POSITION, *COLUMNS), ({POSITION: position, **asdict(row)} for position, row in chosen))


def read_positions(path: Path) -> tuple[np.ndarray, list[Row]]:
    """What `write_positions` wrote: positions int64 ``[N]`` and rows. Raises `InputError` when the file is damaged."""
    try:
        positions = np.array([int(values[POSITION]) for values in read_csv(path, (POSITION,))], dtype=np.int64)
    except ValueError as error:
        raise InputError(f"{path}: a position is not a number ({error}); correct the images again") from error
    return positions, read_rows(path)
