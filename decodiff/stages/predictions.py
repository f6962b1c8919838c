"""What `predict` writes of each image: a row, a map and two pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from decodiff.data.pose import posed
from decodiff.errors import InputError
from decodiff.files import replacing
from decodiff.settings import MapFormat, Pose, RowFormat

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
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
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
        # most of a prediction's time, were it to be compressed well
        picture.save(temporary, format="PNG", compress_level=1)


@dataclass(frozen=True)
class Result:
    """What there is to say of an image.

    Attributes:
        name: of its files.
        image: RGB, as it was read; None when it could not be.
        error: why it could not.
        category, reason, score, seconds: see `Prediction`.
        anomaly_map: float32 ``[crop,crop]`` in [0, 1].
        correction: uint8 ``[crop,crop,3]``.
    """

    name: str
    image: Image.Image | None
    error: str = ""
    category: str = ""
    reason: str = ""
    score: float = 0.0
    anomaly_map: np.ndarray | None = None
    correction: np.ndarray | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Writer:
    """Writes an image's files.

    Attributes:
        output: folder to write to.
        maps: file format.
        resize: side in pixels that images were resized to before they were cropped.
        thresholds, poses: by category.
    """

    output: Path
    maps: MapFormat
    resize: int
    thresholds: Mapping[str, float]
    poses: Mapping[str, Pose]

    def __call__(self, result: Result) -> Prediction:
        """The image's row, once its files are there."""
        name, score = result.name, result.score
        if result.image is None or result.anomaly_map is None or result.correction is None:
            return Prediction(name, error=result.error)
        threshold = self.thresholds.get(result.category)
        _save_map(result.anomaly_map, self.output / "maps" / f"{name}.{self.maps}", self.maps)
        seen = posed(result.image, self.poses[result.category])
        drawn = overlay(seen, result.anomaly_map, self.resize, threshold)
        _save_picture(drawn, self.output / "overlays" / f"{name}.png")
        _save_picture(Image.fromarray(result.correction), self.output / "corrections" / f"{name}.png")
        # at the six decimals that a model's threshold has
        verdict = "" if threshold is None else "anomalous" if round(score, 6) > threshold else "normal"
        return Prediction(name, result.category, result.reason, score, threshold, verdict, round(result.seconds, 4))
