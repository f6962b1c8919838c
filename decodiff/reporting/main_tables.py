"""T1 and T7 to T11: the run's data sets beside published results, and their categories one by one.

Networks of one category each are shown together, as one training by the name of `PER_CATEGORY`: fifteen means over one category
say nothing that a reader could set beside a mean over fifteen.
"""

from __future__ import annotations

from pathlib import Path

from decodiff.config import FLOOR
from decodiff.data.registry import display_name, known_categories
from decodiff.errors import InputError
from decodiff.metrics import METRICS
from decodiff.reporting.floor_lines import Key, covered, floor_method, not_above_floor
from decodiff.reporting.measured import (
    DEVIATION,
    METHOD,
    all_categories,
    apart,
    mean_over_categories,
    mean_over_seeds,
    measured_members,
    metric_values,
    protocol_note,
    read_metrics,
    result_folders,
)
from decodiff.reporting.names import TABLES, TRAINING_TABLE
from decodiff.reporting.published import OWN_METHOD, own_results, peer_results
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
# by data set, scope and category
Notes = dict[Key, str]


def _is_published(row: dict[str, str]) -> bool:
    """Whether the authors published a mean that this one has beside it: of a network over several categories."""
    return row["category"] == MEAN and row["scope"] not in (PER_CATEGORY, FLOOR) and not row[METHOD]


def _with_own_networks_together(rows: Rows) -> Rows:
    """Rows by data set; of one with several categories, those under scopes of one category each are under `PER_CATEGORY`."""
    members = measured_members(rows)
    alone = {scope for (dataset, _), scope in own_networks(members).items() if len(all_categories(dataset, members)) > 1}
    together = [{**row, "scope": PER_CATEGORY} for row in rows if row["scope"] in alone and row["category"] != MEAN]
    others = [row for row in rows if row["scope"] not in alone]
    return [*others, *together, *mean_over_categories(together, PER_CATEGORY)]


def _missing(row: dict[str, str], rows: Rows) -> list[str]:
    """Categories of a row's data set that its scope leaves out."""
    measured = {other["category"] for other in rows if all(other[name] == row[name] for name in ("scope", "dataset"))}
    return sorted(set(known_categories(row["dataset"])) - measured)


def _measured(keys: dict[str, str], row: dict[str, str], rows: Rows, metrics: tuple[str, ...], below: Notes) -> Line:
    """A line of a data set's mean or category; a multi-class mean over all categories has the published one as its reference.

    That is the result of the released weights: of the two published ones the one whose recipe is known to the last constant.
    ``below`` says which lines are not above the floor.
    """
    title = display_name(row["dataset"])
    own = own_results(title)
    is_mean = row["category"] == MEAN
    values = metric_values(row, metrics)
    missing = _missing(row, rows) if is_mean and values else []
    notes = [protocol_note(row, bool(own or peer_results(title)))]
    reference = {}
    if is_mean and row["scope"] == PER_CATEGORY:
        notes.append("a network for each category")
    if missing:
        notes.append(f"without {', '.join(missing)}, so not to be compared")
    elif own and _is_published(row):
        notes.append(f"difference to {own[-1].variant}")
        reference = {name: value for name, value in own[-1].values.items() if name in metrics}
    notes.append(below.get((row["dataset"], row["scope"], row["category"]), ""))
    return Line(
        {**keys, "kind": MEASURED},
        values,
        "; ".join(filter(None, notes)),
        reference=reference,
        deviations=metric_values(row, metrics, DEVIATION),
        results=result_folders(row),
    )


def _metrics(name: str) -> tuple[str, ...]:
    """Those that a table shows."""
    _, prefix = BY_CATEGORY.get(name, (None, ""))
    return tuple(metric for metric in METRICS if metric.startswith(prefix))


def _method(row: dict[str, str]) -> str:
    """What a line of T1 is called."""
    if row["scope"] == FLOOR:
        return f"{FLOOR}: {floor_method(Path(result_folders(row)[0]))} (this run)"
    seeds = f", mean of {row['seed']} seeds" if row["seed"] != "1" else ""
    return f"{row[METHOD] or 'DeCo-Diff'} (this run, {row['scope'].removeprefix(row[METHOD] + ', ')}{seeds})"


def _comparison(rows: Rows, below: Notes) -> Table:
    """T1: the mean of every data set, below what others and the authors published for it."""
    lines = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        title = display_name(dataset)
        for result in [*peer_results(title), *own_results(title)]:
            keys = {"dataset": title, "method": f"{result.method} ({result.variant})", "kind": PUBLISHED}
            lines.append(Line(keys, result.values, result.note))
        for row in rows:
            if row["dataset"] == dataset and row["category"] == MEAN:
                lines.append(_measured({"dataset": title, "method": _method(row)}, row, rows, METRICS, below))
    return Table("T1", ("dataset", "method", "kind"), METRICS, lines, ranked=(PUBLISHED, MEASURED))


def _by_category(name: str, rows: Rows, below: Notes) -> Table:
    """T7 to T11: metrics of every category and their mean, of the first, the second or the further data sets."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))[BY_CATEGORY[name][0]]
    metrics = _metrics(name)
    lines = []
    for row in rows:
        if row["dataset"] not in datasets:
            continue
        title = display_name(row["dataset"])
        about = {"dataset": title, "scope": row["scope"], "category": row["category"]}
        counts = {name: row[name] for name in ("images", "anomalous")}
        lines.append(_measured({**about, **counts}, row, rows, metrics, below))
        if _is_published(row):
            for result in [*peer_results(title), *own_results(title)]:
                values = {name: value for name, value in result.values.items() if name in metrics}
                # of the authors of DeCo-Diff which of their results, of others which method
                called = result.variant if result.method == OWN_METHOD else result.method
                keys = {**about, "category": f"{MEAN}, {called}", "images": "", "anomalous": "", "kind": PUBLISHED}
                lines.append(Line(keys, values, result.note))
    return Table(name, ("dataset", "scope", "category", "images", "anomalous", "kind"), metrics, lines, ranked=())


def build_table(name: str, metrics: list[Path]) -> Table:
    """The table of that name over the given metrics files, those of the floor and of other methods among them.

    T12 also reads the resamples beside them; the others do where there is a floor, to say what is not above it.

    Raises:
        InputError: there is none of that name, or as `training_table` and `not_above_floor` do.
    """
    if name not in TABLES:
        raise InputError(f"no table {name!r}; choose one of {', '.join(TABLES)}")
    read = read_metrics(metrics)
    floor, rows = ([row for row in read if (row["scope"] == FLOOR) == is_floor] for is_floor in (True, False))
    if name == TRAINING_TABLE:
        return training_table(rows)
    order = list(dict.fromkeys(row["dataset"] for row in rows))
    methods = dict.fromkeys(row[METHOD] for row in rows)
    rows = [row for name in methods for row in apart(_with_own_networks_together([row for row in rows if row[METHOD] == name]))]
    below = not_above_floor(rows, floor, _metrics(name))
    shown = sorted([*rows, *covered(floor, rows)], key=lambda row: order.index(row["dataset"]))
    averaged = mean_over_seeds(shown)
    return _comparison(averaged, below) if name == "T1" else _by_category(name, averaged, below)


def write_table(name: str, metrics: list[Path], output: Path) -> None:
    """Make a table and write it; see `save_table`."""
    save_table(build_table(name, metrics), output)
