"""Files written whole or not at all: a temporary name beside the final one, then a rename."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from decodiff.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it takes the place of ``path``, on failure it is removed.

    The temporary name keeps the suffix, for writers that read the format off it. Folders work as well as files.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    remove(temporary)
    try:
        yield temporary
        if temporary.is_dir():
            remove(path)
        os.replace(temporary, path)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds; nothing happens when it does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises `InputError` when the file is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable JSON file ({error}); make it again") from error


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows under the given columns, with Unix line ends; a key that is no column is an error."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Read rows that must have at least the given columns; all values are strings.

    Raises:
        InputError: the file is missing, is not text, lacks a column, or a row is cut short.
    """
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = [column for column in columns if column not in (reader.fieldnames or [])]
            if missing:
                raise InputError(f"{path}: no column {', '.join(missing)}; make the file again or add the column")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV file ({error})") from error
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(f"{path}: line {line} has another number of fields than the header; make the file again")
    return rows


@contextmanager
def writing_array(path: Path, shape: tuple[int, ...], dtype: np.dtype | type) -> Iterator[np.ndarray]:
    """A memory-mapped array of a ``.npy`` file to fill; it appears under its name once the block ends well."""
    with replacing(path) as temporary:
        # numpy cannot map an array without elements
        array = np.lib.format.open_memmap(temporary, "w+", dtype, shape) if np.prod(shape) else np.empty(shape, dtype)
        yield array
        if isinstance(array, np.memmap):
            array.flush()
        else:
            np.save(temporary, array)


def read_array(path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    """Open a ``.npy`` file, memory-mapped and read-only; ``None`` in ``shape`` takes any length.

    Raises:
        InputError: the file is missing, truncated, holds objects, or has another shape.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if Path(path).is_file():
            try:  # an array without elements cannot be mapped
                array = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError):
                raise InputError(f"{path}: not a whole .npy array ({error}); remove it and run again") from error
        else:
            raise InputError(f"{path}: no such array; run the stage that makes it") from error
    if len(array.shape) != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape)):
        raise InputError(f"{path}: an array of shape {array.shape}, expected {shape}; remove it and run again")
    return array


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
