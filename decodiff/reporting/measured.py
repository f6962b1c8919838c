"""What a run measured, as tables need it: averaged over seeds, and set against how published numbers were measured."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev

from decodiff.config import METHOD_FILE
from decodiff.data.registry import known_categories
from decodiff.files import read_csv, read_json, write_json
from decodiff.metrics import METRICS
from decodiff.reporting.trainings import Members
from decodiff.stages.compare import Resamples, of_categories, read_resamples
from decodiff.stages.evaluate import MEAN, METRIC_COLUMNS

DEVIATION = "std_"
RESULTS, METHOD = "results", "method"
# how the authors measured their results, in the columns of a metrics file
PUBLISHED_PROTOCOL = {"protocol": "reference", "crop": "central 256 of 288", "image_score": "maximum"}


def read_metrics(metrics: list[Path]) -> list[dict[str, str]]:
    """Rows of all metrics files, with the folder they come from in `RESULTS` and the name of another method in `METHOD`."""
    rows = []
    for path in metrics:
        record = path.with_name(METHOD_FILE)
        method = read_json(record, (METHOD,))[METHOD] if record.is_file() else ""
        rows += [{**row, RESULTS: str(path.parent), METHOD: method} for row in read_csv(path, METRIC_COLUMNS)]
    return rows


def apart(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The same rows, the scopes of other methods under a name of their own: ``<method>, <scope>``."""
    return [{**row, "scope": f"{row[METHOD]}, {row['scope']}"} if row[METHOD] else row for row in rows]


def measured_members(rows: list[dict[str, str]]) -> Members:
    """Scopes, their data sets and the categories of these, in the order of the rows."""
    members: dict[str, dict[str, dict[str, None]]] = {}
    for row in rows:
        if row["category"] != MEAN:
            members.setdefault(row["scope"], {}).setdefault(row["dataset"], {})[row["category"]] = None
    return {scope: {name: tuple(held) for name, held in datasets.items()} for scope, datasets in members.items()}


def all_categories(dataset: str, members: Members) -> list[str]:
    """Categories of a data set: those that are known of it, and those that some scope holds."""
    held = (category for datasets in members.values() for category in datasets.get(dataset, ()))
    return list(dict.fromkeys([*known_categories(dataset), *held]))


def mean_over_categories(rows: list[dict[str, str]], scope: str) -> list[dict[str, str]]:
    """The mean of given rows of categories for every data set and seed, whatever their scopes, under the name ``scope``.

    The column `RESULTS` names their folders, a line each.
    """
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["dataset"], row["seed"]), []).append(row)
    means = []
    for same in groups.values():
        values = {
            name: repr(fmean(float(row[name]) for row in same)) if all(row[name] for row in same) else "" for name in METRICS
        }
        counts = {name: str(sum(int(row[name]) for row in same)) for name in ("images", "anomalous")}
        note = "; ".join(f"{row['category']}: {row['note']}" for row in same if row["note"])
        folders = "\n".join(dict.fromkeys(row[RESULTS] for row in same))
        means.append({**same[0], **values, **counts, "category": MEAN, "scope": scope, "note": note, RESULTS: folders})
    return means


def mean_over_seeds(measured: list[dict[str, str]]) -> list[dict[str, str]]:
    """Those rows that differ in their seed alone as mean and standard deviation; what one seed lacks is empty.

    The column `RESULTS` names their folders, a line each; ``seed`` is the number of seeds.
    """
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in measured:
        groups.setdefault((row["dataset"], row["scope"], row["category"]), []).append(row)
    rows = []
    for same in groups.values():
        values = dict.fromkeys([*METRICS, *(DEVIATION + name for name in METRICS)], "")
        for name in METRICS:
            of_seeds = [float(row[name]) for row in same if row[name]]
            if len(of_seeds) == len(same):
                values[name] = repr(fmean(of_seeds))
                values[DEVIATION + name] = repr(stdev(of_seeds)) if len(same) > 1 else ""
        # one seed of another method may have failed
        note = "; ".join(dict.fromkeys(row["note"] for row in same if row["note"]))
        folders = "\n".join(row[RESULTS] for row in same)
        rows.append({**same[0], **values, "note": note, "seed": str(len(same)), RESULTS: folders})
    return rows


def drawn_by_seed(rows: list[dict[str, str]], categories: list[str]) -> dict[str, Resamples]:
    """Resamples of some categories for each seed, of rows of these categories that may lie in several folders.

    Raises:
        InputError: resamples are missing, damaged or made in different ways.
    """
    folders: dict[str, dict[str, Resamples]] = {}
    for row in rows:
        of_seed = folders.setdefault(row["seed"], {})
        if row[RESULTS] not in of_seed:
            of_seed[row[RESULTS]] = read_resamples(Path(row[RESULTS]))
    return {seed: of_categories(list(found.values()), categories) for seed, found in folders.items()}


def metric_values(row: dict[str, str], metrics: tuple[str, ...], prefix: str = "") -> dict[str, float]:
    """The metrics that a row has, as fractions."""
    return {name: float(row[prefix + name]) for name in metrics if row[prefix + name]}


def result_folders(row: dict[str, str]) -> tuple[str, ...]:
    """The folders of results that a row averages."""
    return tuple(row[RESULTS].splitlines())


def write_summary(metrics: list[Path], output: Path) -> None:
    """Write the means over categories as ``{data set: {scope: {metric: fraction}}}``, for tools that compare runs.

    A metric that some category lacks is left out.
    """
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for row in mean_over_seeds(apart(read_metrics(metrics))):
        if row["category"] == MEAN:
            summary.setdefault(row["dataset"], {})[row["scope"]] = metric_values(row, METRICS)
    write_json(output, summary)


def protocol_note(row: dict[str, str], published: bool) -> str:
    """How a row was measured and why some of its metrics are missing.

    Where the data set has ``published`` results, it says what was done in another way than for these.
    """
    notes = [f"protocol {row['protocol']}"]
    departures = [f"{name} {row[name]} instead of {value}" for name, value in PUBLISHED_PROTOCOL.items() if row[name] != value]
    if published and departures:
        notes.append(f"not measured as the published numbers were: {', '.join(departures)}".replace("_", " "))
    return "; ".join(filter(None, (*notes, row["note"])))
