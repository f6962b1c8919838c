"""`method`: anomaly maps by any other method, a command that is given pictures and writes a map for each of them."""

from __future__ import annotations

import logging
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np
from PIL import Image
from pydantic import Field, ValidationError
from tqdm import tqdm

from decodiff.config import METHOD_FILE
from decodiff.data.maps import ARRAY_SUFFIXES, PICTURE_SUFFIXES, read_map
from decodiff.data.rows import Row, read_rows, write_positions
from decodiff.data.views import central_crops
from decodiff.errors import InputError
from decodiff.files import alone, read_json, sha256, write_json, writing_array
from decodiff.provenance import environment
from decodiff.settings import Method, Section, problems

log = logging.getLogger(__name__)

COSTS_FILE = "costs.json"
# of other projects' packages, in the folder that the workflow runs in
ENVIRONMENTS = Path(".environments")
# between being asked to end and being ended
SECONDS_TO_END = 10
LINE_CHARACTERS = 200

Chosen = list[tuple[int, Row]]


class Costs(Section):
    """What a method may say of itself in ``costs.json`` beside its maps; what it leaves out is an empty cell.

    Attributes:
        parameters: of its networks.
        operations_per_image: of making one map.
        images_per_second: of making maps, without starting.
        training_seconds: without starting and making maps.
        peak_mib: of the accelerator's memory; what the command's largest process held is known here.
        about: what else a reader of the table should know.
    """

    parameters: int | None = Field(default=None, ge=0)
    operations_per_image: float | None = Field(default=None, ge=0)
    images_per_second: float | None = Field(default=None, ge=0)
    training_seconds: float | None = Field(default=None, ge=0)
    peak_mib: float | None = Field(default=None, ge=0)
    about: str = ""


def _picture(position: int) -> str:
    """File of an image without its suffix: its position in the prepared arrays, which says nothing of its label."""
    return f"{position:06d}"


def _write_pictures(array: Path, chosen: Chosen, count: int, crop: int, folder: Path) -> None:
    """The central crops of some of an array's ``count`` images as ``<category>/<position>.png``."""
    crops = central_crops(array, count, [position for position, _ in chosen], crop)
    images = (image for batch in crops for image in batch)
    for (position, row), image in zip(tqdm(chosen, desc=f"write {folder.name}", unit="image"), images):
        path = folder / row.category / f"{_picture(position)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(image)).save(path, compress_level=1)


def _python(requirements: Path) -> Path:
    """Folder of the programs of an environment of its own with all that a lock names, which is made where it is not there.

    Raises:
        InputError: pip does not install it.
    """
    folder = ENVIRONMENTS / f"{requirements.stem}-{sha256(requirements)[:12]}"
    done = folder / "installed"
    # several methods may share it, and begin at once
    with alone(folder):
        if not done.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            log.info("environment of %s: installing to %s", requirements, folder)
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            arguments = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", str(requirements)]
            pip = subprocess.run([folder / "bin/python", *arguments], capture_output=True, text=True, check=False)
            if pip.returncode:
                raise InputError(f"{requirements}: pip does not install it ({_last(pip.stderr.splitlines())})")
            done.touch()
    return (folder / "bin").resolve()


def _last(lines: Sequence[str]) -> str:
    """The last line that says anything, cut to what a table's note can hold."""
    said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return said if len(said) <= LINE_CHARACTERS else f"{said[: LINE_CHARACTERS - 1]}…"


def _end(process: subprocess.Popen[str]) -> None:
    """End a command and all that it started."""
    for number, seconds in ((signal.SIGTERM, SECONDS_TO_END), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _run(command: list[str], variables: dict[str, str], minutes: float) -> None:
    """Run a command, what it prints into the log, no longer than some minutes.

    Raises:
        InputError: it cannot be started, ended badly, or was ended.
    """
    try:
        process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise InputError(f"cannot be started: {command[0]} ({error.strerror})") from error
    lines: list[str] = []

    def listen() -> None:
        # a progress bar's returns end a line as well
        for line in process.stdout or ():
            log.info("%s", line.rstrip())
            lines.append(line)
            del lines[:-20]

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    # the command is in a session of its own, where no signal reaches it that ends this process
    before = signal.signal(signal.SIGTERM, leave)
    try:
        process.wait(60 * minutes)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"not done after its limit of {minutes:g} min") from error
    finally:
        _end(process)
        signal.signal(signal.SIGTERM, before)
        listener.join(SECONDS_TO_END)
    if process.returncode:
        raise InputError(f"ended with status {process.returncode}: {_last(lines)}")


def _read_costs(folder: Path) -> Costs:
    path = folder / COSTS_FILE
    try:
        return Costs.model_validate(read_json(path)) if path.is_file() else Costs()
    except ValidationError as error:
        raise InputError(f"{COSTS_FILE}: {'; '.join(problems(error))}") from error


def _map(folder: Path, position: int, row: Row, crop: int) -> np.ndarray:
    """The map of one test image. Raises `InputError` where there is none, or not one number for each pixel."""
    name = f"{row.category}/{_picture(position)}"
    path = next((path for suffix in ARRAY_SUFFIXES + PICTURE_SUFFIXES if (path := folder / f"{name}{suffix}").is_file()), None)
    if path is None:
        raise InputError(f"no map of {name}.png")
    with np.errstate(over="ignore"):
        found = read_map(path).astype(np.float32)
    if found.shape != (crop, crop):
        raise InputError(f"map of {name}.png: {'×'.join(map(str, found.shape))} pixels instead of {crop}×{crop}")
    if not np.isfinite(found).all():
        raise InputError(f"map of {name}.png: {'NaN' if np.isnan(found).any() else 'infinite'} values")
    return found


def _mapped(work: Path, chosen: Chosen, method: Method, crop: int, seed: int, threads: int, output: Path) -> Costs:
    """Let a method make its maps of the pictures in ``work``, and collect them in an array; gives what it says of itself."""
    maps = work / "maps"
    maps.mkdir()
    places = {"train": work / "train", "test": work / "test", "maps": maps, "minutes": method.minutes, "seed": seed}
    command = [word.format(**places) for word in shlex.split(method.command)]
    variables = {"OMP_NUM_THREADS": str(threads)}
    if method.requirements:
        programs = _python(Path(method.requirements))
        # what is installed beside this project is not its business
        variables |= {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": "", "VIRTUAL_ENV": str(programs.parent)}
        command[0] = shutil.which(command[0], path=variables["PATH"]) or command[0]
    _run(command, variables, method.limit_minutes)
    costs = _read_costs(maps)
    with writing_array(output, (len(chosen), crop, crop), np.float32) as array:
        for position, row in tqdm(chosen, desc="collect", unit="map"):
            array.append(_map(maps, position, row, crop))
    return costs


def method(
    name: str,
    prepared: Path,
    categories: tuple[str, ...],
    method: Method,
    crop: int,
    seed: int,
    threads: int,
    output: Path,
) -> None:
    """Have a method train on a data set's normal images and make a map of each test and validation image.

    The command finds ``<train>/<category>/<number>.png`` and ``<test>/<category>/<number>.png``, RGB, and writes
    ``<maps>/<category>/<number>`` as ``.npy``, ``.tiff`` or ``.png``, a number for each pixel, higher where less normal; it
    may say in ``<maps>/costs.json`` what it took (`Costs`). It is not told which test image is anomalous, nor where.

    Writes ``anomaly_maps.npy`` float32 ``[N,H,W]`` and ``images.csv``, as the stage `score` does, and ``method.json``: the
    command, its costs and, where it went wrong, the ``failure``; then there are no maps. A method's failure is its result: it
    ends nothing else.

    Args:
        name: of the method.
        prepared: folder of the prepared data set.
        categories: those of it that the method sees, none for all.
        method: its settings.
        crop: side of the maps in pixels.
        seed: that the command is given.
        threads: that libraries of OpenMP are to compute with.
        output: folder to write to.

    Raises:
        InputError: the prepared data set is damaged.
    """
    output.mkdir(parents=True, exist_ok=True)
    begin, failure = time.perf_counter(), None
    rows = {part: read_rows(prepared / f"{part}.csv") for part in ("train", "test")}
    parts = {
        part: [(place, row) for place, row in enumerate(of) if not categories or row.category in categories]
        for part, of in rows.items()
    }
    chosen = parts["test"]
    with tempfile.TemporaryDirectory(dir=output, prefix="work-") as folder:
        work = Path(folder).resolve()
        # what is wrong with the data set is not the method's failure
        for part, shown in parts.items():
            _write_pictures(prepared / f"{part}_images.npy", shown, len(rows[part]), crop, work / part)
        try:
            costs = _mapped(work, chosen, method, crop, seed, threads, output / "anomaly_maps.npy")
        except InputError as error:
            chosen, costs, failure = [], Costs(), str(error)
            with writing_array(output / "anomaly_maps.npy", (0, crop, crop), np.float32):
                pass
            log.warning("%s: %s", name, failure)
    write_positions(output / "images.csv", chosen)
    peak = None if failure else costs.peak_mib or resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    record = {
        "method": name,
        **method.model_dump(),
        "requirements_sha256": sha256(Path(method.requirements)) if method.requirements and not failure else None,
        "seed": seed,
        "failure": failure,
        "seconds": time.perf_counter() - begin,
        **costs.model_dump(),
        "peak_mib": peak,
        "environment": environment(),
    }
    write_json(output / METHOD_FILE, record)
    log.info("%s: %d anomaly maps of %d×%d pixels", name, len(chosen), crop, crop)


def failure_of(results: Path) -> str | None:
    """Why a method left no maps in a folder of results; ``None`` where it did, or where the maps are not a method's."""
    path = results / METHOD_FILE
    return read_json(path, ("failure",))["failure"] if path.is_file() else None
