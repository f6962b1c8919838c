"""The workflow behind a run for the report: its rules as a drawing, and how long every job took."""

from __future__ import annotations

import re
from pathlib import Path

from markupsafe import Markup, escape

from decodiff.files import csv_rows

_NODE = re.compile(r'^\s*(\d+)\[label = "([^"]+)"', re.MULTILINE)
_EDGE = re.compile(r"^\s*(\d+) -> (\d+)", re.MULTILINE)
UNDRAWN = ("all", "rule_graph")
BOX, GAP = (118, 24), (14, 34)


def _layers(rules: list[str], before: dict[str, set[str]]) -> list[list[str]]:
    """Rules by the longest way from a rule that needs nothing."""
    depth: dict[str, int] = {}

    def depth_of(rule: str) -> int:
        if rule not in depth:
            depth[rule] = max((depth_of(other) + 1 for other in before[rule]), default=0)
        return depth[rule]

    layers: list[list[str]] = [[] for _ in range(max(map(depth_of, rules), default=-1) + 1)]
    for rule in rules:
        layers[depth[rule]].append(rule)
    return layers


def _reduced(before: dict[str, set[str]]) -> dict[str, set[str]]:
    """Only the needs that no other need implies."""

    def all_before(rule: str) -> set[str]:
        return set().union(*({other} | all_before(other) for other in before[rule]))

    return {rule: needs - set().union(*(all_before(other) for other in needs)) for rule, needs in before.items()}


def graph_svg(dot: str) -> Markup:
    """Snakemake's graph of rules (``snakemake --rulegraph``) as SVG, what is needed above what needs it.

    ``all`` and the rule that prints the graph are left out. Rules of a layer stand below the middle of what they need, so that
    few lines cross.
    """
    names = {number: name for number, name in _NODE.findall(dot) if name not in UNDRAWN}
    before: dict[str, set[str]] = {name: set() for name in names.values()}
    for first, second in _EDGE.findall(dot):
        if first in names and second in names:
            before[names[second]].add(names[first])
    before = _reduced(before)
    layers = _layers(list(before), before)
    columns = max(map(len, layers), default=1)
    width = columns * (BOX[0] + GAP[0])
    place: dict[str, tuple[float, float]] = {}
    for number, layer in enumerate(layers):
        layer.sort(key=lambda rule: sum(place[other][0] for other in before[rule]) / max(len(before[rule]), 1))
        margin = (width - len(layer) * (BOX[0] + GAP[0])) / 2
        for index, rule in enumerate(layer):
            place[rule] = (margin + GAP[0] / 2 + index * (BOX[0] + GAP[0]), number * (BOX[1] + GAP[1]) + 2)
    lines = [
        f'<path d="M{x + BOX[0] / 2:.0f} {y + BOX[1]:.0f}C{x + BOX[0] / 2:.0f} {y + BOX[1] + GAP[1] / 2:.0f} '
        f'{u + BOX[0] / 2:.0f} {v - GAP[1] / 2:.0f} {u + BOX[0] / 2:.0f} {v:.0f}"/>'
        for rule, (u, v) in place.items()
        for x, y in (place[other] for other in sorted(before[rule]))
    ]
    boxes = [
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX[0]}" height="{BOX[1]}" rx="4"/>'
        f'<text x="{x + BOX[0] / 2:.0f}" y="{y + 16:.0f}">{escape(rule)}</text>'
        for rule, (x, y) in place.items()
    ]
    height = len(layers) * (BOX[1] + GAP[1]) - GAP[1] + 4
    return Markup(
        f'<svg class="graph" viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="rules of the workflow">'
        f"{''.join(lines + boxes)}</svg>"
    )


def run_times(logs: Path) -> list[dict[str, str]]:
    """Seconds and largest resident size (MiB) of every job below a folder of Snakemake's benchmarks, the longest first."""
    jobs = []
    for path in sorted(logs.rglob("*.tsv")):
        for row in csv_rows(path, ("s", "max_rss"), delimiter="\t"):
            jobs.append({"job": path.stem, "seconds": row["s"], "memory": row["max_rss"]})
    return sorted(jobs, key=lambda job: -float(job["seconds"]))
