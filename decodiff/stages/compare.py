"""`compare`: the difference between two methods on the same images, with its interval."""

from __future__ import annotations

import logging
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
    """

    categories: np.ndarray
    fingerprints: np.ndarray
    metrics: np.ndarray
    measured: np.ndarray
    resamples: np.ndarray
    protocol: np.ndarray


def read_resamples(folder: Path) -> Resamples:
    """Raises `InputError` when the file is missing or damaged."""
    path = folder / RESAMPLES_FILE
    try:
        with np.load(path, allow_pickle=False) as content:
            return Resamples(**content)
    except Exception as error:  # whatever a damaged or malicious file makes of the reader
        raise InputError(f"{path}: no readable resamples; evaluate again") from error


def differences(first: Path, second: Path) -> list[dict[str, str]]:
    """first − second for every category, their mean and every metric, with the interval of the paired bootstrap.

    Both were evaluated on the same images, so their resamples drew the same ones, and what an image does to both cancels.

    Args:
        first, second: folders that `evaluate` wrote to.

    Returns:
        rows of `DIFFERENCE_COLUMNS`; an empty cell is a metric that one of them lacks.

    Raises:
        InputError: they were evaluated on other images, under another protocol, or with other numbers of resamples.
    """
    one, two = read_resamples(first), read_resamples(second)
    if one.categories.tolist() != two.categories.tolist() or one.fingerprints.tolist() != two.fingerprints.tolist():
        raise InputError(f"{second}: not evaluated on the same test images as {first}; compare what was")
    if one.protocol[1:].tolist() != two.protocol[1:].tolist() or one.resamples.shape != two.resamples.shape:
        ways = [f"{', '.join(of.protocol[1:])} and {of.resamples.shape[-1]} resamples" for of in (one, two)]
        raise InputError(f"{second}: evaluated under {ways[1]}, {first} under {ways[0]}; evaluate both in one way")
    rows = []
    names = [*one.categories.tolist(), MEAN]
    values = [np.concatenate([of.measured, of.measured.mean(axis=0)[None]]) for of in (one, two)]
    draws = one.resamples - two.resamples
    draws = np.concatenate([draws, draws.mean(axis=0)[None]])
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
    """Write `differences` as the CSV ``output``."""
    rows = differences(first, second)
    write_csv(output, DIFFERENCE_COLUMNS, rows)
    log.info("%d differences between %s and %s", len(rows), first, second)
