"""Tables: raw numbers as CSV, and the same as papers print them in Markdown and LaTeX."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from decodiff.data.registry import display_name, known_categories
from decodiff.errors import InputError
from decodiff.files import read_csv, write_csv, write_json, write_text
from decodiff.metrics import METRICS
from decodiff.reporting.names import SWEEP_TABLES, TABLES
from decodiff.reporting.published import own_results, peer_results
from decodiff.stages.evaluate import MEAN, METRIC_COLUMNS

log = logging.getLogger(__name__)

HEADINGS = {
    "image_auroc": "I-AUROC",
    "image_ap": "I-AP",
    "image_f1max": "I-F1max",
    "pixel_auroc": "P-AUROC",
    "pixel_ap": "P-AP",
    "pixel_f1max": "P-F1max",
    "pixel_aupro": "P-AUPRO",
}
MEASURED, PUBLISHED = "measured", "published"
DIFFERENCE, DEVIATION, LOW, HIGH = "difference_", "std_", "low_", "high_"
FURTHER_COLUMNS = (DIFFERENCE, DEVIATION, LOW, HIGH)
CAPTIONS = TABLES | SWEEP_TABLES
EMPTY = "–"
RESULTS = "results"
# which of the run's data sets, and which metrics
BY_CATEGORY = {
    "T7": (slice(0, 1), "image"),
    "T8": (slice(0, 1), "pixel"),
    "T9": (slice(1, 2), "image"),
    "T10": (slice(1, 2), "pixel"),
    "T11": (slice(2, None), ""),
}
NOT_COMPARABLE = "so not to be compared"


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        keys: what the line is about, by column.
        values: metrics as fractions in [0, 1]; a missing one is an empty cell.
        reference: published values of the same setting to stand beside them, likewise.
        deviations: standard deviations over seeds of values that are means of several.
        intervals: 95 % intervals (low, high) of values of one seed, likewise.
        results: folders of the results that were averaged; none for published values.
        note: where the numbers come from, or why some are missing.
    """

    keys: dict[str, str]
    values: dict[str, float]
    reference: dict[str, float]
    note: str
    deviations: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    results: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table: its name, the columns that say what a line is about, its metrics and its lines.

    ``ranked`` tables mark the best and second-best value of each metric per data set.
    """

    name: str
    keys: tuple[str, ...]
    metrics: tuple[str, ...]
    lines: list[Line]
    ranked: bool


def mean_over_seeds(metrics: list[Path]) -> list[dict[str, str]]:
    """Rows of all metrics files, those of several seeds as mean and standard deviation; what one seed lacks is empty.

    The column `RESULTS` names their folders, a line each.
    """
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for path in metrics:
        for row in read_csv(path, METRIC_COLUMNS):
            groups.setdefault((row["dataset"], row["scope"], row["category"]), []).append({**row, RESULTS: str(path.parent)})
    rows = []
    for same in groups.values():
        values = dict.fromkeys([*METRICS, *(DEVIATION + name for name in METRICS)], "")
        for name in METRICS:
            of_seeds = [float(row[name]) for row in same if row[name]]
            if len(of_seeds) == len(same):
                values[name] = repr(fmean(of_seeds))
                values[DEVIATION + name] = repr(stdev(of_seeds)) if len(same) > 1 else ""
        rows.append({**same[0], **values, "seed": str(len(same)), RESULTS: "\n".join(row[RESULTS] for row in same)})
    return rows


def metric_values(row: dict[str, str], metrics: tuple[str, ...], prefix: str = "") -> dict[str, float]:
    return {name: float(row[prefix + name]) for name in metrics if row[prefix + name]}


def _comparison(rows: list[dict[str, str]]) -> Table:
    """T1: the mean of every data set, below what others and the authors published for it."""
    lines = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        title = display_name(dataset)
        own = own_results(title)
        for result in [*peer_results(title), *own]:
            keys = {"dataset": title, "method": f"{result.method} ({result.variant})", "kind": PUBLISHED}
            lines.append(Line(keys, result.values, {}, result.source))
        for row in rows:
            if row["dataset"] == dataset and row["category"] == MEAN:
                seeds = f", mean of {row['seed']} seeds" if row["seed"] != "1" else ""
                keys = {"dataset": title, "method": f"DeCo-Diff (this run, {row['scope']}{seeds})", "kind": MEASURED}
                measured = {
                    other["category"] for other in rows if other["scope"] == row["scope"] and other["dataset"] == dataset
                }
                missing = set(known_categories(dataset)) - measured
                notes = [f"protocol {row['protocol']}", row["note"]]
                if missing:
                    notes.append(f"without {', '.join(sorted(missing))}, {NOT_COMPARABLE}")
                elif own:
                    # the released weights' numbers: those of the recipe that can be checked
                    notes.append(f"difference to {own[-1].variant}, measured under the protocol reference")
                reference = own[-1].values if own and not missing else {}
                note = "; ".join(filter(None, notes))
                values, deviations = metric_values(row, METRICS), metric_values(row, METRICS, DEVIATION)
                lines.append(Line(keys, values, reference, note, deviations, results=tuple(row[RESULTS].splitlines())))
    return Table("T1", ("dataset", "method", "kind"), METRICS, lines, ranked=True)


def _by_category(name: str, rows: list[dict[str, str]]) -> Table:
    """T7 to T11: metrics of every category and their mean, of the first, the second or the further data sets."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    about, prefix = BY_CATEGORY[name]
    rows = [row for row in rows if row["dataset"] in datasets[about]]
    metrics = tuple(metric for metric in METRICS if metric.startswith(prefix))
    lines = [
        Line(
            {
                "dataset": display_name(row["dataset"]),
                "scope": row["scope"],
                "category": row["category"],
                "images": row["images"],
                "anomalous": row["anomalous"],
            },
            metric_values(row, metrics),
            {},
            f"protocol {row['protocol']}" + (f"; {row['note']}" if row["note"] else ""),
            metric_values(row, metrics, DEVIATION),
            results=tuple(row[RESULTS].splitlines()),
        )
        for row in rows
    ]
    return Table(name, ("dataset", "scope", "category", "images", "anomalous"), metrics, lines, ranked=False)


def build_table(name: str, metrics: list[Path]) -> Table:
    """The table of that name over the given metrics files."""
    rows = mean_over_seeds(metrics)
    if name == "T1":
        return _comparison(rows)
    return _by_category(name, rows)


def _group(line: Line) -> tuple[str, str]:
    """What only lines of one data set and scope have in common."""
    return line.keys["dataset"], line.keys.get("scope", "")


def ranks(table: Table) -> dict[tuple[int, str], int]:
    """Place 1 or 2 of (line, metric) among lines of one data set and scope, as printed, ties included; empty if unranked."""
    places: dict[tuple[int, str], int] = {}
    if not table.ranked:
        return places
    for metric in table.metrics:
        for group in {_group(line) for line in table.lines}:
            printed = {
                index: round(100 * line.values[metric], 1)
                for index, line in enumerate(table.lines)
                if _group(line) == group and metric in line.values
            }
            best = sorted(set(printed.values()), reverse=True)[:2]
            if len(printed) > 1:
                places |= {(index, metric): best.index(value) + 1 for index, value in printed.items() if value in best}
    return places


def _percent(line: Line, metric: str) -> str:
    if metric not in line.values:
        return EMPTY
    text = f"{100 * line.values[metric]:.1f}"
    if metric in line.deviations:
        text += f" ± {100 * line.deviations[metric]:.1f}"
    if metric in line.intervals:
        low, high = line.intervals[metric]
        text += f" [{100 * low:.1f}, {100 * high:.1f}]"
    if metric in line.reference:
        text += f" ({100 * (line.values[metric] - line.reference[metric]):+.1f})"
    return text


def _csv(table: Table, path: Path) -> None:
    compared = [name for name in table.metrics if any(name in line.reference for line in table.lines)]
    repeated = [name for name in table.metrics if any(name in line.deviations for line in table.lines)]
    rows = []
    for line in table.lines:
        row = {**line.keys, "note": line.note}
        row |= {name: f"{line.values[name]:.4f}" if name in line.values else "" for name in table.metrics}
        row |= {
            DIFFERENCE + name: f"{line.values[name] - line.reference[name]:+.4f}"
            for name in compared
            if name in line.values and name in line.reference
        }
        row |= {DEVIATION + name: f"{line.deviations[name]:.4f}" for name in repeated if name in line.deviations}
        for name, (low, high) in line.intervals.items():
            row |= {LOW + name: f"{low:.4f}", HIGH + name: f"{high:.4f}"}
        rows.append(row)
    between = [name for name in table.metrics if any(name in line.intervals for line in table.lines)]
    further = [*(DEVIATION + name for name in repeated), *(DIFFERENCE + name for name in compared)]
    further += [end + name for name in between for end in (LOW, HIGH)]
    write_csv(path, (*table.keys, *table.metrics, *further, "note"), rows)


def to_markdown(table: Table) -> str:
    """The table as a GitHub Markdown table in percent, with its caption and a note for every empty cell."""
    places = ranks(table)
    marks = {1: "**{}**", 2: "<u>{}</u>"}
    heading = [*table.keys, *(HEADINGS[name] for name in table.metrics)]
    align = ["---"] * len(table.keys) + ["---:"] * len(table.metrics)
    lines = [f"**{table.name}.** {CAPTIONS[table.name]} Metrics in percent.", ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in (heading, align)]
    for index, line in enumerate(table.lines):
        cells = [marks.get(places.get((index, name), 0), "{}").format(_percent(line, name)) for name in table.metrics]
        lines.append("| " + " | ".join([*line.keys.values(), *cells]) + " |")
    shown = [
        f"{line.keys.get('category') or line.keys.get('method') or line.keys['setting']}: {line.note}"
        for line in table.lines
        if len(line.values) < len(table.metrics) or line.reference or NOT_COMPARABLE in line.note
    ]
    return "\n".join([*lines, *(["", *(f"- {note}" for note in shown)] if shown else [])]) + "\n"


def _latex_escape(text: str) -> str:
    for plain, escaped in (
        ("\\", r"\textbackslash{}"),
        ("&", r"\&"),
        ("%", r"\%"),
        ("_", r"\_"),
        ("#", r"\#"),
        ("–", "--"),
        ("±", r"$\pm$"),
    ):
        text = text.replace(plain, escaped)
    return text


def to_latex(table: Table) -> str:
    """The table for ``booktabs``: best bold, second underlined, percent with one decimal."""
    places = ranks(table)
    marks = {1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}
    heading = [*table.keys, *(HEADINGS[name] for name in table.metrics)]
    body, previous = [], None
    for index, line in enumerate(table.lines):
        if previous not in (None, line.keys["dataset"]):
            body.append(r"\midrule")
        previous = line.keys["dataset"]
        cells = [
            marks.get(places.get((index, name), 0), "{}").format(_latex_escape(_percent(line, name))) for name in table.metrics
        ]
        body.append(" & ".join([*(_latex_escape(value) for value in line.keys.values()), *cells]) + r" \\")
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_latex_escape(CAPTIONS[table.name])}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.keys)}{'r' * len(table.metrics)}}}",
            r"\toprule",
            " & ".join(heading) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def write_table(name: str, metrics: list[Path], output: Path) -> None:
    """Make a table and write it; see `save_table`."""
    if name not in TABLES:
        raise InputError(f"no table {name!r}; choose one of {', '.join(TABLES)}")
    save_table(build_table(name, metrics), output)


def save_table(table: Table, output: Path) -> None:
    """Write a table as ``output`` (CSV, fractions with four decimals) and beside it as ``.md``, ``.tex`` and ``.json``.

    The JSON says for each line which results it comes from.
    """
    _csv(table, output)
    origins = [{"line": line.keys, "results": list(line.results), "note": line.note} for line in table.lines]
    write_json(output.with_suffix(".json"), origins)
    write_text(output.with_suffix(".md"), to_markdown(table))
    write_text(output.with_suffix(".tex"), to_latex(table))
    log.info("%s: %d lines", table.name, len(table.lines))
