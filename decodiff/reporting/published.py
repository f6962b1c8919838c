"""Published results, each with its source; the only numbers of the project that were not measured by it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from decodiff.files import read_csv
from decodiff.metrics import METRICS

FOLDER = Path(__file__).parent / "published"
# the training length of the comparison table of the ADer benchmark that most papers quote
ADER_EPOCHS = "100"


@dataclass(frozen=True)
class Published:
    """One published result; ``values`` are fractions in [0, 1], by metric."""

    dataset: str
    method: str
    variant: str
    values: dict[str, float]
    source: str


@functools.cache
def _read(name: str) -> list[dict[str, str]]:
    return read_csv(FOLDER / name, ("dataset", "method", "source", *METRICS))


def _values(row: dict[str, str]) -> dict[str, float]:
    return {name: round(float(row[name]) / 100, 6) for name in METRICS if row[name]}


def own_results(title: str) -> list[Published]:
    """What the authors of DeCo-Diff published for a data set, by its title: the paper's numbers and the released weights'."""
    return [
        Published(row["dataset"], row["method"], row["variant"], _values(row), row["source"])
        for row in _read("deco_diff.csv")
        if row["dataset"] == title
    ]


def peer_results(title: str) -> list[Published]:
    """Published multi-class results of other methods on a data set, by its title."""
    return [
        Published(row["dataset"], row["method"], row["venue"], _values(row), row["source"])
        for row in _read("ader_benchmark.csv")
        if row["dataset"] == title and row["epochs"] == ADER_EPOCHS
    ]
