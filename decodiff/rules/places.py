"""Where the files of a run lie, and which there are: what the workflow's rules take and give.

Paths are text as Snakemake takes them, relative to the folder that it works in.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pandas import DataFrame
from snakemake.utils import Paramspace

from decodiff.config import FLOOR, Config
from decodiff.files import sha256
from decodiff.models.names import CONFIG_FILE, WEIGHTS_FILE
from decodiff.reporting import trainings
from decodiff.reporting.names import (
    ACCURACY_FIGURE,
    CHANGES_FIGURE,
    COMPARISON_FIGURE,
    COMPUTE_FIGURE,
    FIGURES,
    METHOD_FIGURE,
    METHODS_TABLE,
    TRAINING_CURVE,
    TRAINING_TABLE,
    run_tables,
)
from decodiff.variants import BASE, LEVELS, Variant, combinations, sweep_variants

MASKS = ("test_masks_standard.npy", "test_masks_reference.npy")


class Result(NamedTuple):
    """Of one data set under one network: folders of the results and of the network, record of the correction, manifest."""

    results: str
    unet: str
    inference: str
    manifest: str


class Line(NamedTuple):
    """Of a comparison: what it is called, folders of the results and of the network, settings that differ as JSON."""

    label: str
    results: str
    unet: str
    variant: str


def folder(path: str) -> str:
    """The folder that a file lies in."""
    return os.path.dirname(path)


def split(parts: Iterable[str]) -> list[list[str]]:
    """Scope and data set of each part ``<scope>/<data set>``."""
    return [part.split("/") for part in parts]


def network_files(base: str) -> list[str]:
    """A network in diffusers' format."""
    return [f"{base}/{CONFIG_FILE}", f"{base}/{WEIGHTS_FILE}"]


class Places:
    """The files of a run.

    Args:
        config: of the run.

    Attributes:
        models, results, logs: folders.
        prepared: name of a data set's folder of arrays.
        config_file: the configuration that every command is given.
        parts: the data sets under each scope's model, as ``<scope>/<data set>``.
        made_sets: data sets with defects that are made here, in training images of another.
        sweeps: variants by table.
        combinations: of the variants' names, each distinct one with the settings that it changes.
        tables: names of all tables.
        kept_epochs: after which the run's own trainings keep their networks.
    """

    def __init__(self, config: Config):
        self.config = config
        self.models, self.results, self.logs = (f"{name}/{config.run}" for name in ("models", "results", "logs"))
        self.prepared = f"prepared-{config.image.resize}"
        self.config_file = f"{self.results}/config.yaml"
        self.parts = [f"{scope}/{dataset}" for scope in config.scopes for dataset in config.members(scope)]
        self.made_sets = [dataset for dataset in config.data if config.data[dataset].of]
        self.sweeps = sweep_variants(config.sweeps)
        self.combinations = combinations(self.sweeps)
        compared = bool(trainings.compared({scope: config.members(scope) for scope in config.scopes}))
        self.tables = [*run_tables(len({dataset for _, dataset in split(self.parts)}), compared), *self.sweeps]
        self.tables += [METHODS_TABLE] if config.methods else []
        self.kept_epochs = config.training.kept_epochs if config.model.source == "train" else ()

    # ---- of data sets and networks

    def prepared_files(self, dataset: str) -> list[str]:
        """All arrays of a prepared data set."""
        names = ("train_images.npy", "train.csv", "test_images.npy", "test.csv", *MASKS)
        return [f"data/{dataset}/{self.prepared}/{name}" for name in names]

    def kept_files(self, base: str) -> list[str]:
        """The networks that a training keeps on its way, each with its record."""
        folders = [f"{base}/kept/epoch-{epoch:05d}" for epoch in self.kept_epochs]
        return [path for place in folders for path in (*network_files(place), f"{place}/training.json")]

    def network_folder(self, name: str) -> str:
        """Folder of the networks of a variant, by its name; of the run for the name of none."""
        return self.models if name == BASE else f"{self.models}/sweeps/model~{name}"

    def network(self, wildcards: Mapping[str, str]) -> list[str]:
        """The network of a scope and seed, or of a variant of it, with its record."""
        base = "{}/{scope}/seed-{seed}".format(self.network_folder(wildcards.get("model", BASE)), **wildcards)
        return [*network_files(base), f"{base}/training.json"]

    def encodes_while_training(self, scope: str) -> bool:
        """Whether images are corrupted before they are encoded, or an augmentation has no finite set of views."""
        finite = all(self.config.data[name].augmentation.is_finite for name in self.config.members(scope))
        return self.config.masking.corruption == "content" or not finite

    # ---- of variants

    def pattern(self, *levels: str) -> str:
        """Folder of variants with wildcards for their names at some levels, without what is above it."""
        space = DataFrame(list(self.combinations), columns=list(LEVELS), dtype=str)
        return Paramspace(space[list(levels)]).wildcard_pattern

    def changes(self, wildcards: Mapping[str, str]) -> str:
        """What a variant changes of the run's settings, as JSON; of those that share a name at a level any will do."""
        named = {level: wildcards.get(level) for level in LEVELS if wildcards.get(level) is not None}
        if set(named.values()) == {BASE}:
            return "{}"
        return json.dumps(
            next(
                changed
                for names, changed in self.combinations.items()
                if all(dict(zip(LEVELS, names))[level] == name for level, name in named.items())
            )
        )

    def settings(self, stage: str, dataset: str | None = None, changed: str = "{}") -> str:
        """The settings that a stage may read, as Snakemake watches them."""
        sections = self.config.varied(json.loads(changed)).sections(stage, dataset)
        plain = {
            name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value for name, value in sections.items()
        }
        return json.dumps(plain, sort_keys=True)

    def variant_folder(self, names: Mapping[str, str], levels: int) -> str:
        """Folder of a variant's results, with a slash, as its names at the first ``levels`` tell it; the run's for none."""
        chosen = {level: names.get(level, BASE) for level in list(LEVELS)[:levels]}
        if set(chosen.values()) == {BASE}:
            return f"{self.results}/"
        return "/".join([self.results, "sweeps", *(f"{level}~{name}" for level, name in chosen.items()), ""])

    def part_folder(self, wildcards: Mapping[str, str], levels: int) -> str:
        """Folder of a part's results, or of those of a variant of it."""
        return "{}{scope}/seed-{seed}/{dataset}".format(self.variant_folder(wildcards, levels), **wildcards)

    # ---- of results

    def swept(self, table: str) -> list[str]:
        """The parts that a sweep's table has lines for."""
        return [f"{scope}/{dataset}" for scope, dataset in self.config.swept(table)]

    def measured(self, name: str) -> list[str]:
        """Files of that name of every result of the run itself."""
        return [
            f"{self.results}/{scope}/seed-{seed}/{dataset}/{name}"
            for scope, dataset in split(self.parts)
            for seed in self.config.seeds
        ]

    def floors(self, parts: Iterable[str], name: str) -> list[str]:
        """Files of that name of the floors of the data sets of some parts."""
        return [f"{self.results}/{FLOOR}/{dataset}/{name}" for dataset in dict.fromkeys(dataset for _, dataset in split(parts))]

    def tabled(self, table: str, name: str) -> list[str]:
        """Files of that name of all results that a table of the run's data sets shows."""
        return [*self.measured(name), *self.table_floors(table, name), *self.table_methods(table, name)]

    def table_floors(self, table: str, name: str) -> list[str]:
        """Files of that name of the floors in a table; one table compares two ways of training, so it has none."""
        return [] if table == TRAINING_TABLE else self.floors(self.parts, name)

    def methods(self, name: str, parts: Iterable[str] | None = None) -> list[str]:
        """Files of that name of every other method on some parts, by default all."""
        return [
            f"{self.method_folder(method, scope, seed, dataset)}/{name}"
            for method in self.config.methods
            for scope, dataset in split(self.parts if parts is None else parts)
            for seed in self.config.seeds
        ]

    def method_folder(self, method: str, scope: str, seed: int, dataset: str) -> str:
        """Folder of another method's results on a part."""
        return f"{self.results}/methods/{method}/{scope}/seed-{seed}/{dataset}"

    def method_settings(self, name: str) -> str:
        """The settings of another method as Snakemake watches them, with the content of files that they name."""
        method = self.config.methods[name]
        words = [*shlex.split(method.command), *filter(None, [method.requirements])]
        files = {word: sha256(Path(word)) for word in words if Path(word).is_file()}
        return json.dumps({**method.model_dump(mode="json"), "crop": self.config.image.crop, "files": files}, sort_keys=True)

    def table_methods(self, table: str, name: str) -> list[str]:
        """Files of that name of the other methods in a table; one table compares two ways of training, so it has none."""
        return [] if table == TRAINING_TABLE else self.methods(name)

    def _result(self, variant: Variant, scope: str, seed: int, dataset: str) -> Result:
        names, place = variant.names, f"{scope}/seed-{seed}"
        return Result(
            f"{self.variant_folder(names, 3)}{place}/{dataset}",
            f"{self.network_folder(names['model'])}/{place}",
            f"{self.variant_folder(names, 2)}{place}/{dataset}/inference.json",
            f"data/{dataset}/manifest.csv",
        )

    def all_results(self) -> list[Result]:
        """Every result of the run and of its variants, each once."""
        wanted = [(Variant(BASE, {}), part) for part in self.parts]
        wanted += [(variant, part) for table, lines in self.sweeps.items() for variant in lines for part in self.swept(table)]
        return list(
            dict.fromkeys(
                self._result(variant, scope, seed, dataset)
                for variant, part in wanted
                for scope, dataset in split([part])
                for seed in self.config.seeds
            )
        )

    def lines(self, table: str) -> list[tuple[str, Result]]:
        """Of each line of a sweep's table, for every scope, data set and seed: label and result; without other methods."""
        return [
            (variant.label, self._result(variant, scope, seed, dataset))
            for variant in self._variants(table)
            for scope, dataset in self.config.swept(table)
            for seed in self.config.seeds
        ]

    def _variants(self, table: str) -> list[Variant]:
        """Those that a table has a line for; beside other methods the run itself and what T2 compares it with."""
        if table == METHODS_TABLE:
            return self.sweeps.get("T2", [Variant("DeCo-Diff", {})])
        return self.sweeps.get(table, [])

    def method_lines(self, table: str) -> list[tuple[str, str]]:
        """Of each line of another method in a table, for every scope, data set and seed: label and folder of results."""
        return [
            (method, self.method_folder(method, scope, seed, dataset))
            for method in (self.config.methods if table == METHODS_TABLE else ())
            for scope, dataset in self.config.swept(table)
            for seed in self.config.seeds
        ]

    def baseline(self, table: str) -> str:
        """Label of the line that a sweep's other lines are compared with: the method as the run has it, else the first."""
        variants = self._variants(table)
        return next((variant.label for variant in variants if not variant.changes), variants[0].label)

    # ---- of what is shown, that of the first seed

    @property
    def shown(self) -> list[str]:
        """Folders of the results that the report and most figures show."""
        seed = self.config.seeds[0]
        return [f"{self.results}/{scope}/seed-{seed}/{dataset}" for scope, dataset in split(self.parts)]

    def compared(self, scope: str, dataset: str) -> list[Line]:
        """Lines of the figure that shows standard diffusion beside the correction of deviations."""
        found = []
        for variant in self.sweeps.get("T2", []):
            result = self._result(variant, scope, self.config.seeds[0], dataset)
            found.append(Line(variant.label, result.results, result.unet, json.dumps(variant.changes)))
        return found

    @property
    def all_shown(self) -> list[str]:
        """`shown`, and the results that further figures compare them with."""
        return [*self.shown, *(line.results for part in split(self.swept("T2")) for line in self.compared(*part))]

    @property
    def part_figures(self) -> list[str]:
        """Names of the figures that every data set under a model has."""
        # the method's figure draws masks and deviations, which standard diffusion has not
        return [name for name in FIGURES if name != METHOD_FIGURE or self.config.diffusion.objective == "deviation"]

    @property
    def figures(self) -> list[str]:
        """All figures of the run, without suffix."""
        found = [f"{part}/{name}" for part in self.parts for name in self.part_figures]
        if self.config.model.source == "train":
            found += [f"{scope}/{TRAINING_CURVE}" for scope in self.config.scopes]
        found += [COMPUTE_FIGURE] if self.kept_epochs else []
        if "T2" in self.sweeps:
            found += [f"{part}/{COMPARISON_FIGURE}" for part in self.swept("T2")]
        found += [ACCURACY_FIGURE] if "T4" in self.sweeps else []
        found += [CHANGES_FIGURE] if self.sweeps else []
        return [f"{self.results}/figures/{name}" for name in found]
