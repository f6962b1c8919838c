"""`predict`: a trained model on images of one's own, a row and pictures for each, for as many as there are."""

from __future__ import annotations

import csv
import glob
import io
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion
from tqdm import tqdm

from decodiff.data.images import SUFFIXES, picture_files, read_rgb
from decodiff.data.parallel import in_order
from decodiff.devices import device
from decodiff.errors import InputError
from decodiff.files import alone, read_json, replacing, sha256, write_json
from decodiff.models.storage import WEIGHTS_FILE
from decodiff.pipeline import DeCoDiffPipeline, DeCoDiffPipelineOutput

log = logging.getLogger(__name__)

RowFormat = Literal["csv", "jsonl"]
MapFormat = Literal["npy", "png", "tiff"]
# what the rows in a folder were made with, so that no others are added to them
RECORD = "predict.json"
FOLDERS = ("maps", "overlays", "corrections")
# pixels on the longer side of an overlay, at most
OVERLAY_SIDE = 1024
RED, YELLOW = np.array([255.0, 0.0, 0.0]), np.array([255, 255, 0], np.uint8)


@dataclass(frozen=True)
class Prediction:
    """What is said of one image; empty where there is nothing to say.

    Attributes:
        image: name, as in the names of its map and pictures.
        category: that it was taken for.
        reason: why for that one, where none was given.
        score: in [0, 1].
        threshold: score above which an image is called anomalous.
        verdict: ``normal`` or ``anomalous``.
        seconds: its part of its batch's time.
        error: why it could not be looked at.
    """

    image: str
    category: str = ""
    reason: str = ""
    score: float | None = None
    threshold: float | None = None
    verdict: str = ""
    seconds: float | None = None
    error: str = ""


COLUMNS = tuple(field.name for field in fields(Prediction))


# ---- which images


def _expanded(argument: str, output: Path) -> list[tuple[str, Path]]:
    """Names and files of one argument: an image, a folder with all below it but what lies in ``output``, or a pattern."""
    path = Path(argument)
    if path.is_dir():
        written = output.resolve()
        folders = sorted(folder for folder in [path, *path.rglob("*")] if folder.is_dir())
        folders = [folder for folder in folders if not folder.resolve().is_relative_to(written)]
        found = [file for folder in folders for file in picture_files(folder)]
        if not found:
            raise InputError(f"{path}: no image in it; expected files of {', '.join(sorted(SUFFIXES))}")
        return [(file.relative_to(path).as_posix(), file) for file in found]
    if path.exists():
        return [(path.name, path)]
    matching = sorted(Path(match) for match in glob.glob(argument, recursive=True))
    found = [file for file in matching if file.is_file()]
    if not found:
        raise InputError(f"{argument}: no such image, folder or pattern that files match; check the name")
    return [(file.name, file) for file in found]


def listed(arguments: Sequence[str], output: Path) -> dict[str, Path]:
    """Files by name, in order; of folders without what lies in ``output``.

    Raises:
        InputError: nothing is found, two images would have one name, or a name has a line break.
    """
    files: dict[str, Path] = {}
    for argument in arguments:
        for name, file in _expanded(argument, output):
            if "\n" in name or "\r" in name:
                raise InputError(f"{name!r}: a name with a line break, which no row can hold; rename the file")
            if files.setdefault(name, file) != file:
                raise InputError(f"{file}: another image named {name!r} is given, {files[name]}; give the folder above both")
    return files


# ---- rows


class Rows:
    """The file of predictions, which grows by whole rows.

    Args:
        path: of the file; what an interruption cut short at its end is taken off.
        kind: how rows are written.
    """

    def __init__(self, path: Path, kind: RowFormat):
        self.kind = kind
        path.touch()
        self._stream = open(path, "r+b")
        self.done: set[str] = set()
        self.failed = 0
        end = 0
        while (line := self._stream.readline()).endswith(b"\n"):
            end += len(line)
            self._note(line.decode("utf-8", "surrogateescape"), path)
        self._stream.seek(end)
        self._stream.truncate()
        if kind == "csv" and not end:
            self._write_cells(COLUMNS)

    def _note(self, line: str, path: Path) -> None:
        try:
            values = json.loads(line) if self.kind == "jsonl" else dict(zip(COLUMNS, next(csv.reader([line])), strict=True))
            name, error = values["image"], values["error"]
        except (ValueError, KeyError, TypeError, StopIteration, csv.Error) as problem:
            raise InputError(f"{path}: not what this command writes; choose another folder") from problem
        if self.kind == "csv" and values == dict(zip(COLUMNS, COLUMNS)):
            return
        self.done.add(name)
        self.failed += bool(error)

    def _write(self, line: str) -> None:
        self._stream.write(line.encode("utf-8", "surrogateescape"))
        self._stream.flush()

    def _write_cells(self, values: Sequence[object]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        self._write(line.getvalue())

    def append(self, prediction: Prediction) -> None:
        """Write a row, in the file when this returns."""
        values = asdict(prediction)
        if self.kind == "jsonl":
            self._write(json.dumps(values) + "\n")
        else:
            self._write_cells(["" if value is None else value for value in values.values()])
        self.failed += bool(prediction.error)

    def close(self) -> None:
        self._stream.close()


# ---- pictures


def _in_image(anomaly_map: np.ndarray, resize: int, size: tuple[int, int]) -> np.ndarray:
    """A map of the crop in the place that it has in the whole image, float32 ``[height,width]``; 0 outside the crop."""
    whole, margin = np.zeros((resize, resize), np.float32), (resize - len(anomaly_map)) // 2
    whole[margin : margin + len(anomaly_map), margin : margin + len(anomaly_map)] = anomaly_map
    return np.asarray(Image.fromarray(whole).resize(size, Image.Resampling.BILINEAR))


def overlay(image: Image.Image, anomaly_map: np.ndarray, resize: int, threshold: float | None) -> Image.Image:
    """An image in red where its map is high; what lies above the threshold is outlined in yellow.

    Args:
        image: RGB, of any size; the result has its shape, and `OVERLAY_SIDE` pixels at most.
        anomaly_map: float32 ``[crop,crop]`` in [0, 1].
        resize: side in pixels that the image was resized to before it was cropped.
        threshold: of the image's score; full red is twice that, or the map's maximum where there is none.
    """
    scale = min(1.0, OVERLAY_SIDE / max(image.size))
    size = tuple(max(1, round(length * scale)) for length in image.size)
    values = _in_image(anomaly_map, resize, size)
    full = 2 * threshold if threshold else max(float(values.max()), 1e-6)
    opacity = 0.7 * np.clip(values / full, 0, 1)[..., None]
    seen = np.asarray(image.resize(size)).astype(np.float32)
    drawn = np.rint(seen * (1 - opacity) + RED * opacity).astype(np.uint8)
    if threshold is not None:
        above = values > threshold
        drawn[above & ~binary_erosion(above, iterations=max(1, round(max(size) / 256)))] = YELLOW
    return Image.fromarray(drawn)


def _save_map(anomaly_map: np.ndarray, path: Path, kind: MapFormat) -> None:
    """float32 in [0, 1] as it is, or as 16 bits from 0 to 65535."""
    with replacing(path) as temporary:
        if kind == "npy":
            with open(temporary, "wb") as stream:
                np.save(stream, anomaly_map)
        else:
            Image.fromarray(np.rint(anomaly_map * 65535).astype(np.uint16)).save(temporary, format=kind.upper())


def _save_picture(picture: Image.Image, path: Path) -> None:
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


# ---- the model's answer


@dataclass(frozen=True)
class Chosen:
    """A category for each image of a batch, what the model says under it, and why that one."""

    categories: list[str]
    reasons: list[str]
    output: DeCoDiffPipelineOutput


def answer(pipeline: DeCoDiffPipeline, images: list[Image.Image], category: str | None, batch_size: int | None) -> Chosen:
    """Of several categories the one under which least of an image is corrected: defects are small, a wrong object is not."""
    candidates = (category,) if category else pipeline.categories
    outputs = [pipeline(images, name, batch_size=batch_size) for name in candidates]
    if len(outputs) == 1:
        return Chosen([candidates[0]] * len(images), [""] * len(images), outputs[0])
    means = np.stack([output.anomaly_maps.mean(axis=(1, 2), dtype=np.float64) for output in outputs])
    order = means.argsort(axis=0, kind="stable")
    best = order[0]
    reasons = [
        f"lowest mean of the map: {means[first, place]:.4f}, next {candidates[second]} {means[second, place]:.4f}"
        for place, (first, second) in enumerate(order[:2].T)
    ]
    picked = {
        name: np.stack([getattr(outputs[index], name)[place] for place, index in enumerate(best)])
        for name in ("anomaly_maps", "scores", "corrections")
    }
    return Chosen([candidates[index] for index in best], reasons, DeCoDiffPipelineOutput(**picked))


@dataclass(frozen=True)
class _Read:
    name: str
    image: Image.Image | None
    error: str = ""


def _read(item: tuple[str, Path]) -> _Read:
    try:
        return _Read(item[0], read_rgb(item[1]))
    except InputError as error:
        return _Read(item[0], None, str(error))


def _batches(items: Iterator[_Read], size: int) -> Iterator[list[_Read]]:
    while batch := list(islice(items, size)):
        yield batch


def predict(
    model: str,
    images: Sequence[str],
    output: Path,
    category: str | None = None,
    threshold: float | None = None,
    rows: RowFormat = "csv",
    maps: MapFormat = "npy",
    batch_size: int | None = None,
) -> int:
    """Score images, and write where they deviate from what the model knows as normal.

    Writes ``predictions.csv`` or ``.jsonl`` into the folder ``output``, a `Prediction` a row, each once its files are written:
    ``maps/<name>.<kind>``, the anomaly map of the crop; ``overlays/<name>.png``; ``corrections/<name>.png``, what the model
    would have expected, in the contrast that it sees. Started again, it goes on after the rows that are there. Memory does not
    grow with the number of images, but for their names.

    Args:
        model: folder of `decodiff.pipeline.DeCoDiffPipeline`, or its id on the hub.
        images: image files, folders with all images below them, and patterns.
        output: folder to write to.
        category: of all images; by default that of a model of one, else the most plausible is chosen for each.
        threshold: instead of the model's own.
        rows, maps: file formats.
        batch_size: images at a time; by default as many as the benchmark encodes, whose scores are then given to the bit.

    Returns:
        How many images could not be looked at.

    Raises:
        InputError: no image, an unknown category, a folder that is no model, or one with the rows of something else.
    """
    files = listed(images, output)
    pipeline = DeCoDiffPipeline.from_pretrained(model).to(device())
    if category is not None and category not in pipeline.categories:
        raise InputError(f"--category: {category!r} is not one that the model knows: {', '.join(pipeline.categories)}")
    record = {
        "unet_sha256": sha256(pipeline.folder / "unet" / WEIGHTS_FILE),
        "vae_sha256": sha256(pipeline.folder / "vae" / WEIGHTS_FILE),
        **{"settings": pipeline.settings.model_dump(mode="json"), "category": category, "threshold": threshold, "maps": maps},
    }
    output.mkdir(parents=True, exist_ok=True)
    with alone(output / RECORD):
        if (output / RECORD).exists():
            if read_json(output / RECORD) != record:
                raise InputError(f"{output}: holds predictions of another model or with other options; choose another folder")
        else:
            write_json(output / RECORD, record)
        table = Rows(output / f"predictions.{rows}", rows)
        try:
            _predict(pipeline, files, table, output, category, threshold, maps, batch_size)
        finally:
            table.close()
    return table.failed


def _predict(
    pipeline: DeCoDiffPipeline,
    files: dict[str, Path],
    table: Rows,
    output: Path,
    category: str | None,
    given: float | None,
    maps: MapFormat,
    batch_size: int | None,
) -> None:
    left = [item for item in files.items() if item[0] not in table.done]
    if done := len(files) - len(left):
        log.info("%s: %d of %d images are there already", output, done, len(files))
    began = time.perf_counter()
    with tqdm(desc="predict", total=len(files), initial=done, unit="image") as progress:
        for batch in _batches(in_order(_read, left, None), batch_size or pipeline.batch_size):
            readable = [item for item in batch if item.image is not None]
            said = answer(pipeline, [item.image for item in readable], category, batch_size) if readable else None
            places = {item.name: place for place, item in enumerate(readable)}
            seconds = (time.perf_counter() - began) / len(batch)
            for item in batch:
                if item.image is None:
                    table.append(Prediction(item.name, error=item.error))
                else:
                    _say(item, places[item.name], said, pipeline, given, seconds, table, output, maps)
                progress.update()
            began = time.perf_counter()


def _say(
    item: _Read,
    place: int,
    said: Chosen,
    pipeline: DeCoDiffPipeline,
    given: float | None,
    seconds: float,
    table: Rows,
    output: Path,
    maps: MapFormat,
) -> None:
    """Write one image's files, then its row."""
    anomaly_map, score = said.output.anomaly_maps[place], float(said.output.scores[place])
    name, category = item.name, said.categories[place]
    threshold = given if given is not None else pipeline.threshold(category)
    _save_map(anomaly_map, output / "maps" / f"{name}.{maps}", maps)
    _save_picture(
        overlay(item.image, anomaly_map, pipeline.settings.image.resize, threshold), output / "overlays" / f"{name}.png"
    )
    _save_picture(Image.fromarray(said.output.corrections[place]), output / "corrections" / f"{name}.png")
    # at the six decimals that a model's threshold has
    verdict = "" if threshold is None else "anomalous" if round(score, 6) > threshold else "normal"
    table.append(Prediction(name, category, said.reasons[place], score, threshold, verdict, round(seconds, 4)))
