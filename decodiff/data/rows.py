"""The lines of a manifest, and of what is made of it: which image is what."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from decodiff.errors import InputError
from decodiff.files import csv_rows, read_csv, write_csv


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
_KINDS: dict[str, Callable[[str], Any]] = {
    "label": int,
    "width": int,
    "height": int,
    "category": sys.intern,
    "split": sys.intern,
    "defect": sys.intern,
}
SPLITS = ("train", "test", "validation")
POSITION = "position"


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
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: a position is not a number ({error}); correct the images again") from error
    if positions.min(initial=0) < 0:
        raise InputError(f"{path}: position {positions.min()} counts from the end; correct the images again")
    return positions, read_rows(path)
