"""Files written whole or not at all: a temporary name beside the final one, then a rename."""

from __future__ import annotations

import csv
import errno
import fcntl
import glob
import hashlib
import io
import json
import logging
import os
import platform
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from decodiff.errors import InputError

log = logging.getLogger(__name__)

# what a full, a broken or a protected disk answers to a write
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file that a disk does not take. Raises `InputError` in place of the system's error."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise InputError(f"{path}: cannot be written ({error.strerror}); see to the disk and run again") from error


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Be the only process that makes ``path``, of which parts are kept in between; gives whether another had to be waited for.

    Another may be at it: a job outlives a Snakemake that was killed, on a cluster on another machine.
    """
    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    waited = False
    while True:
        with writing(lock):
            stream = open(lock, "a+", encoding="utf-8")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            log.info("%s: %s is at work on it; waiting for its end", path, stream.read().strip() or "another process")
            waited = True
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s: files cannot be locked here (%s); see that nothing else makes it", path, error.strerror)
            break
        # the one that held it may have removed it meanwhile
        if lock.exists() and os.path.samestat(os.fstat(stream.fileno()), lock.stat()):
            break
        stream.close()
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {platform.node()}")
    stream.flush()
    try:
        yield waited
    finally:
        lock.unlink(missing_ok=True)
        stream.close()


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _temporary(path: Path) -> Path:
    """A name beside ``path`` for this process alone; what a killed process of this machine left there is removed."""
    host = platform.node()
    pattern = f".{glob.escape(path.stem)}.{glob.escape(host)}-*.tmp{glob.escape(path.suffix)}"
    for left in path.parent.glob(pattern):
        if not _is_running(left.name.removesuffix(f".tmp{path.suffix}").rpartition("-")[2]):
            remove(left)
    return path.with_name(f".{path.stem}.{host}-{os.getpid()}.tmp{path.suffix}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it takes the place of ``path``, on failure it is removed.

    The temporary name keeps the suffix, for writers that read the format off it. Folders work as well as files. What an
    earlier process left behind when it was killed is removed too. Raises `InputError` when the disk does not take it.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
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


def read_text(path: Path) -> str:
    """Raises `InputError` when the file is missing or not text."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable text file ({error}); make it again") from error


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, keys: Iterable[str] = ()) -> Any:
    """Raises `InputError` when the file is missing, not JSON, or has not some keys that it must have."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file ({error}); make it again") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise InputError(f"{path}: no {', '.join(missing)} in it; make it again")
    return content


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows under the given columns, with Unix line ends; a key that is no column is an error."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def csv_rows(path: Path, columns: Iterable[str], delimiter: str = ",") -> Iterator[dict[str, str]]:
    """Rows that must have at least the given columns, one after the other; all values are strings.

    Raises:
        InputError: the file is missing, is not text, lacks a column, or a row is cut short.
    """
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter)
            missing = [column for column in columns if column not in (reader.fieldnames or [])]
            if missing:
                raise InputError(f"{path}: no column {', '.join(missing)}; make the file again or add the column")
            for line, row in enumerate(reader, start=2):
                if None in row or None in row.values():
                    raise InputError(f"{path}: line {line} has another number of fields than the header; make the file again")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV file ({error})") from error


def read_csv(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """All rows at once; see `csv_rows`."""
    return list(csv_rows(path, columns))


class GrowingArray:
    """A ``.npy`` file written item by item, in order, through ordinary writes: memory does not grow with the file.

    An interrupted process leaves whole items behind; opened again, the file goes on after `length` of them.

    Args:
        path: the file.
        shape, dtype: of the whole array; the first axis counts the items.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype | type):
        self._item, self._dtype = shape[1:], np.dtype(dtype)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        )
        self._start = len(header.getvalue())
        self._bytes = int(np.prod(self._item)) * self._dtype.itemsize
        path.touch()
        self._stream = open(path, "r+b")
        if self._stream.read(self._start) != header.getvalue():
            self._stream.seek(0)
            self._stream.truncate()
            self._stream.write(header.getvalue())
        present = os.fstat(self._stream.fileno()).st_size - self._start
        self.length = min(max(present, 0) // max(self._bytes, 1), shape[0])

    def cut(self, length: int) -> None:
        """Forget all items after the first ``length``."""
        self.length = length
        self._stream.truncate(self._start + length * self._bytes)
        self._stream.seek(0, os.SEEK_END)

    def append(self, item: np.ndarray) -> None:
        """Write the next item. Raises `ValueError` when its shape or dtype is not that of the array's items."""
        if item.shape != self._item or item.dtype != self._dtype:
            raise ValueError(f"item {item.dtype} {item.shape} for an array of {self._dtype} {self._item}")
        self._stream.write(item.tobytes())
        self.length += 1

    def extend(self, items: np.ndarray) -> None:
        """Write the next items ``[n,…]``; see `append`."""
        for item in items:
            self.append(item)

    def close(self) -> None:
        self._stream.close()


@contextmanager
def writing_array(path: Path, shape: tuple[int, ...], dtype: np.dtype | type) -> Iterator[GrowingArray]:
    """A ``.npy`` file to append to; it appears under its name once the block ends well. See `GrowingArray`."""
    with replacing(path) as temporary:
        array = GrowingArray(temporary, shape, dtype)
        try:
            yield array
        finally:
            array.close()
        if array.length != shape[0]:
            raise ValueError(f"{path}: {array.length} items written of {shape[0]}")


def _without_elements(path: Path) -> np.ndarray | None:
    """The array of a ``.npy`` file without elements, which cannot be mapped; ``None`` when the file is not one."""
    try:
        with open(path, "rb") as stream:
            np.lib.format.read_magic(stream)
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            return np.empty(shape, dtype) if 0 in shape and not dtype.hasobject and not stream.read(1) else None
    except Exception:  # as above
        return None


def check_stored(path: Path) -> None:
    """Refuse a file of ``torch.save`` that would become larger in memory than it is on disk; PyTorch would not.

    Such files are zip archives in which nothing is compressed and nothing shared.

    Raises:
        ValueError: it would become larger; `zipfile.BadZipFile`: not a whole archive.
    """
    with open(path, "rb") as stream:
        if stream.read(4) != b"PK\x03\x04":  # of before PyTorch 1.6
            return
    with zipfile.ZipFile(path) as archive:
        if sum(item.file_size for item in archive.infolist()) > path.stat().st_size:
            raise ValueError("it holds more bytes than it has")


def read_array(path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    """Open a ``.npy`` file, memory-mapped and read-only; ``None`` in ``shape`` takes any length.

    Raises:
        InputError: the file is missing, truncated, holds objects, text or anything but numbers, or has another shape.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such array; run the stage that makes it")
    try:
        array: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # whatever a damaged or malicious file makes of the reader
        empty = _without_elements(path)
        if empty is None:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: not a whole .npy array ({reason}); remove it and run again") from error
        array = empty
    if array.dtype.kind not in "biuf":
        raise InputError(f"{path}: an array of {array.dtype}, expected numbers; remove it and run again")
    if len(array.shape) != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape)):
        raise InputError(f"{path}: an array of shape {array.shape}, expected {shape}; remove it and run again")
    return array


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bytes_sha256(content: bytes) -> str:
    """Hexadecimal SHA-256 of bytes that are in memory."""
    return hashlib.sha256(content).hexdigest()
