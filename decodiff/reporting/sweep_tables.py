"""T2 to T6: the same run under other settings, a line for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decodiff.data.registry import display_name
from decodiff.errors import InputError
from decodiff.files import read_csv, read_json
from decodiff.metrics import METRICS
from decodiff.reporting.names import SWEEP_TABLES
from decodiff.reporting.tables import DEVIATION, RESULTS, Line, Table, mean_over_seeds, metric_values, save_table
from decodiff.stages.evaluate import INTERVAL_COLUMNS, MEAN

STEPS_TABLE, SIZE_TABLE = "T4", "T6"


@dataclass(frozen=True)
class Source:
    """Results of one variant on one data set with one seed.

    Attributes:
        label: what its line is called.
        results: folder with ``metrics.csv`` and ``intervals.csv``.
        inference: ``inference.json`` of its correction.
    """

    label: str
    results: Path
    inference: Path


def _intervals(path: Path) -> dict[str, tuple[float, float]]:
    """Intervals of the mean over categories, of every metric that has one."""
    return {
        row["metric"]: (float(row["low"]), float(row["high"]))
        for row in read_csv(path, INTERVAL_COLUMNS)
        if row["category"] == MEAN and row["metric"] in METRICS and row["low"]
    }


def _size(record: dict[str, Any]) -> dict[str, str]:
    """What the network of a line costs, of ``inference.json``."""
    return {
        "parameters, M": f"{record['parameters'] / 1e6:.2f}",
        "GFLOP per image": f"{record['operations_per_image'] / 1e9:.2f}",
        "images/s": f"{record['images_per_second']:.1f}",
        "peak MiB": f"{record['peak_mib']:.0f}",
    }


def _line(name: str, row: dict[str, str], first: Source) -> Line:
    """The line of averaged results; speed, memory and intervals are those of the ``first`` seed."""
    keys = {"dataset": display_name(row["dataset"]), "scope": row["scope"], "setting": first.label}
    intervals: dict[str, tuple[float, float]] = {}
    record = read_json(first.inference)
    if name == SIZE_TABLE:
        keys |= _size(record)
    elif name == STEPS_TABLE:
        keys |= {"S": str(record["steps"]), "images/s": f"{record['images_per_second']:.1f}"}
    if row["seed"] == "1" and name != SIZE_TABLE:
        intervals = _intervals(first.results / "intervals.csv")
    note = "; ".join(filter(None, (f"protocol {row['protocol']}", row["note"])))
    deviations = metric_values(row, METRICS, DEVIATION)
    return Line(keys, metric_values(row, METRICS), {}, note, deviations, intervals, tuple(row[RESULTS].splitlines()))


def write_sweep_table(name: str, sources: list[Source], output: Path) -> None:
    """Write a table of settings: for every data set and scope a line per label, the mean over categories.

    Values of several seeds are shown with their standard deviation, those of one with the 95 % interval over images.

    Raises:
        InputError: there is no table of that name, or a file is missing or damaged.
    """
    if name not in SWEEP_TABLES:
        raise InputError(f"no table {name!r}; choose one of {', '.join(SWEEP_TABLES)}")
    lines = []
    for label in dict.fromkeys(source.label for source in sources):
        same = [source for source in sources if source.label == label]
        for row in mean_over_seeds([source.results / "metrics.csv" for source in same]):
            if row["category"] == MEAN:
                folder = row[RESULTS].splitlines()[0]
                first = next(source for source in same if str(source.results) == folder)
                lines.append(((row["dataset"], row["scope"]), _line(name, row, first)))
    places = list(dict.fromkeys(place for place, _ in lines))
    ordered = [line for place in places for other, line in lines if other == place]
    keys = tuple(ordered[0].keys) if ordered else ("dataset", "scope", "setting")
    save_table(Table(name, keys, METRICS, ordered, ranked=True), output)
