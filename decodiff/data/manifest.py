"""The manifest of a data set: the only thing that later stages read of its origin."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from decodiff.data.images import open_image
from decodiff.data.layouts import Entry
from decodiff.errors import InputError
from decodiff.files import read_csv, sha256, write_csv


@dataclass(frozen=True)
class Row:
    """One line of the manifest; paths are relative to the manifest's folder.

    Attributes:
        image, mask: paths; ``mask`` is empty where there is none.
        category: name of the category.
        split: ``train`` or ``test``.
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
POSITION = "position"
PROBLEMS_SHOWN = 5


def _row(entry: Entry, folder: Path) -> Row:
    """Open the entry's files and check them; raises `InputError`."""
    image = open_image(entry.image)
    if entry.mask is not None:
        if not entry.mask.is_file():
            raise InputError(f"{entry.mask}: no mask for {entry.image}; add it, or remove the image")
        mask = open_image(entry.mask)
        if mask.size != image.size:
            raise InputError(
                f"{entry.mask}: mask of {mask.width}×{mask.height} pixels for an image of {image.width}×{image.height}; "
                "make them the same size"
            )
    return Row(
        image=os.path.relpath(entry.image, folder),
        category=entry.category,
        split=entry.split,
        label=entry.label,
        defect=entry.defect,
        mask=os.path.relpath(entry.mask, folder) if entry.mask else "",
        width=image.width,
        height=image.height,
        sha256=sha256(entry.image),
    )


def _set_problems(entries: list[Entry], known: tuple[str, ...], root: Path) -> list[str]:
    """What is wrong with the data set as a whole."""
    found = {entry.category for entry in entries}
    problems = [f"unknown category {category!r}" for category in sorted(found - set(known))] if known else []
    for category in known or sorted(found):
        splits = {entry.split for entry in entries if entry.category == category}
        if "train" not in splits:
            problems.append(f"{root / category}: no training images for category {category!r}; at least one is needed")
        if "test" not in splits:
            problems.append(f"{root / category}: the test set of category {category!r} is empty; at least one image is needed")
    problems += [
        f"{entry.image}: an anomalous image in the training set" for entry in entries if entry.split == "train" and entry.label
    ]
    return problems


def make_manifest(entries: list[Entry], known: tuple[str, ...], root: Path, path: Path) -> list[Row]:
    """Check every file of a data set and write its manifest.

    Args:
        entries: what the layout's reader found.
        known: the categories the data set must have; empty takes those found.
        root: folder of the data set, for messages.
        path: the manifest to write.

    Raises:
        InputError: one line with what is wrong; nothing is written.
    """
    problems = _set_problems(entries, known, root)
    rows = []
    for entry in tqdm(entries, desc="check images", unit="image"):
        try:
            rows.append(_row(entry, path.parent))
        except InputError as error:
            problems.append(str(error))
    if problems:
        more = f"; and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        raise InputError("; ".join(problems[:PROBLEMS_SHOWN]) + more)
    write_rows(path, rows)
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    write_csv(path, COLUMNS, (vars(row) for row in rows))


def read_rows(path: Path) -> list[Row]:
    """Read a manifest, or a part of one in the order of an array.

    Raises:
        InputError: the file is unreadable, or a value is not of its kind.
    """
    rows = []
    for line, values in enumerate(read_csv(path, COLUMNS), start=2):
        try:
            row = Row(**{name: int(values[name]) if name in ("label", "width", "height") else values[name] for name in COLUMNS})
        except ValueError as error:
            raise InputError(f"{path}: line {line} is not a line of a manifest ({error}); make it again") from error
        if row.split not in ("train", "test") or row.label not in (0, 1):
            raise InputError(
                f"{path}: line {line} has split {row.split!r} and label {row.label}; expected train or test, 0 or 1"
            )
        rows.append(row)
    return rows


def write_positions(path: Path, chosen: Iterable[tuple[int, Row]]) -> None:
    """Write some of the rows of a prepared split, each with its position in the split's arrays."""
    write_csv(path, (POSITION, *COLUMNS), ({POSITION: position, **vars(row)} for position, row in chosen))


def read_positions(path: Path) -> tuple[np.ndarray, list[Row]]:
    """What `write_positions` wrote: positions int64 ``[N]`` and rows. Raises `InputError` when the file is damaged."""
    try:
        positions = np.array([int(values[POSITION]) for values in read_csv(path, (POSITION,))], dtype=np.int64)
    except ValueError as error:
        raise InputError(f"{path}: a position is not a number ({error}); correct the images again") from error
    return positions, read_rows(path)
