"""Variants of a run: which settings its sweeps change, and what their models and results are called.

A sweep gives one table its lines: under a label each, the settings in which it differs from the run. Settings belong to one of
three levels, and what two variants share is made once: those that differ in scoring alone share the correction, those that
differ in correction share the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

BASE = "base"
# sections of the configuration by the level at which they take effect, the first one first
LEVELS = {"model": ("diffusion", "masking", "training"), "correction": ("correction",), "scoring": ("scoring",)}
Table = TypeVar("Table", bound=str)
VARIED_SECTIONS = tuple(section for sections in LEVELS.values() for section in sections)


def _text(value: Any) -> str:
    text = "-".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
    return re.sub(r"[^A-Za-z0-9.-]", "-", text)


@dataclass(frozen=True)
class Variant:
    """One line of a sweep.

    Attributes:
        label: what the table calls it.
        changes: settings that differ from the run, by dotted key.
    """

    label: str
    changes: Mapping[str, Any]

    def name(self, level: str) -> str:
        """What tells it from others at a level, fit for a folder's name; ``base`` where it is as the run."""
        own = sorted((key, value) for key, value in self.changes.items() if key.partition(".")[0] in LEVELS[level])
        # no commas: Snakemake takes them for the end of a wildcard when it hands a job to a cluster
        return "+".join(f"{key.rpartition('.')[2]}={_text(value)}" for key, value in own) or BASE

    @property
    def names(self) -> dict[str, str]:
        """`name` of every level."""
        return {level: self.name(level) for level in LEVELS}


def sweep_variants(sweeps: Mapping[Table, Mapping[str, Mapping[str, Any]]]) -> dict[str, list[Variant]]:
    """The variants of every table, in the order of its lines."""
    return {table: [Variant(str(label), dict(changes)) for label, changes in lines.items()] for table, lines in sweeps.items()}


def combinations(of: Mapping[str, list[Variant]]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    """Every distinct combination of names over `LEVELS` but the run itself, with the settings it changes."""
    found: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for variants in of.values():
        for variant in variants:
            names = tuple(variant.names.values())
            if set(names) != {BASE}:
                found.setdefault(names, variant.changes)
    return found
