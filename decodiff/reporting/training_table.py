"""T12: networks over several categories beside a network for each of the same categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from decodiff.data.registry import display_name
from decodiff.errors import InputError
from decodiff.metrics import METRICS
from decodiff.reporting.measured import (
    DEVIATION,
    all_categories,
    drawn_by_seed,
    mean_over_categories,
    mean_over_seeds,
    measured_members,
    metric_values,
    protocol_note,
    result_folders,
)
from decodiff.reporting.names import TRAINING_TABLE
from decodiff.reporting.tables import MEASURED, Line, Table, difference_line
from decodiff.reporting.trainings import PER_CATEGORY, Members, compared, own_networks
from decodiff.stages.compare import Resamples, differences, intervals
from decodiff.stages.evaluate import MEAN

MULTI_CLASS = "multi-class"

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Training:
    """What one way of training gave for the categories that are compared.

    Attributes:
        name: of the way.
        averaged: rows over all seeds, by category, that of their mean included.
        drawn: resamples of all categories, by seed.
    """

    name: str
    averaged: dict[str, dict[str, str]]
    drawn: dict[str, Resamples]

    def lines(self, about: dict[str, str], coverage: str) -> dict[str, Line]:
        """Its line for every category and their mean; those of one seed have intervals."""
        ends = intervals(*self.drawn.values()) if len(self.drawn) == 1 else {}
        return {
            category: Line(
                {**about, "category": category, "training": self.name, "kind": MEASURED},
                metric_values(row, METRICS),
                "; ".join(filter(None, (protocol_note(row, False), coverage if category == MEAN else ""))),
                deviations=metric_values(row, METRICS, DEVIATION),
                intervals=ends.get(category, {}),
                results=result_folders(row),
            )
            for category, row in self.averaged.items()
        }


def _training(name: str, rows: Rows, means: Rows, categories: list[str]) -> Training:
    """Of the rows of its categories and of their mean, for each seed."""
    averaged = {row["category"]: row for row in mean_over_seeds([*rows, *means])}
    return Training(name, averaged, drawn_by_seed(rows, categories))


def _coverage(scope: str, categories: list[str], held: Sequence[str], known: list[str]) -> str:
    """What a mean over some categories leaves out of those ``known``, and why; nothing where it is over all.

    ``held`` are those of the scope.
    """
    reasons = {
        "no network of their own": [name for name in known if name in held and name not in categories],
        f"not in scope {scope}": [name for name in known if name not in held],
    }
    found = [f"{', '.join(names)} ({reason})" for reason, names in reasons.items() if names]
    return f"over what both have; without {' and '.join(found)}" if found else ""


def _comparison(dataset: str, scope: str, categories: list[str], members: Members, rows: Rows) -> list[Line]:
    """For every category and their mean: both trainings, and the second less the first on the same images and seeds."""
    own, held = own_networks(members), members[scope][dataset]
    of_dataset = [row for row in rows if row["dataset"] == dataset]
    together = [row for row in of_dataset if row["scope"] == scope and row["category"] in categories]
    apart = [row for row in of_dataset if row["category"] in categories and own[dataset, row["category"]] == row["scope"]]
    means = mean_over_categories(together, scope)
    if len(categories) == len(held):
        # the one that other tables show, to the last digit
        means = [row for row in of_dataset if row["scope"] == scope and row["category"] == MEAN]
    multi_class = _training(MULTI_CLASS, together, means, categories)
    per_category = _training(PER_CATEGORY, apart, mean_over_categories(apart, PER_CATEGORY), categories)
    if multi_class.drawn.keys() != per_category.drawn.keys():
        seeds = [", ".join(training.drawn) for training in (multi_class, per_category)]
        raise InputError(
            f"{TRAINING_TABLE}: {dataset}: seeds {seeds[0]} under scope {scope}, {seeds[1]} per category; give the same of both"
        )
    of_seeds = [differences(per_category.drawn[seed], found) for seed, found in multi_class.drawn.items()]
    about = {"dataset": display_name(dataset), "scope": scope}
    coverage = _coverage(scope, categories, held, all_categories(dataset, members))
    first, second = (training.lines(about, coverage) for training in (multi_class, per_category))
    lines = []
    for category in (*categories, MEAN):
        keys = {**about, "category": category, "training": f"{PER_CATEGORY} − {MULTI_CLASS}"}
        results = second[category].results + first[category].results
        note = coverage if category == MEAN else ""
        lines += [first[category], second[category], difference_line(keys, of_seeds, category, note, results)]
    return lines


def training_table(rows: Rows) -> Table:
    """T12 over rows of `decodiff.reporting.measured.read_metrics`, with the resamples that lie beside their files.

    Values of several seeds are shown with their standard deviation, those of one with the 95 % interval over images.

    Raises:
        InputError: no category has both, their seeds differ, or resamples are missing, damaged, or of other images than those
            that they are compared with.
    """
    members = measured_members(rows)
    lines: list[Line] = []
    for (dataset, scope), categories in compared(members).items():
        lines += _comparison(dataset, scope, categories, members, rows)
    if not lines:
        raise InputError(f"{TRAINING_TABLE}: no category has a network of its own and is part of one over several categories")
    return Table(TRAINING_TABLE, ("dataset", "scope", "category", "training", "kind"), METRICS, lines, ranked=())
