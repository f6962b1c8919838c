"""Unpacking archives that may be hostile: nothing but plain files, nothing outside the folder, nothing out of proportion."""

from __future__ import annotations

import errno
import reprlib
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from decodiff.errors import InputError
from decodiff.files import read_json, replacing, sha256, write_json

# what is unpacked may be this many times larger than the archive; images hardly shrink, bitmaps of plain surfaces do
MAX_RATIO = 50
# counted for every member at least, so that many empty ones are a bomb too
MEMBER_BYTES = 512
# bytes of what a tar archive says of one member
MAX_HEADER = 1 << 20
# written into the unpacked folder last: what it was made from and what it holds
RECORD = ".unpacked.json"


# what the system says of a name that cannot be had, or is taken by something of another kind
UNUSABLE = (errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


class _TarInfo(tarfile.TarInfo):
    """A member whose names and other words are not larger than they may be, as tarfile reads them as a whole; and no sparse
    one, whose map of holes is read as a whole too and of any length.
    """

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if not self.isreg() and self.size > MAX_HEADER:
            raise ValueError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]  # tarfile has it for subclasses, typeshed has not

    def _proc_sparse(self, *_: object) -> tarfile.TarInfo:
        raise ValueError("a sparse file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_sparse


@dataclass(frozen=True)
class _Member:
    """One entry of an archive: ``kind`` is "file", "folder" or what else it is; ``size`` in bytes as the archive states it."""

    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes]]


def _is_tar(path: Path) -> bool:
    """`tarfile.is_tarfile`, which would read a first member of any size. Raises `ValueError` as `_TarInfo` does."""
    try:
        tarfile.open(path, tarinfo=_TarInfo).close()
    except tarfile.TarError:
        return False
    return True


def _tar_members(path: Path) -> Iterator[_Member]:
    with tarfile.open(path, tarinfo=_TarInfo) as archive:
        for item in archive:
            is_link = item.issym() or item.islnk()
            kind = "folder" if item.isdir() else "file" if item.isreg() else "link" if is_link else "device"
            opened = partial(archive.extractfile, item)
            yield _Member(item.name, kind, item.size, opened)  # type: ignore[arg-type]  # None only for what is no file


def _zip_members(path: Path) -> Iterator[_Member]:
    kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            kind = "folder" if item.is_dir() else kinds.get(stat.S_IFMT(item.external_attr >> 16), "device")
            yield _Member(item.filename, kind, item.file_size, partial(archive.open, item))


def _target(member: _Member, folder: Path) -> Path:
    """Where a member belongs. Raises `ValueError` for one that must not be unpacked."""
    name = PurePosixPath(member.name.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or (name.parts and name.parts[0].endswith(":")):
        raise ValueError(f"{reprlib.repr(member.name)} would leave the folder")
    if member.kind not in ("file", "folder"):
        raise ValueError(f"{reprlib.repr(member.name)} is a {member.kind}")
    return folder / name


def _place(member: _Member, target: Path) -> None:
    """Write one member. Raises `ValueError` for a file of another size than it states."""
    if member.kind == "folder":
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, open(target, "wb") as stream:
        shutil.copyfileobj(source, stream, 1 << 20)
        if stream.tell() != member.size:
            raise ValueError(f"{reprlib.repr(member.name)} has {stream.tell():,} bytes and states {member.size:,}")


def _write(members: Iterator[_Member], folder: Path, allowed: int) -> None:
    total = 0
    for member in tqdm(members, desc="unpack", unit="file"):
        target = _target(member, folder)
        total += max(member.size, MEMBER_BYTES)
        if total > allowed:
            raise ValueError(f"it holds more than {MAX_RATIO} times its own size")
        try:
            _place(member, target)
        except OSError as error:
            if error.errno not in UNUSABLE:
                raise
            raise ValueError(f"{reprlib.repr(member.name)}: {error.strerror}") from error


def _contents(folder: Path) -> tuple[int, int]:
    """Number of files in a folder, its record aside, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path != folder / RECORD]
    return len(sizes), sum(sizes)


def is_unpacked(folder: Path, checksum: str) -> bool:
    """Whether ``folder`` holds, complete, what an archive of that SHA-256 was unpacked to."""
    if not (folder / RECORD).is_file():
        return False
    files, size = _contents(folder)
    return read_json(folder / RECORD) == {"sha256": checksum, "files": files, "bytes": size}


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive; the folder appears once all of it is there, and nothing is written outside it.

    Nothing happens when the folder already holds what this archive was unpacked to.

    Raises:
        InputError: not a whole archive, one without files, or one with absolute names, names with ``..``, links, devices,
            sparse files, files of another size than they state, or more than `MAX_RATIO` times its own size.
    """
    checksum = sha256(archive)
    if is_unpacked(folder, checksum):
        return
    try:
        members = _tar_members if _is_tar(archive) else _zip_members
        with replacing(folder) as temporary:
            temporary.mkdir()
            _write(members(archive), temporary, MAX_RATIO * archive.stat().st_size)
            files, size = _contents(temporary)
            if not files:
                raise ValueError("it holds no file")
            write_json(temporary / RECORD, {"sha256": checksum, "files": files, "bytes": size})
    except zipfile.BadZipFile as error:
        raise InputError(f"{archive}: not a whole tar or zip archive ({error}); remove it and fetch it again") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged or malicious file makes of the reader
        raise InputError(f"{archive}: cannot be unpacked ({error}); nothing of it was kept, get another copy") from error
