"""`evaluate`: all metrics of every category and their mean, how sure they are, and a threshold for use."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from decodiff.bootstrap import CONFIDENCE, interval, resampled
from decodiff.data.maps import MappedImage, Maps
from decodiff.files import replacing, write_csv
from decodiff.metrics import ALL_METRICS, MAX_FPR, evaluate_batches, f1, image_curve
from decodiff.protocols import PROTOCOLS
from decodiff.seeds import numpy_generator
from decodiff.settings import Evaluation
from decodiff.threshold import choose_threshold

log = logging.getLogger(__name__)

MEAN = "mean"
IDENTITY = ("dataset", "scope", "seed", "protocol", "masks", "crop", "aupro", "image_score")
METRIC_COLUMNS = (*IDENTITY, "category", "images", "anomalous", *ALL_METRICS, "note")
DEFECT_COLUMNS = (*IDENTITY, "category", "defect", "images", "anomalous", *ALL_METRICS, "note")
INTERVAL_COLUMNS = (*IDENTITY, "category", "metric", "value", "low", "high", "confidence", "resamples")
THRESHOLD_COLUMNS = (
    *(*IDENTITY, "category", "held_out", "threshold", "expected_false_alarm_rate"),
    *("test_false_alarm_rate", "test_detection_rate", "test_f1", "oracle_threshold", "oracle_f1max", "note"),
)
SCORE_COLUMNS = ("image", "category", "split", "label", "defect", "image_score", "alarm")
RESAMPLES_FILE = "resamples.npz"

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Category:
    """The images of one category: positions among all maps, and what belongs to each position."""

    name: str
    positions: np.ndarray
    images: list[MappedImage]
    scores: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return np.array([image.label for image in self.images], dtype=bool)

    def only(self, keep: np.ndarray) -> Category:
        """Those of its images for which ``keep``, bool ``[N]``, holds."""
        images = [image for image, kept in zip(self.images, keep) if kept]
        return Category(self.name, self.positions[keep], images, self.scores[keep])

    def of_split(self, split: str) -> Category:
        return self.only(np.array([image.split == split for image in self.images], dtype=bool))


def _categories(maps: Maps, scores: np.ndarray) -> list[Category]:
    """In order of appearance; the images of each ordered by what is the same for all methods."""
    by_name: dict[str, list[int]] = {}
    for position, image in enumerate(maps.images):
        by_name.setdefault(image.category, []).append(position)
    result = []
    for name, positions in by_name.items():
        order = np.array(sorted(positions, key=lambda position: maps.images[position].key))
        result.append(Category(name, order, [maps.images[position] for position in order], scores[order]))
    return result


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def _cells(values: dict[str, float]) -> dict[str, str]:
    return {name: _cell(value) for name, value in values.items()}


def _measured(maps: Maps, part: Category, protocol: str) -> tuple[dict[str, float], str]:
    """Metrics, and why some are missing, if they are."""
    labels = part.labels
    values = evaluate_batches(maps.batches(part.positions), part.scores, labels, protocol)
    reasons = []
    if not len(labels):
        reasons.append("no test image, so no metric")
    elif not labels.any():
        reasons.append("no anomalous test image, so no metric")
    elif labels.all():
        reasons.append("no normal test image, so no image metrics")
    if not all(image.has_mask for image in part.images):
        values |= {name: math.nan for name in ALL_METRICS if name.startswith("pixel")}
        reasons.append("not every anomalous image has a mask, so no pixel metrics")
    elif labels.any() and math.isnan(values["pixel_auroc"]):
        empty = not any(masks.any() for _, masks in maps.batches(part.positions))
        reasons.append(f"no {'anomalous' if empty else 'normal'} pixel inside the crop, so no pixel metrics")
    elif labels.any() and math.isnan(values["pixel_aupro"]):
        reasons.append(f"fewer than two of the 200 thresholds have a false-positive rate below {MAX_FPR}, so no AUPRO")
    return values, "; ".join(reasons)


def _counts(part: Category) -> dict[str, Any]:
    return {"category": part.name, "images": len(part.images), "anomalous": int(part.labels.sum())}


def _defect_rows(maps: Maps, part: Category, protocol: str) -> list[dict[str, object]]:
    """Metrics of each kind of defect against the category's normal images."""
    rows: Rows = []
    for defect in sorted({image.defect for image in part.images if image.label}):
        chosen = part.only(np.array([not image.label or image.defect == defect for image in part.images]))
        values, note = _measured(maps, chosen, protocol)
        rows.append({**_counts(chosen), "defect": defect, **_cells(values), "note": note})
    return rows


def _threshold_row(tested: Category, held_out: Category, rate: float) -> tuple[dict[str, object], float]:
    """What a threshold chosen on held-out normal images does on the test images, and the threshold."""
    threshold, expected = choose_threshold(held_out.scores[~held_out.labels], rate)
    row: dict[str, object] = {"category": tested.name, "held_out": int((~held_out.labels).sum()), "note": ""}
    labels, scores = tested.labels, tested.scores
    if labels.any() and not labels.all():
        curve = image_curve(scores, labels)
        best = f1(curve)
        row |= {"oracle_threshold": _cell(float(curve.thresholds[best.argmax()])), "oracle_f1max": _cell(float(best.max()))}
    if math.isnan(threshold):
        row["note"] = "no held-out normal image, so no threshold; set data.<name>.hold_out"
        return row, threshold
    alarm = scores > threshold
    row |= {"threshold": f"{threshold:.6f}", "expected_false_alarm_rate": _cell(expected)}
    if expected > rate:
        row["note"] = f"{held_out.scores.size} held-out images cannot show a rate of {rate:g}; this is the highest of them"
    if not labels.all():
        row["test_false_alarm_rate"] = _cell(float(alarm[~labels].mean()))
    if labels.any():
        row["test_detection_rate"] = _cell(float(alarm[labels].mean()))
        row["test_f1"] = _cell(float(2 * alarm[labels].sum() / (alarm.sum() + labels.sum())))
    return row, threshold


def _fingerprint(part: Category) -> str:
    """SHA-256 of what makes two methods' resamples comparable: the category's images and their labels."""
    lines = (f"{image.key} {image.label}\n" for image in part.images)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _interval_rows(category: str, values: dict[str, float], draws: dict[str, np.ndarray]) -> list[dict[str, object]]:
    rows = []
    for name in ALL_METRICS:
        low, high = interval(draws[name])
        both = {"category": category, "metric": name, "value": _cell(values[name])}
        ends = {"low": _cell(low), "high": _cell(high)} if not math.isnan(values[name]) else {"low": "", "high": ""}
        rows.append({**both, **ends, "confidence": f"{CONFIDENCE:g}", "resamples": len(draws[name])})
    return rows


def _mean(columns: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.mean([values[name] for values in columns], axis=0) for name in ALL_METRICS}


def _common(evaluation: Evaluation, identity: dict[str, str]) -> dict[str, str]:
    """What every row of every file says."""
    score = "maximum" if evaluation.top_pixels == 1 else f"mean of the {evaluation.top_pixels} highest pixels"
    protocol = evaluation.protocol
    return {**identity, "protocol": protocol, **vars(PROTOCOLS[protocol]), "image_score": score}


def evaluate_maps(maps: Maps, evaluation: Evaluation, identity: dict[str, str], output: Path) -> None:
    """Measure the maps of one data set under one model, or of any other method.

    Writes to the folder ``output``: ``metrics.csv``, a row per category in order of appearance and one for their mean;
    ``defects.csv``, a row per kind of defect against the category's normal images; ``intervals.csv``, a row per category and
    metric, and ``resamples.npz`` behind it, to compare two methods (see `decodiff.stages.compare`); ``thresholds.csv``, a row
    per category; ``scores.csv``, a row per image. Only test images are measured; held-out normal images give the threshold.
    An empty cell has a note.

    Args:
        maps: maps and masks.
        evaluation: protocol, image score, resamples and the rate of false alarms.
        identity: ``dataset``, ``scope``, ``seed`` and ``crop``, written into every row.

    Raises:
        InputError: the maps do not belong to the images, or hold NaN.
    """
    protocol, common = evaluation.protocol, _common(evaluation, identity)
    scores = maps.scores(np.arange(len(maps.images)), evaluation.top_pixels)
    metrics, defects, intervals, thresholds = [], [], [], []
    measured, drawn, fingerprints, alarms = [], [], [], np.full(len(scores), np.nan)
    categories = _categories(maps, scores)
    for category in tqdm(categories, desc="evaluate", unit="category"):
        tested = category.of_split("test")
        values, note = _measured(maps, tested, protocol)
        measured.append(values)
        metrics.append({**_counts(tested), **_cells(values), "note": note})
        defects += _defect_rows(maps, tested, protocol)
        row, threshold = _threshold_row(tested, category.of_split("validation"), evaluation.false_alarm_rate)
        thresholds.append(row)
        alarms[category.positions] = np.where(np.isnan(threshold), np.nan, category.scores > threshold)
        fingerprints.append(_fingerprint(tested))
        # the same draws for every method: they depend on the images alone
        generator = numpy_generator(0, f"bootstrap {category.name} {fingerprints[-1]}")
        arguments = (maps.batches(tested.positions), tested.scores, tested.labels, evaluation.resamples, generator)
        draws = resampled(*arguments, protocol)
        drawn.append({name: draws[name] if not math.isnan(values[name]) else draws[name] * np.nan for name in ALL_METRICS})
        intervals += _interval_rows(category.name, values, drawn[-1])
    mean = _mean(measured)
    incomplete = any(math.isnan(value) for value in mean.values())
    note = "a metric that some category lacks has no mean" if incomplete else ""
    counts = {name: sum(row[name] for row in metrics) for name in ("images", "anomalous")}
    metrics.append({"category": MEAN, **counts, **_cells(mean), "note": note})
    output.mkdir(parents=True, exist_ok=True)
    intervals += _interval_rows(MEAN, mean, _mean(drawn))
    _write_resamples(output / RESAMPLES_FILE, categories, fingerprints, measured, drawn, common)
    _write_rows(output, common, metrics, defects, intervals, thresholds)
    write_csv(output / "scores.csv", SCORE_COLUMNS, _score_rows(maps.images, scores, alarms))
    log.info("; ".join(f"{name} {value:.3f}" for name, value in mean.items()))


def write_unmeasured(reason: str, evaluation: Evaluation, identity: dict[str, str], output: Path) -> None:
    """The files of `evaluate_maps` for what left no maps: no number, and why in the note of the one line of ``metrics.csv``."""
    common = _common(evaluation, identity)
    output.mkdir(parents=True, exist_ok=True)
    _write_resamples(output / RESAMPLES_FILE, [], [], [], [], common)
    _write_rows(output, common, [{"category": MEAN, "note": reason}], [], [], [])
    write_csv(output / "scores.csv", SCORE_COLUMNS, [])


def _write_rows(output: Path, common: dict[str, str], metrics: Rows, defects: Rows, intervals: Rows, thresholds: Rows) -> None:
    for name, columns, rows in (
        ("metrics", METRIC_COLUMNS, metrics),
        ("defects", DEFECT_COLUMNS, defects),
        ("intervals", INTERVAL_COLUMNS, intervals),
        ("thresholds", THRESHOLD_COLUMNS, thresholds),
    ):
        write_csv(output / f"{name}.csv", columns, ({**common, **row} for row in rows))


def _score_rows(images: list[MappedImage], scores: np.ndarray, alarms: np.ndarray) -> Iterator[dict[str, object]]:
    for image, score, alarm in zip(images, scores, alarms):
        yield {
            **{"image": image.name, "category": image.category, "split": image.split, "label": image.label},
            **{"defect": image.defect, "image_score": f"{score:.6f}", "alarm": "" if math.isnan(alarm) else int(alarm)},
        }


def _write_resamples(
    path: Path,
    categories: list[Category],
    fingerprints: list[str],
    measured: list[dict[str, float]],
    drawn: list[dict[str, np.ndarray]],
    common: dict[str, str],
) -> None:
    """Metrics ``[C,M]``, resamples ``[C,M,R]`` in single precision, and what says whether two of them can be compared."""
    with replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            categories=[category.name for category in categories],
            fingerprints=fingerprints,
            metrics=ALL_METRICS,
            measured=[[values[name] for name in ALL_METRICS] for values in measured],
            resamples=np.array([[draws[name] for name in ALL_METRICS] for draws in drawn], dtype=np.float32),
            protocol=[common[name] for name in ("dataset", "protocol", "image_score")],
        )
