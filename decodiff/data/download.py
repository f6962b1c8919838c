"""Downloading the archives of the registry: several mirrors, resumed where they broke off, nothing used unchecked."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential
from tqdm import tqdm

from decodiff.data.registry import DataSet
from decodiff.errors import InputError
from decodiff.files import remove

log = logging.getLogger(__name__)

CONNECT_SECONDS = 20
# a server that sends nothing for this long has broken off
STALL_SECONDS = 60
# failures in a row without a single new byte, after which a mirror is given up
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0
PASSING_STATUS = (408, 429, 500, 502, 503, 504)
CHUNK = 1 << 16


def _status(error: requests.HTTPError) -> int | None:
    return None if error.response is None else error.response.status_code


def _passes(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, requests.HTTPError):
        return _status(error) in PASSING_STATUS
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


class ResumingDownloader:
    """A downloader for pooch that goes on where an earlier one stopped, and tries again with growing waits.

    Args:
        partial: file that keeps what has come so far, also from one run to the next.
        size: of the whole file in bytes; 0 when it is not known.

    Attributes:
        resumed: whether bytes of an earlier connection were kept.
    """

    def __init__(self, partial: Path, size: int):
        self.partial, self.size = partial, size
        self.resumed = False
        self._failures = 0

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        retrying = Retrying(
            retry=retry_if_exception(_passes),
            stop=self._given_up,
            wait=wait_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS),
            before_sleep=self._say,
            reraise=True,
        )
        retrying(self._continue, url)
        shutil.move(self.partial, output_file)

    def _given_up(self, _state: RetryCallState) -> bool:
        self._failures += 1
        return self._failures >= ATTEMPTS

    def _say(self, state: RetryCallState) -> None:
        reason = type(state.outcome and state.outcome.exception()).__name__
        log.info("download broke off (%s); going on in %.0f s", reason, state.upcoming_sleep)

    def _continue(self, url: str) -> None:
        """One connection: ask for what is missing and append it."""
        present = self.partial.stat().st_size if self.partial.is_file() else 0
        # as stored, so that positions in the file are those of the bytes sent
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={present}-"} if present else {})
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS)) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self.resumed = True  # nothing is missing; the checksum tells whether it is the right file
                return
            response.raise_for_status()
            goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {present}-")
            self.resumed = self.resumed or goes_on
            present = present if goes_on else 0
            length = response.headers.get("Content-Length", "")
            total = present + int(length) if length.isdigit() else self.size
            if self.size and total != self.size:
                raise ValueError(f"{total} bytes instead of {self.size}")
            with (
                open(self.partial, "ab" if goes_on else "wb") as stream,
                tqdm(total=total or None, initial=present, desc=f"download {Path(url).name}", unit="B", unit_scale=True) as bar,
            ):
                for chunk in response.iter_content(CHUNK):
                    stream.write(chunk)
                    self._failures = 0
                    bar.update(len(chunk))


def _from_mirror(mirror: str, dataset: DataSet, folder: Path) -> Path:
    """The archive from one mirror. Raises what `requests` does, and `ValueError` for another file than the one expected."""
    name = Path(urlsplit(mirror).path).name
    downloader = ResumingDownloader(folder / f".{name}.part", dataset.size)

    def retrieve() -> Path:
        expected = f"sha256:{dataset.sha256}"
        # pooch's protocol has an argument besides, which `retrieve` does not pass
        return Path(pooch.retrieve(mirror, expected, name, folder, downloader=downloader))  # type: ignore[arg-type]

    try:
        return retrieve()
    except ValueError:
        if not downloader.resumed:
            raise
    # what was kept from before may have been of another file: once more, from the beginning
    remove(downloader.partial)
    return retrieve()


def download(name: str, dataset: DataSet, folder: Path) -> Path:
    """Fetch the archive from the first mirror that serves it with the right checksum.

    An interrupted download goes on where it stopped, in this run or in a later one.

    Args:
        name: key of the registry, for messages.
        dataset: what to download.
        folder: where the archive goes.

    Raises:
        InputError: no mirror served it, or it cannot be stored; the message says why and where to get it by hand.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    by_hand = f"get it from {dataset.homepage} and give its path: data.{name}.source, or --source"
    if (free := shutil.disk_usage(folder).free) < dataset.size:
        raise InputError(f"{folder}: {free / 1e9:.1f} GB free, {dataset.size / 1e9:.1f} GB needed; make room and run again")
    problems = []
    for mirror in dataset.mirrors:
        try:
            return _from_mirror(mirror, dataset, folder)
        except requests.HTTPError as error:
            problems.append(f"{mirror}: answers {_status(error)}")
        except requests.RequestException as error:
            problems.append(f"{mirror}: cannot be reached ({type(error).__name__})")
        except ValueError as error:
            reason = "sha256 differs" if "hash" in str(error) else error  # pooch explains at length
            problems.append(f"{mirror}: serves another file than expected ({reason})")
        except OSError as error:
            raise InputError(f"{folder}: cannot store the archive ({error.strerror}); what came is kept, run again") from error
    raise InputError(f"{name}: {'; '.join(problems)}; {by_hand}")
