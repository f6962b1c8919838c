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
OWN_METHOD = "DeCo-Diff"
# how each source measured where that is not this project's way; docs/protocol.md has what it changes
AUTHORS_PROTOCOL = "measured by the authors' code, whose ways are the protocol reference here"
ADER_PROTOCOL = "not measured as here: pixel F1max of 21 thresholds, AUPRO of 200, image labels from masks"


@dataclass(frozen=True)
class Published:
    """One published result; ``values`` are fractions in [0, 1], by metric, ``protocol`` says how they were measured."""

    dataset: str
    method: str
    variant: str
    values: dict[str, float]
    source: str
    protocol: str

    @property
    def note(self) -> str:
        """What a table says of it."""
        return f"{self.source}; {self.protocol}"


@functools.cache
def _read(name: str) -> list[dict[str, str]]:
    return read_csv(FOLDER / name, ("dataset", "method", "source", *METRICS))


def _values(row: dict[str, str]) -> dict[str, float]:
    return {name: round(float(row[name]) / 100, 6) for name in METRICS if row[name]}


def own_results(title: str) -> list[Published]:
    """What the authors of DeCo-Diff published for a data set, by its title: the paper's numbers and the released weights'."""
    return [
        Published(row["dataset"], row["method"], row["variant"], _values(row), row["source"], AUTHORS_PROTOCOL)
        for row in _read("deco_diff.csv")
        if row["dataset"] == title
    ]


def peer_results(title: str) -> list[Published]:
    """Published multi-class results of other methods on a data set, by its title."""
    return [
        Published(row["dataset"], row["method"], row["venue"], _values(row), row["source"], ADER_PROTOCOL)
        for row in _read("ader_benchmark.csv")
        if row["dataset"] == title and row["epochs"] == ADER_EPOCHS
    ]
