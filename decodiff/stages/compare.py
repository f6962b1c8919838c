"""`compare`: the difference between two methods on the same images, with its interval."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from decodiff.bootstrap import CONFIDENCE, interval
from decodiff.errors import InputError
from decodiff.files import write_csv
from decodiff.stages.evaluate import MEAN, RESAMPLES_FILE

log = logging.getLogger(__name__)

DIFFERENCE_COLUMNS = ("category", "metric", "first", "second", "difference", "low", "high", "confidence", "resamples")


@dataclass(frozen=True)
class Resamples:
    """What `evaluate` kept of its bootstrap: C categories, M metrics, R resamples.

    Attributes:
        categories, fingerprints: names, and checksums of their images and labels, ``[C]``.
        metrics: names ``[M]``.
        measured, resamples: float64 ``[C,M]`` and float32 ``[C,M,R]``.
        protocol: data set, protocol and image score.
        folders: where each category's were read ``[C]``.
    """

    categories: np.ndarray
    fingerprints: np.ndarray
    metrics: np.ndarray
    measured: np.ndarray
    resamples: np.ndarray
    protocol: np.ndarray
    folders: np.ndarray


def read_resamples(folder: Path) -> Resamples:
    """Raises `InputError` when the file is missing or damaged."""
    path = folder / RESAMPLES_FILE
    try:
        with np.load(path, allow_pickle=False) as content:
            return Resamples(**content, folders=np.full(content["categories"].shape, str(folder)))
    except Exception as error:  # whatever a damaged or malicious file makes of the reader
        raise InputError(f"{path}: no readable resamples; evaluate again") from error


def of_categories(parts: Sequence[Resamples], categories: Sequence[str]) -> Resamples:
    """Some categories of results that may lie in several folders, as if `evaluate` had written them to one.

    Args:
        parts: results of one data set, at least one.
        categories: which of theirs, in this order.

    Raises:
        InputError: no part has a category, or they were evaluated under different protocols or with other numbers of resamples.
    """
    for part in parts[1:]:
        _refuse_other_way(parts[0], part)
    places = {name: (part, place) for part in parts for place, name in enumerate(part.categories.tolist())}
    if missing := [name for name in categories if name not in places]:
        raise InputError(f"{parts[0].folders[0]}: nothing of {', '.join(missing)} there; give results that hold it")

    def chosen(attribute: str) -> np.ndarray:
        return np.array([getattr(part, attribute)[place] for part, place in map(places.__getitem__, categories)])

    by_category = {name: chosen(name) for name in ("categories", "fingerprints", "measured", "resamples", "folders")}
    return Resamples(metrics=parts[0].metrics, protocol=parts[0].protocol, **by_category)


def _refuse_other_way(one: Resamples, two: Resamples) -> None:
    """Raises `InputError` when they were evaluated under different protocols or with other numbers of resamples."""
    if one.protocol[1:].tolist() != two.protocol[1:].tolist() or one.resamples.shape[1:] != two.resamples.shape[1:]:
        ways = [f"{', '.join(of.protocol[1:])} and {of.resamples.shape[-1]} resamples" for of in (one, two)]
        raise InputError(
            f"{two.folders[0]}: evaluated under {ways[1]}, {one.folders[0]} under {ways[0]}; evaluate both in one way"
        )


def _refuse_other_images(one: Resamples, two: Resamples) -> None:
    """Raises `InputError` when they were not evaluated on the same test images."""
    images = [list(zip(of.categories.tolist(), of.fingerprints.tolist())) for of in (one, two)]
    if images[0] != images[1]:
        place = next((place for place, (first, second) in enumerate(zip(*images)) if first != second), 0)
        raise InputError(
            f"{two.folders[place]}: not evaluated on the same test images as {one.folders[place]}; compare what was"
        )


def _with_mean(values: np.ndarray) -> np.ndarray:
    """``[C,…]`` to ``[C+1,…]``: their mean over categories is the last."""
    return np.concatenate([values, values.mean(axis=0)[None]])


def intervals(of: Resamples) -> dict[str, dict[str, tuple[float, float]]]:
    """The interval of every category, of their mean and every metric; of a metric that it lacks there is none."""
    return {
        category: {metric: ends for metric, ends in zip(of.metrics.tolist(), map(interval, draws)) if not np.isnan(ends).any()}
        for category, draws in zip([*of.categories.tolist(), MEAN], _with_mean(of.resamples))
    }


def differences(one: Resamples, two: Resamples) -> list[dict[str, str]]:
    """one − two for every category, their mean and every metric, with the interval of the paired bootstrap.

    Both were evaluated on the same images, so their resamples drew the same ones, and what an image does to both cancels.

    Returns:
        rows of `DIFFERENCE_COLUMNS`; an empty cell is a metric that one of them lacks.

    Raises:
        InputError: they were evaluated on other images, under another protocol, or with other numbers of resamples.
    """
    _refuse_other_images(one, two)
    _refuse_other_way(one, two)
    rows = []
    names = [*one.categories.tolist(), MEAN]
    values = [_with_mean(of.measured) for of in (one, two)]
    draws = _with_mean(one.resamples - two.resamples)
    for place, category in enumerate(names):
        for index, metric in enumerate(one.metrics.tolist()):
            pair = [float(value[place, index]) for value in values]
            low, high = interval(draws[place, index])
            cells = [*pair, pair[0] - pair[1], low, high]
            shown = ["" if np.isnan(cell) else f"{cell:.6f}" for cell in cells]
            row = dict(zip(DIFFERENCE_COLUMNS, (category, metric, *shown, f"{CONFIDENCE:g}", str(draws.shape[-1]))))
            rows.append(row)
    return rows


def compare(first: Path, second: Path, output: Path) -> None:
    """Write the `differences` between what `evaluate` wrote to two folders as the CSV ``output``."""
    rows = differences(read_resamples(first), read_resamples(second))
    write_csv(output, DIFFERENCE_COLUMNS, rows)
    log.info("%d differences between %s and %s", len(rows), first, second)
