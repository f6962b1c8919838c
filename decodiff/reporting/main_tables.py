"""T1 and T7 to T11: the run's data sets beside published results, and their categories one by one.

Networks of one category each are shown together, as one training by the name of `PER_CATEGORY`: fifteen means over one category
say nothing that a reader could set beside a mean over fifteen.
"""

from __future__ import annotations

from pathlib import Path

from decodiff.data.registry import display_name, known_categories
from decodiff.errors import InputError
from decodiff.metrics import METRICS
from decodiff.reporting.measured import (
    DEVIATION,
    all_categories,
    mean_over_categories,
    mean_over_seeds,
    measured_members,
    metric_values,
    protocol_note,
    read_metrics,
    result_folders,
)
from decodiff.reporting.names import TABLES, TRAINING_TABLE
from decodiff.reporting.published import own_results, peer_results
from decodiff.reporting.tables import MEASURED, PUBLISHED, Line, Table, save_table
from decodiff.reporting.training_table import training_table
from decodiff.reporting.trainings import PER_CATEGORY, own_networks
from decodiff.stages.evaluate import MEAN

# which of the run's data sets, and which metrics
BY_CATEGORY = {
    "T7": (slice(0, 1), "image"),
    "T8": (slice(0, 1), "pixel"),
    "T9": (slice(1, 2), "image"),
    "T10": (slice(1, 2), "pixel"),
    "T11": (slice(2, None), ""),
}

Rows = list[dict[str, str]]


def _with_own_networks_together(rows: Rows) -> Rows:
    """Rows by data set; of one with several categories, those under scopes of one category each are under `PER_CATEGORY`."""
    members = measured_members(rows)
    alone = {scope for (dataset, _), scope in own_networks(members).items() if len(all_categories(dataset, members)) > 1}
    apart = [{**row, "scope": PER_CATEGORY} for row in rows if row["scope"] in alone and row["category"] != MEAN]
    others = [row for row in rows if row["scope"] not in alone]
    order = list(dict.fromkeys(row["dataset"] for row in rows))
    together = [*others, *apart, *mean_over_categories(apart, PER_CATEGORY)]
    return sorted(together, key=lambda row: order.index(row["dataset"]))


def _missing(row: dict[str, str], rows: Rows) -> list[str]:
    """Categories of a row's data set that its scope leaves out."""
    measured = {other["category"] for other in rows if all(other[name] == row[name] for name in ("scope", "dataset"))}
    return sorted(set(known_categories(row["dataset"])) - measured)


def _measured(keys: dict[str, str], row: dict[str, str], rows: Rows, metrics: tuple[str, ...]) -> Line:
    """A line of a data set's mean or category; a multi-class mean over all categories has the published one as its reference.

    That is the result of the released weights: of the two published ones the one whose recipe is known to the last constant.
    """
    title = display_name(row["dataset"])
    own = own_results(title)
    is_mean, is_multi_class = row["category"] == MEAN, row["scope"] != PER_CATEGORY
    missing = _missing(row, rows) if is_mean else []
    notes = [protocol_note(row, bool(own or peer_results(title)))]
    reference = {}
    if is_mean and not is_multi_class:
        notes.append("a network for each category")
    if missing:
        notes.append(f"without {', '.join(missing)}, so not to be compared")
    elif own and is_mean and is_multi_class:
        notes.append(f"difference to {own[-1].variant}")
        reference = {name: value for name, value in own[-1].values.items() if name in metrics}
    return Line(
        {**keys, "kind": MEASURED},
        metric_values(row, metrics),
        "; ".join(notes),
        reference=reference,
        deviations=metric_values(row, metrics, DEVIATION),
        results=result_folders(row),
    )


def _comparison(rows: Rows) -> Table:
    """T1: the mean of every data set, below what others and the authors published for it."""
    lines = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        title = display_name(dataset)
        for result in [*peer_results(title), *own_results(title)]:
            keys = {"dataset": title, "method": f"{result.method} ({result.variant})", "kind": PUBLISHED}
            lines.append(Line(keys, result.values, result.source))
        for row in rows:
            if row["dataset"] == dataset and row["category"] == MEAN:
                seeds = f", mean of {row['seed']} seeds" if row["seed"] != "1" else ""
                keys = {"dataset": title, "method": f"DeCo-Diff (this run, {row['scope']}{seeds})"}
                lines.append(_measured(keys, row, rows, METRICS))
    return Table("T1", ("dataset", "method", "kind"), METRICS, lines, ranked=(PUBLISHED, MEASURED))


def _by_category(name: str, rows: Rows) -> Table:
    """T7 to T11: metrics of every category and their mean, of the first, the second or the further data sets."""
    which, prefix = BY_CATEGORY[name]
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))[which]
    metrics = tuple(metric for metric in METRICS if metric.startswith(prefix))
    lines = []
    for row in rows:
        if row["dataset"] not in datasets:
            continue
        title = display_name(row["dataset"])
        about = {"dataset": title, "scope": row["scope"], "category": row["category"]}
        counts = {name: row[name] for name in ("images", "anomalous")}
        lines.append(_measured({**about, **counts}, row, rows, metrics))
        if row["category"] == MEAN and row["scope"] != PER_CATEGORY:
            for result in own_results(title):
                values = {name: value for name, value in result.values.items() if name in metrics}
                keys = {**about, "category": f"{MEAN}, {result.variant}", "images": "", "anomalous": "", "kind": PUBLISHED}
                lines.append(Line(keys, values, result.source))
    return Table(name, ("dataset", "scope", "category", "images", "anomalous", "kind"), metrics, lines, ranked=())


def build_table(name: str, metrics: list[Path]) -> Table:
    """The table of that name over the given metrics files; T12 also reads the resamples beside them.

    Raises:
        InputError: there is none of that name, or as `training_table` does.
    """
    if name not in TABLES:
        raise InputError(f"no table {name!r}; choose one of {', '.join(TABLES)}")
    rows = read_metrics(metrics)
    if name == TRAINING_TABLE:
        return training_table(rows)
    rows = mean_over_seeds(_with_own_networks_together(rows))
    return _comparison(rows) if name == "T1" else _by_category(name, rows)


def write_table(name: str, metrics: list[Path], output: Path) -> None:
    """Make a table and write it; see `save_table`."""
    save_table(build_table(name, metrics), output)
