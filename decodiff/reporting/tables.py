"""A table as CSV with raw numbers, and as papers print it in Markdown and LaTeX."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from decodiff.files import write_csv, write_json, write_text
from decodiff.metrics import METRICS
from decodiff.reporting.measured import DEVIATION
from decodiff.reporting.names import SWEEP_TABLES, TABLES

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
# kinds of lines; a difference is one between two lines above it
MEASURED, PUBLISHED, PAIRED = "measured", "published", "difference"
DIFFERENCE, LOW, HIGH = "difference_", "low_", "high_"
FURTHER_COLUMNS = (DIFFERENCE, DEVIATION, LOW, HIGH)
CAPTIONS = TABLES | SWEEP_TABLES
EMPTY = "–"


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        keys: what the line is about, by column; ``kind`` among them is `MEASURED`, `PUBLISHED` or `PAIRED`.
        values: metrics as fractions in [0, 1], of a difference in [-1, 1]; a missing one is an empty cell.
        note: how the numbers were measured, where they come from, or why some are missing.
        reference: published values of the same setting to stand beside them, likewise.
        deviations: standard deviations over seeds of values that are means of several.
        intervals: 95 % intervals (low, high) of values of one seed, likewise.
        results: folders of the results that were averaged; none for published values.
    """

    keys: dict[str, str]
    values: dict[str, float]
    note: str
    reference: dict[str, float] = field(default_factory=dict)
    deviations: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    results: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table: its name, the columns that say what a line is about, its metrics and its lines.

    The best and second-best value of each metric per data set and scope are marked, among lines of the kinds in ``ranked``.
    """

    name: str
    keys: tuple[str, ...]
    metrics: tuple[str, ...]
    lines: list[Line]
    ranked: tuple[str, ...]


def difference_line(
    keys: dict[str, str], of_seeds: list[list[dict[str, str]]], category: str, note: str, results: tuple[str, ...]
) -> Line:
    """The line of a paired difference: with its interval for one seed, as mean and standard deviation for several.

    Args:
        keys: what the line is about, but its kind.
        of_seeds: rows of `decodiff.stages.compare.differences`, of each seed.
        category: which of the rows, or their mean.
        note, results: as of `Line`.
    """
    values: dict[str, list[float]] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for rows in of_seeds:
        for row in rows:
            if row["category"] == category and row["metric"] in METRICS and row["difference"]:
                values.setdefault(row["metric"], []).append(float(row["difference"]))
                # one resample without a value leaves none
                if row["low"]:
                    intervals[row["metric"]] = (float(row["low"]), float(row["high"]))
    several = len(of_seeds) > 1
    return Line(
        {**keys, "kind": PAIRED},
        {metric: fmean(found) for metric, found in values.items()},
        note,
        deviations={metric: stdev(found) for metric, found in values.items()} if several else {},
        intervals={} if several else intervals,
        results=results,
    )


def _group(line: Line) -> tuple[str, str]:
    """What only lines of one data set and scope have in common."""
    return line.keys["dataset"], line.keys.get("scope", "")


def ranks(table: Table) -> dict[tuple[int, str], int]:
    """Place 1 or 2 of (line, metric) among ranked lines of one data set and scope, as printed, ties included."""
    places: dict[tuple[int, str], int] = {}
    ranked = {index: line for index, line in enumerate(table.lines) if line.keys["kind"] in table.ranked}
    for metric in table.metrics:
        for group in {_group(line) for line in ranked.values()}:
            printed = {
                index: round(100 * line.values[metric], 1)
                for index, line in ranked.items()
                if _group(line) == group and metric in line.values
            }
            best = sorted(set(printed.values()), reverse=True)[:2]
            if len(printed) > 1:
                places |= {(index, metric): best.index(value) + 1 for index, value in printed.items() if value in best}
    return places


def csv_cells(line: Line, metrics: tuple[str, ...]) -> dict[str, str]:
    """A line's numbers by column, fractions with four decimals; what it has not is left out."""
    cells = {name: f"{value:.4f}" for name, value in line.values.items() if name in metrics}
    for name in cells.copy():
        if name in line.reference:
            cells[DIFFERENCE + name] = f"{line.values[name] - line.reference[name]:+.4f}"
        if name in line.deviations:
            cells[DEVIATION + name] = f"{line.deviations[name]:.4f}"
        if name in line.intervals:
            cells[LOW + name], cells[HIGH + name] = (f"{end:.4f}" for end in line.intervals[name])
    return cells


def printed(cells: dict[str, str], metric: str, kind: str) -> str:
    """One metric of a CSV's row as papers print it: percent with one decimal, and what is known beside it."""
    if not cells.get(metric):
        return EMPTY
    sign = "+" if kind == PAIRED else ""
    percent = {name: 100 * float(text) for name, text in cells.items() if name.endswith(metric) and text}
    text = f"{percent[metric]:{sign}.1f}"
    if DEVIATION + metric in percent:
        text += f" ± {percent[DEVIATION + metric]:.1f}"
    if LOW + metric in percent:
        text += f" [{percent[LOW + metric]:{sign}.1f}, {percent[HIGH + metric]:{sign}.1f}]"
    if DIFFERENCE + metric in percent:
        text += f" ({percent[DIFFERENCE + metric]:+.1f})"
    return text


def footnotes(notes: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """A number for each line's note, and each note once with its number; no numbers where there is one note alone."""
    distinct = [note for note in dict.fromkeys(notes) if note]
    if len(distinct) == 1:
        return [""] * len(notes), [("", distinct[0])]
    numbers = {note: str(number) for number, note in enumerate(distinct, start=1)}
    return [numbers.get(note, "") for note in notes], [(number, note) for note, number in numbers.items()]


def _rows(table: Table, marks: dict[int, str], escape: Callable[[str], str]) -> tuple[list[list[str]], list[tuple[str, str]]]:
    """Heading and lines as printed cells, ``marks`` around the best ones, and the notes below."""
    places = ranks(table)
    numbers, notes = footnotes([line.note for line in table.lines])
    last = ["note"] if any(numbers) else []
    rows = [[escape(name) for name in (*table.keys, *(HEADINGS[name] for name in table.metrics), *last)]]
    for index, (line, number) in enumerate(zip(table.lines, numbers)):
        cells = csv_cells(line, table.metrics)
        shown = [
            marks.get(places.get((index, name), 0), "{}").format(escape(printed(cells, name, line.keys["kind"])))
            for name in table.metrics
        ]
        rows.append([*(escape(line.keys.get(name, "")) for name in table.keys), *shown, *([number] if last else [])])
    return rows, notes


def to_markdown(table: Table) -> str:
    """The table as a GitHub Markdown table in percent, with its caption above and its notes below."""
    (heading, *rows), notes = _rows(table, {1: "**{}**", 2: "<u>{}</u>"}, _markdown_escape)
    align = ["---:" if name in HEADINGS.values() else "---" for name in heading]
    lines = [f"**{table.name}.** {CAPTIONS[table.name]} Metrics in percent.", ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in (heading, align, *rows)]
    if notes:
        lines += ["", *(f"- {f'note {number}: ' if number else ''}{note}" for number, note in notes)]
    return "\n".join(lines) + "\n"


LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%_#${}"},
        "–": "--",
        "−": "$-$",
        "±": r"$\pm$",
        "×": r"$\times$",
    }
)
# what would end a cell, or begin a tag or code
MARKDOWN = str.maketrans({"|": r"\|", "<": "&lt;", "`": r"\`"})


def _latex_escape(text: str) -> str:
    return text.translate(LATEX)


def _markdown_escape(text: str) -> str:
    return text.translate(MARKDOWN)


def to_latex(table: Table) -> str:
    """The table for ``booktabs``: best bold, second underlined, percent with one decimal, notes below."""
    (heading, *rows), notes = _rows(table, {1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}, _latex_escape)
    body, previous = [], None
    for line, cells in zip(table.lines, rows):
        if previous not in (None, line.keys["dataset"]):
            body.append(r"\midrule")
        previous = line.keys["dataset"]
        body.append(" & ".join(cells) + r" \\")
    columns = "".join("r" if name in HEADINGS.values() else "l" for name in heading)
    below = [rf"\par\footnotesize {number + ': ' if number else ''}{_latex_escape(note)}" for number, note in notes]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_latex_escape(CAPTIONS[table.name])}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(heading) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *below,
            r"\end{table}",
            "",
        ]
    )


def save_table(table: Table, output: Path) -> None:
    """Write a table as ``output`` (CSV, fractions with four decimals) and beside it as ``.md``, ``.tex`` and ``.json``.

    The JSON says for each line which results it comes from.
    """
    rows = [{**line.keys, **csv_cells(line, table.metrics), "note": line.note} for line in table.lines]
    further = [f"{prefix}{name}" for prefix in (DEVIATION, DIFFERENCE) for name in table.metrics]
    further += [f"{end}{name}" for name in table.metrics for end in (LOW, HIGH)]
    columns = (*table.keys, *table.metrics, *(name for name in further if any(name in row for row in rows)), "note")
    write_csv(output, columns, rows)
    origins = [{"line": line.keys, "results": list(line.results), "note": line.note} for line in table.lines]
    write_json(output.with_suffix(".json"), origins)
    write_text(output.with_suffix(".md"), to_markdown(table))
    write_text(output.with_suffix(".tex"), to_latex(table))
    log.info("%s: %d lines", table.name, len(table.lines))
