"""`predict`: a trained model on images of one's own, a row and pictures for each, for as many as there are."""

from __future__ import annotations

import glob
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from decodiff.data.images import SUFFIXES, picture_files, read_rgb
from decodiff.data.parallel import in_order
from decodiff.devices import device
from decodiff.errors import InputError
from decodiff.files import alone, read_json, sha256, write_json
from decodiff.graph import TracedModel
from decodiff.models.names import WEIGHTS_FILE
from decodiff.pipeline import DeCoDiffPipeline, DeCoDiffPipelineOutput, StepCallback
from decodiff.settings import MapFormat, RowFormat, Runtime
from decodiff.stages.predictions import Result, Rows, Writer

log = logging.getLogger(__name__)

# what the rows in a folder were made with, so that no others are added to them
RECORD = "predict.json"


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


# ---- the model's answer


@dataclass(frozen=True)
class Chosen:
    """A category for each image of a batch, what the model says under it, and why that one."""

    categories: list[str]
    reasons: list[str]
    output: DeCoDiffPipelineOutput

    def of(self, place: int) -> dict[str, Any]:
        """What a `Result` has of the image at a place of the batch."""
        output = self.output
        return {
            "category": self.categories[place],
            "reason": self.reasons[place],
            "score": float(output.scores[place]),
            "anomaly_map": output.anomaly_maps[place],
            "correction": output.corrections[place],
        }


def answer(
    model: DeCoDiffPipeline | TracedModel,
    images: list[Image.Image],
    category: str | None,
    batch_size: int | None = None,
    callback: StepCallback | None = None,
) -> Chosen:
    """Of several categories the one under which least of an image is corrected: defects are small, a wrong object is not.

    ``callback`` is a `DeCoDiffPipeline`'s, called under each category.
    """
    candidates = (category,) if category else model.categories
    told: dict[str, Any] = {"callback_on_step_end": callback} if callback else {}
    outputs = [model(images, name, batch_size=batch_size, **told) for name in candidates]
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


def _read(item: tuple[str, Path]) -> Result:
    """What there is to say before the model is asked."""
    try:
        return Result(item[0], read_rgb(item[1]))
    except InputError as error:
        return Result(item[0], None, str(error))


def _batches(items: Iterator[Result], size: int) -> Iterator[list[Result]]:
    while batch := list(itertools.islice(items, size)):
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
    runtime: Runtime = "torch",
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
        runtime: that computes; ``torchscript`` is faster for many images, with scores within 1e-4 of ``torch``'s.

    Returns:
        How many images could not be looked at.

    Raises:
        InputError: no image, an unknown category, a folder that is no model, or one with the rows of something else.
    """
    files = listed(images, output)
    pipeline = DeCoDiffPipeline.from_pretrained(model)
    if category is not None and category not in pipeline.categories:
        raise InputError(f"--category: {category!r} is not one that the model knows: {', '.join(pipeline.categories)}")
    folder: Path = pipeline.folder  # type: ignore[assignment]  # one that was read has it
    record = {
        "unet_sha256": sha256(folder / "unet" / WEIGHTS_FILE),
        "vae_sha256": sha256(folder / "vae" / WEIGHTS_FILE),
        "settings": pipeline.settings.model_dump(mode="json"),
        **{"category": category, "threshold": threshold, "maps": maps, "runtime": runtime},
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
            pipeline.to(device())
            computing = TracedModel(pipeline) if runtime == "torchscript" else pipeline
            thresholds = pipeline.settings.thresholds if threshold is None else dict.fromkeys(pipeline.categories, threshold)
            poses = {name: pipeline.pose(name) for name in pipeline.categories}
            writer = Writer(output, maps, pipeline.settings.image.resize, thresholds, poses)
            _predict(computing, files, table, writer, category, batch_size)
        finally:
            table.close()
    return table.failed


def _predict(
    model: DeCoDiffPipeline | TracedModel,
    files: dict[str, Path],
    table: Rows,
    writer: Writer,
    category: str | None,
    batch_size: int | None,
) -> None:
    left = [item for item in files.items() if item[0] not in table.done]
    if done := len(files) - len(left):
        log.info("%s: %d of %d images are there already", writer.output, done, len(files))
    began = time.perf_counter()
    with tqdm(desc="predict", total=len(files), initial=done, unit="image") as progress:
        for batch in _batches(in_order(_read, left, None), batch_size or model.batch_size):
            readable = {item.name: item.image for item in batch if item.image is not None}
            known: dict[str, dict[str, Any]] = {}
            if readable:
                said = answer(model, list(readable.values()), category, batch_size)
                known = {name: said.of(place) for place, name in enumerate(readable)}
            seconds = (time.perf_counter() - began) / len(batch)
            results = [replace(item, seconds=seconds, **known.get(item.name, {})) for item in batch]
            for prediction in in_order(writer, results, None):
                table.append(prediction)
                progress.update()
            began = time.perf_counter()
