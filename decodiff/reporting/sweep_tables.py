"""T2 to T6, T13 and T14: the same run under other settings, or beside other methods, a line for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decodiff.config import FLOOR
from decodiff.data.registry import display_name
from decodiff.errors import InputError
from decodiff.files import csv_rows, read_csv, read_json
from decodiff.metrics import METRICS
from decodiff.reporting.floor_lines import floor_method
from decodiff.reporting.measured import (
    DEVIATION,
    mean_over_categories,
    mean_over_seeds,
    metric_values,
    protocol_note,
    read_metrics,
    result_folders,
)
from decodiff.reporting.names import METHODS_TABLE, SWEEP_TABLES
from decodiff.reporting.published import own_results
from decodiff.reporting.tables import EMPTY, MEASURED, PUBLISHED, Line, Table, difference_line, save_table
from decodiff.stages.compare import differences, intervals, of_categories, read_resamples
from decodiff.stages.evaluate import INTERVAL_COLUMNS, MEAN

STEPS_TABLE, SIZE_TABLE = "T4", "T6"


@dataclass(frozen=True)
class Source:
    """Results of one variant on one data set with one seed.

    Attributes:
        label: what its line is called.
        results: folder with ``metrics.csv`` and ``intervals.csv``.
        inference: ``inference.json`` of its correction, or another method's record.
        training: ``speed.tsv`` of its network's training, or another method's record.
    """

    label: str
    results: Path
    inference: Path
    training: Path


def _intervals(path: Path) -> dict[str, tuple[float, float]]:
    """Intervals of the mean over categories, of every metric that has one."""
    return {
        row["metric"]: (float(row["low"]), float(row["high"]))
        for row in read_csv(path, INTERVAL_COLUMNS)
        if row["category"] == MEAN and row["metric"] in METRICS and row["low"]
    }


def _size(record: dict[str, Any]) -> dict[str, str]:
    """What the network of a line costs, of its record; another method need not know all of it."""
    shown = {
        "parameters, M": (record["parameters"], 1e6, ".2f"),
        "GFLOP per image": (record["operations_per_image"], 1e9, ".2f"),
        "images/s": (record["images_per_second"], 1, ".1f"),
        "peak MiB": (record["peak_mib"], 1, ".0f"),
    }
    return {name: EMPTY if value is None else f"{value / unit:{form}}" for name, (value, unit, form) in shown.items()}


def _training_minutes(path: Path) -> str:
    """How long a training took, by its epochs or as another method says; of released weights nothing is known."""
    if not path.is_file():
        return EMPTY
    if path.suffix == ".json":
        seconds = read_json(path, ("training_seconds",))["training_seconds"]
    else:
        seconds = sum(float(row["seconds"]) for row in csv_rows(path, ("seconds",), delimiter="\t"))
    return EMPTY if seconds is None else f"{seconds / 60:.1f}"


def _line(name: str, row: dict[str, str], first: Source) -> Line:
    """The line of averaged results; speed, memory and intervals are those of the ``first`` seed."""
    keys = {"dataset": display_name(row["dataset"]), "scope": row["scope"], "setting": first.label, "kind": MEASURED}
    intervals: dict[str, tuple[float, float]] = {}
    record = read_json(first.inference)
    if name == SIZE_TABLE:
        keys |= _size(record)
    elif name == METHODS_TABLE:
        keys |= {"training, min": _training_minutes(first.training), **_size(record)}
    elif name == STEPS_TABLE:
        keys |= {"S": str(record["steps"]), "images/s": f"{record['images_per_second']:.1f}"}
    if row["seed"] == "1":
        intervals = _intervals(first.results / "intervals.csv")
    published = bool(own_results(keys["dataset"]))
    return Line(
        keys,
        metric_values(row, METRICS),
        "; ".join(filter(None, (record.get("about"), protocol_note(row, published)))),
        deviations=metric_values(row, METRICS, DEVIATION),
        intervals=intervals,
        results=result_folders(row),
    )


def difference_name(setting: str, baseline: str) -> str:
    """What the line of a difference is called."""
    return f"{setting} − {baseline}"


def _difference(line: Line, baseline: Line) -> Line:
    """What a line's setting changes: its values less the baseline's, on the same images and with the same seeds."""
    of_seeds = [
        differences(*(read_resamples(Path(folder)) for folder in pair))
        for pair in zip(line.results, baseline.results, strict=True)
    ]
    keys = {name: line.keys[name] for name in ("dataset", "scope")}
    keys |= {"setting": difference_name(line.keys["setting"], baseline.keys["setting"])}
    return difference_line(keys, of_seeds, MEAN, "", line.results + baseline.results)


def _floor_lines(folder: Path, baseline: Line) -> list[Line]:
    """The floor over the categories of the baseline, and its difference to that."""
    floor = read_resamples(folder)
    of_seeds = [read_resamples(Path(result)) for result in baseline.results]
    categories = of_seeds[0].categories.tolist()
    chosen = of_categories([floor], categories)
    rows = [row for row in read_metrics([folder / "metrics.csv"]) if row["category"] in categories]
    (mean,) = mean_over_categories(rows, FLOOR)
    keys = {name: baseline.keys[name] for name in ("dataset", "scope")}
    line = Line(
        {**keys, "setting": FLOOR, "kind": MEASURED},
        metric_values(mean, METRICS),
        "; ".join((floor_method(folder), protocol_note(mean, bool(own_results(keys["dataset"]))))),
        intervals={metric: ends for metric, ends in intervals(chosen)[MEAN].items() if metric in METRICS},
        results=result_folders(mean),
    )
    name = difference_name(FLOOR, baseline.keys["setting"])
    paired = [differences(chosen, of_seed) for of_seed in of_seeds]
    return [line, difference_line({**keys, "setting": name}, paired, MEAN, "", line.results + baseline.results)]


def _published(title: str, scope: str) -> list[Line]:
    """What the authors published for a data set, above the settings compared on it."""
    return [
        Line({"dataset": title, "scope": scope, "setting": result.variant, "kind": PUBLISHED}, result.values, result.note)
        for result in own_results(title)
    ]


def write_sweep_table(name: str, sources: list[Source], baseline: str, floors: list[Path], output: Path) -> None:
    """Write a table of settings or methods: for every data set and scope a line per label, the mean over categories.

    Values of several seeds are shown with their standard deviation, those of one with the 95 % interval over images. Below
    are the differences to the line called ``baseline``, paired by image and seed. ``floors`` are folders of results without a
    network, one for a data set at most; where there is one it has a line and a difference likewise.

    Raises:
        InputError: there is no table or line of that name, or a file is missing or damaged.
    """
    if name not in SWEEP_TABLES:
        raise InputError(f"no table {name!r}; choose one of {', '.join(SWEEP_TABLES)}")
    labels = list(dict.fromkeys(source.label for source in sources))
    if baseline not in labels:
        raise InputError(f"no line {baseline!r}; choose one of {', '.join(labels)}")
    parts: dict[tuple[str, str], dict[str, Line]] = {}
    for label in labels:
        same = [source for source in sources if source.label == label]
        for row in mean_over_seeds(read_metrics([source.results / "metrics.csv" for source in same])):
            if row["category"] == MEAN:
                folder = result_folders(row)[0]
                first = next(source for source in same if str(source.results) == folder)
                parts.setdefault((row["dataset"], row["scope"]), {})[label] = _line(name, row, first)
    floor_of = {read_metrics([folder / "metrics.csv"])[0]["dataset"]: folder for folder in floors}
    lines: list[Line] = []
    for (dataset, scope), measured in parts.items():
        floor = _floor_lines(floor_of[dataset], measured[baseline]) if dataset in floor_of else []
        lines += _published(display_name(dataset), scope)
        lines += [*measured.values(), *floor[:1]]
        # a method that failed has nothing to compare
        compared = [line for label, line in measured.items() if label != baseline and line.values]
        lines += [_difference(line, measured[baseline]) for line in compared]
        lines += floor[1:]
    keys = tuple(dict.fromkeys(key for line in lines if line.keys["kind"] == MEASURED for key in line.keys))
    save_table(Table(name, keys, METRICS, lines, ranked=(MEASURED,)), output)
