"""Where every number of a run comes from: one record of all results, and the explanation of one cell of a table."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decodiff.config import FLOOR, METHOD_FILE
from decodiff.errors import InputError
from decodiff.files import read_csv, read_json, sha256, write_json
from decodiff.models.names import WEIGHTS_FILE
from decodiff.provenance import environment

PROVENANCE_FILE = "provenance.json"


@dataclass(frozen=True)
class OtherResult:
    """One data set's results of the floor or of another method.

    Attributes:
        folder: of the results.
        manifest: of the data set.
    """

    folder: Path
    manifest: Path


@dataclass(frozen=True)
class Result:
    """One data set's results under one network.

    Attributes:
        folder: of the results.
        network: folder of the network that corrected.
        inference: ``inference.json`` of that correction.
        manifest: of the data set.
    """

    folder: Path
    network: Path
    inference: Path
    manifest: Path


def _network_record(result: Result, autoencoder: Path, digest: Callable[[Path], str]) -> dict[str, Any]:
    """The networks that a result was made with, and its correction."""
    correction, training = read_json(result.inference), read_json(result.network / "training.json")
    weights = result.network / WEIGHTS_FILE
    found = digest(weights)
    if correction["network_sha256"] != found:
        raise InputError(f"{weights}: not the network that {result.inference} speaks of; correct the images again")
    return {
        "network": {"path": str(weights), "sha256": found, "seed": training["seed"], "made_with": training["environment"]},
        "correction": {"device": correction["device"], "made_with": correction["environment"]},
        "autoencoder": {"path": str(autoencoder), "sha256": digest(autoencoder / WEIGHTS_FILE)},
    }


def _other_record(folder: Path) -> dict[str, Any]:
    """What a result of the floor or of another method says that it was made with."""
    path = folder / METHOD_FILE
    return {"method": read_json(path)} if path.is_file() else {FLOOR: read_json(folder / "floor.json")}


def _record(result: Result | OtherResult, autoencoder: Path, digest: Callable[[Path], str]) -> dict[str, Any]:
    row = read_csv(result.folder / "metrics.csv", ("dataset", "scope", "seed", "protocol"))[0]
    origin = read_json(result.manifest.with_name("origin.json"))
    return {
        **{name: row[name] for name in ("dataset", "scope", "seed", "protocol")},
        "metrics_sha256": sha256(result.folder / "metrics.csv"),
        **(_network_record(result, autoencoder, digest) if isinstance(result, Result) else _other_record(result.folder)),
        "manifest": {
            "path": str(result.manifest),
            "sha256": digest(result.manifest),
            "content_sha256": origin["content_sha256"],
        },
    }


def write_provenance(
    config: Path, autoencoder: Path, results: list[Result | OtherResult], tables: list[Path], output: Path
) -> None:
    """Write one JSON that leads from every line of every table to what it was made of.

    ``tables`` has per table its lines: what they are about, the folders of results they average (none for published values)
    and their note. ``results`` has per folder the checkpoint, the autoencoder and the manifest with their SHA-256, the seed,
    the device, and the versions and commit with which the network was trained and the images corrected. For the
    floor and for other methods it has settings and versions in place of these.

    Args:
        config: resolved configuration of the run.
        autoencoder: its folder.
        results: all results of the run.
        tables: CSVs of tables, each with the JSON of its lines beside it.
        output: the file to write.

    Raises:
        InputError: a file is missing or damaged, or a network is not the one that its correction used.
    """
    # variants share networks and data sets
    digest = functools.cache(sha256)
    record = {
        "config": {"path": str(config), "sha256": sha256(config)},
        "tables_made_with": environment(),
        "results": {str(result.folder): _record(result, autoencoder, digest) for result in results},
        "tables": {path.stem: read_json(path.with_suffix(".json")) for path in tables},
    }
    write_json(output, record)


def _chosen(rows: list[dict[str, str]], wanted: str, path: Path) -> int:
    """Index of the row called by its number from 1, or by a text that one of its cells is or holds."""
    if wanted.isdigit() and 1 <= int(wanted) <= len(rows):
        return int(wanted) - 1
    for fits in (lambda cell: cell == wanted, lambda cell: wanted in cell):
        found = [index for index, row in enumerate(rows) if any(fits(cell) for cell in row.values())]
        if len(found) == 1:
            return found[0]
        if found:
            numbers = ", ".join(str(index + 1) for index in found[:10])
            raise InputError(f"{path}: --row {wanted!r} fits the rows {numbers}; give one of these numbers")
    raise InputError(f"{path}: no row {wanted!r}; give its number, 1 to {len(rows)}, or a text in it")


def explain(table: Path, row: str, column: str) -> dict[str, Any]:
    """What one cell of a table comes from.

    Args:
        table: CSV of a table in ``results/<run>/tables``.
        row: its number from 1, or a text that only it holds.
        column: name of the column.

    Returns:
        the cell, its line, and for measured values the record of each result that went into it.

    Raises:
        InputError: there is no such row or column, or the run has no provenance of it.
    """
    rows = read_csv(table, ())
    if not rows or column not in rows[0]:
        raise InputError(f"{table}: no column {column!r}; choose one of {', '.join(rows[0] if rows else ())}")
    index = _chosen(rows, row, table)
    path = table.parents[1] / PROVENANCE_FILE
    record = read_json(path)
    lines = record["tables"].get(table.stem, [])
    if index >= len(lines) or any(rows[index].get(name) != value for name, value in lines[index]["line"].items()):
        raise InputError(f"{path}: does not speak of this line of {table}; run the workflow again")
    line = lines[index]
    return {
        "table": str(table),
        "line": line["line"],
        "column": column,
        "value": rows[index][column],
        "note": line["note"],
        "kind": line["line"]["kind"],
        "config": record["config"],
        "tables_made_with": record["tables_made_with"],
        "results": {folder: record["results"][folder] for folder in line["results"]},
    }
