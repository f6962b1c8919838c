"""Downloading and unpacking the archives of the registry."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pooch
import requests

from decodiff.data.registry import DataSet
from decodiff.errors import InputError
from decodiff.files import replacing

CONNECT_SECONDS = 20


def download(name: str, dataset: DataSet, folder: Path) -> Path:
    """Fetch the archive from the first mirror that serves it with the right checksum.

    Raises:
        InputError: no mirror did; the message says why and where to get it by hand.
    """
    problems = []
    for mirror in dataset.mirrors:
        try:
            downloader = pooch.HTTPDownloader(progressbar=True, timeout=CONNECT_SECONDS)
            return Path(
                pooch.retrieve(mirror, f"sha256:{dataset.sha256}", fname=Path(mirror).name, path=folder, downloader=downloader)
            )
        except requests.RequestException as error:
            problems.append(f"{mirror}: cannot be reached ({type(error).__name__})")
        except ValueError:
            problems.append(f"{mirror}: served another file than expected (sha256 differs)")
    raise InputError(
        f"{name}: {'; '.join(problems)}; get it from {dataset.homepage} and set data.{name}.source to the archive or folder"
    )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive; the folder appears once all of it is there, and nothing is written outside it.

    Raises:
        InputError: not a whole tar archive, or a member that would leave the folder.
    """
    with replacing(folder) as temporary:
        temporary.mkdir()
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InputError(f"{archive}: cannot be unpacked ({error}); remove it and fetch it again") from error
